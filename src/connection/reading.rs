//! The reading half of a connection: what it reads, keeps and offers.

use std::io;
use std::time::Duration;

use super::{Ask, Connection, Event, Flag, Read, State, Urgent};
use crate::connection::input::Input;
use crate::rate::ReadRate;
use crate::reason::Timeout;
use crate::sys::{PutOff, Stream, is_out_of_buffers};
use crate::time::heap::Key;
use crate::time::idle::{Idle, ReadIdle};
use crate::{CloseReason, Protocol};

/// How often a read is tried on a connection that ends once one would block, before a would-block at the urgent mark is
/// believed. The signal that caused the previous call to report one has been handled by the time that call returns.
const LAST_TRIES: u32 = 8;

/// The same if no event has hinted at urgent data: one that does may still be on its way.
const LAST_TRIES_UNHINTED: u32 = 2;

impl Connection {
    /// Returns whether it needs some preparation before it can be read from, which is rare.
    #[inline]
    pub(crate) fn needs_preparation(&self) -> bool {
        !self.flags.has(Flag::Made) && !self.is_shaking() || self.offers() || self.state() == State::Lingering
    }

    /// Returns whether kept input is to be offered even if no new input arrives.
    #[inline]
    pub(crate) fn offers(&self) -> bool {
        self.flags.has(Flag::OfferAgain) && (self.input.is_some() || self.has_unfiltered_input()) && self.is_hungry()
    }

    /// Returns whether the protocol is to be given input now.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        let is_wanted = self.flags.has(Flag::Made) && !self.is_paused() && !self.is_held_back() && !self.is_shut();
        is_wanted && self.state().delivers_input()
    }

    /// Returns whether reading waits until the output queue has shrunk.
    #[inline]
    pub(super) fn is_held_back(&self) -> bool {
        self.flags.has(Flag::OverHigh) && self.settings.limits.pause_reading_over_high
    }

    /// Returns whether a read may find something.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.flags.has(Flag::Readable)
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let Some(socket) = &mut self.socket else { return Read::Blocked };
        match socket.read(buffer) {
            Ok(0) => Read::End,
            Ok(count) => self.has_read(count, buffer.len()),
            result => self.read_after(result, buffer),
        }
    }

    fn has_read(&mut self, count: usize, most: usize) -> Read {
        if self.flags.has(Flag::Hinted) {
            self.notes.set_urgent(self.notes.urgent().confirmed());
        } else if self.is_emptied_by(count, most) {
            self.flags.set(Flag::Readable, false);
        }
        Read::Data(count)
    }

    /// Returns what a read means, given the result of its first call. An interrupted call is repeated.
    #[cold]
    pub(super) fn read_after(&mut self, mut result: io::Result<usize>, buffer: &mut [u8]) -> Read {
        let mut tries = 0;
        loop {
            match result {
                Ok(0) => return Read::End,
                Ok(count) => return self.has_read(count, buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let is_doubted = self.doubts_would_block();
                    tries += 1;
                    let tries_most = match (self.ends_by_would_block(), is_doubted) {
                        (true, true) => LAST_TRIES,
                        (true, false) => LAST_TRIES_UNHINTED,
                        (false, _) => 1,
                    };
                    if tries >= tries_most {
                        self.flags.set(Flag::Readable, false);
                        self.flags.set(Flag::Hinted, false);
                        return if is_doubted { Read::Unconfirmed } else { Read::Blocked };
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_out_of_buffers(&error) => return Read::Later,
                Err(error) => return Read::Failed(error),
            }
            let Some(socket) = &mut self.socket else { return Read::Blocked };
            result = socket.read(buffer);
        }
    }

    /// Returns whether a read may have missed an urgent byte. If a send has failed, the event that hints at one may
    /// still be on its way.
    fn doubts_would_block(&self) -> bool {
        self.flags.has(Flag::Hinted) && (self.notes.urgent() != Urgent::Never || self.state() == State::Failing)
    }

    /// Returns whether it ends once nothing is left to be read, so that it does not wait for an event.
    fn ends_by_would_block(&self) -> bool {
        matches!(self.state(), State::Failing | State::Flushing)
    }

    /// After a short read that only another read could confirm, defers that. Returns the previous state, or `None` if
    /// the read cannot be deferred.
    pub(crate) fn put_off_reading(&mut self) -> Option<PutOff> {
        let before = self.socket.as_mut()?.put_off_reading()?;
        self.flags.set(Flag::Readable, false);
        Some(before)
    }

    /// The delay of a deferred read is over. Returns the previous state: if that is `Waits`, the read is due.
    pub(crate) fn pass_put_off(&mut self) -> PutOff {
        let before = self.socket.as_mut().map_or(PutOff::No, Stream::pass_put_off);
        if before == PutOff::Waits {
            self.flags.set(Flag::Readable, true);
            self.flags.set(Flag::Hinted, true);
        }
        before
    }

    /// It has its turn, and no event since the last read has reported more.
    #[inline]
    pub(crate) fn has_nothing_to_read(&mut self) {
        self.notes.set_urgent(self.notes.urgent().confirmed());
    }

    /// A read would block, and that is to be confirmed. Returns when to ask the poller.
    pub(crate) fn doubt_would_block(&mut self) -> Ask {
        let (urgent, ask) = self.notes.urgent().doubted();
        self.notes.set_urgent(urgent);
        ask
    }

    /// The delay after which the poller was to be asked is over.
    pub(crate) fn set_asked(&mut self) {
        self.notes.set_urgent(Urgent::Asked);
    }

    /// Data has arrived. While output is queued, the peer is judged by what it takes, not by what it sends (T5).
    #[inline]
    pub(crate) fn has_received(&mut self, count: usize, now_ns: u64) {
        self.bytes_received += count as u64;
        self.touch_idle(now_ns);
    }

    #[inline]
    pub(crate) fn touch_idle(&mut self, now_ns: u64) {
        match (&mut self.idle, &self.output) {
            (Some(idle), None) => idle.touch_by_input(now_ns),
            (Some(_), Some(_)) => self.touch_read_idle(now_ns),
            (None, _) => {}
        }
    }

    #[cold]
    pub(crate) fn touch_read_idle(&mut self, now_ns: u64) {
        if let (Some(idle), Some(read)) = self.idle_pair() {
            idle.touch_read(read, now_ns);
        }
    }

    /// Returns its idle timeouts, as far as it has them.
    pub(super) fn idle_pair(&mut self) -> (Option<&mut Idle>, Option<&mut ReadIdle>) {
        let read = self.extras.as_mut().and_then(|extras| extras.read_idle.as_mut());
        (self.idle.as_deref_mut(), read)
    }

    /// Returns whether we keep the peer from sending, so that its silence is not its own choice.
    pub(crate) fn keeps_from_sending(&self) -> bool {
        let waits = self.extras.as_ref().and_then(|extras| extras.rate.as_ref()).is_some_and(ReadRate::waits);
        self.is_paused() || self.is_held_back() || waits
    }

    /// Sets or removes one of its idle timeouts. Returns the timer that they share, which is to be set anew.
    pub(crate) fn set_idle_timeout(&mut self, timeout: Timeout, after: Option<Duration>, now_ns: u64) -> Option<Key> {
        let mut idle = match self.idle.take() {
            None if after.is_none() => return None,
            None => Box::new(Idle::new(now_ns, self.keeps_from_sending())),
            Some(idle) => idle,
        };
        match (timeout, after) {
            (Timeout::Idle, _) => idle.set_after(after, self.idle_pair().1, now_ns),
            (_, Some(after)) => idle.touch_read(self.extras_mut().read_idle.insert(ReadIdle::new(after)), now_ns),
            (_, None) => drop(self.extras.as_mut().and_then(|extras| extras.read_idle.take())),
        }
        let replaced = idle.timer.take();
        let has_one = idle.is_set() || self.idle_pair().1.is_some();
        self.idle = has_one.then_some(idle);
        replaced
    }

    /// Pauses its idle timeouts while the peer is kept from sending, and resumes them afterwards (T5).
    pub(crate) fn note_whether_it_keeps_from_sending(&mut self, now_ns: u64) {
        let keeps = self.keeps_from_sending();
        match &mut self.idle {
            Some(idle) if keeps => idle.pause(now_ns),
            _ => self.resume_idle(now_ns),
        }
    }

    pub(crate) fn resume_idle(&mut self, now_ns: u64) {
        if let (Some(idle), read) = self.idle_pair() {
            idle.resume(read, now_ns);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.flags.has(Flag::Paused)
    }

    /// Returns whether a read of `count` bytes into a buffer of `most` has emptied the socket, if no event hinted at
    /// anything special.
    #[inline]
    pub(crate) fn is_emptied_by(&self, count: usize, most: usize) -> bool {
        count < most && Stream::short_read_empties_open(&self.socket)
    }

    pub(crate) fn set_paused(&mut self, paused: bool) -> bool {
        self.flags.replace(Flag::Paused, paused) != paused
    }

    /// Reading resumes: no event comes for data that is there already (R2), so a read is tried, and kept input is
    /// offered.
    pub(crate) fn retry_reading(&mut self) {
        self.look_for_input();
        self.flags.set(Flag::OfferAgain, true);
    }

    /// From now on its input goes to another connection, so its own output queue no longer holds reading back. Returns
    /// whether it did, so that the caller reads what was left unread.
    pub(crate) fn begin_relaying(&mut self) -> bool {
        let was_held_back = self.is_held_back();
        if self.settings.limits.pause_reading_over_high {
            self.limits_mut().pause_reading_over_high = false;
        }
        was_held_back
    }

    /// Returns whether it currently takes no relayed data from another connection: it is not established, its filters
    /// are not ready, or its low mark has not been reported yet.
    pub(crate) fn holds_relay_up(&self) -> bool {
        self.is_to_be_made() || self.flags.has(Flag::OverHigh)
    }

    /// Tries a read, although no event has reported any data.
    pub(crate) fn look_for_input(&mut self) {
        self.flags.set(Flag::Readable, true);
        // Whatever an event hinted at in the meantime has to be found again.
        self.flags.set(Flag::Hinted, true);
    }

    pub(crate) fn set_input_low_bytes(&mut self, bytes: usize) {
        self.input_low_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.flags.set(Flag::LowMark, bytes > 1);
    }

    /// No data is delivered before there is this much. Never above the limit, or nothing would ever be delivered.
    #[inline]
    pub(crate) fn input_low_bytes(&self) -> usize {
        (self.input_low_bytes as usize).min(self.settings.limits.input_bytes_max)
    }

    #[inline]
    pub(crate) fn take_input(&mut self) -> Option<Box<Input>> {
        self.input.take()
    }

    pub(crate) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Returns whether there is input that only the low mark keeps from the protocol.
    pub(crate) fn withholds_input(&self) -> bool {
        let withheld = |input: &Input| input.rest().len() < self.input_low_bytes();
        self.wants_input() && self.input.as_deref().is_some_and(withheld)
    }

    /// Keeps what the protocol left, or drops it if nothing will be delivered any more.
    pub(crate) fn keep_input(&mut self, mut input: Box<Input>) {
        if self.state().keeps_input() && !input.rest().is_empty() {
            input.trim();
            self.input = Some(input);
        }
    }

    /// The peer's end of stream was read.
    pub(crate) fn peer_ended(&mut self) {
        self.flags.set(Flag::Readable, false);
        if self.life.step(Event::PeerEnded) && self.state() == State::FlushingAfterEnd {
            // Our half is closed or about to be, so both are.
            self.begin_end(CloseReason::PeerClosed);
        }
    }

    /// For a connection that may end quickly: the peer's end of stream was read. Returns the protocol, taken out to be
    /// told.
    #[inline]
    pub(crate) fn ended_quickly(&mut self) -> Option<Box<dyn Protocol>> {
        self.flags.set(Flag::Readable, false);
        self.life.step_from(State::Open, Event::PeerEnded);
        self.protocol.take()
    }

    /// If an event hinted at it, checks whether the peer has reset the connection or closed the other half too, after
    /// its end of stream. Nothing else would tell: a read finds the end of stream again.
    pub(crate) fn find_end(&mut self) -> Option<CloseReason> {
        if self.state() != State::ReadClosed || !self.flags.replace(Flag::Errored, false) {
            return None;
        }
        let socket = self.socket.as_ref()?;
        if socket.hang_up_is_both_halves() {
            return Some(CloseReason::PeerClosed);
        }
        socket.take_error().unwrap_or_else(Some).map(CloseReason::from_error)
    }

    /// Returns whether it asks for writable events even if no send waits: only these tell that the peer, which has
    /// closed its half, has closed the other one too (H3).
    pub(crate) fn awaits_hang_up(&self) -> bool {
        self.state() == State::ReadClosed && self.socket.as_ref().is_some_and(Stream::hangs_up_by_writing)
    }

    pub(crate) fn has_error_hint(&self) -> bool {
        self.flags.has(Flag::Errored)
    }
}
