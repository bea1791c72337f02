//! The reading half of a connection: what it reads, keeps and offers.

use std::io;

use super::{Connection, Read, State};
use crate::CloseReason;
use crate::input::Input;

impl Connection {
    /// Whether something is to be done before it can be read from, which is rare.
    #[inline]
    pub(crate) fn needs_care(&self) -> bool {
        !self.made || self.offers() || self.state == State::Lingering
    }

    /// Whether kept input is to be offered though nothing new came.
    #[inline]
    pub(crate) fn offers(&self) -> bool {
        self.offer_again && self.input.is_some() && self.wants_input()
    }

    /// Whether the protocol is to be given input now.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        let open = matches!(self.state, State::Open | State::FinQueued | State::WriteClosed | State::Failing);
        open && self.made && !self.paused && !self.is_held_back()
    }

    /// Whether reading waits until the output has gone down.
    #[inline]
    pub(super) fn is_held_back(&self) -> bool {
        self.over_high && self.limits.pause_reading_over_high
    }

    /// Whether a read may find something.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let Some(socket) = &mut self.socket else { return Read::Blocked };
        loop {
            match socket.read(buffer) {
                Ok(0) => return Read::End,
                Ok(count) => {
                    if count < buffer.len() && !self.hinted && socket.short_read_empties() {
                        self.readable = false;
                    }
                    return Read::Data(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    self.hinted = false;
                    return Read::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Read::Failed(error),
            }
        }
    }

    /// Bytes have come. With output queued the peer is judged by what it takes, not by what it sends (T5).
    #[inline]
    pub(crate) fn has_received(&mut self, count: usize, now_ns: u64) {
        self.bytes_received += count as u64;
        if let (Some(idle), None) = (&mut self.idle, &self.output) {
            idle.touch(now_ns);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn set_paused(&mut self, paused: bool) -> bool {
        let changed = self.paused != paused;
        self.paused = paused;
        changed
    }

    /// Reading begins anew: no event will come for what is there already (R2), so it is tried.
    pub(crate) fn retry_reading(&mut self) {
        self.readable = true;
        // Whatever hint came meanwhile is to be found again.
        self.hinted = true;
        self.offer_again = true;
    }

    pub(crate) fn set_input_low_bytes(&mut self, bytes: usize) {
        self.input_low_bytes = bytes;
    }

    /// No data is delivered before there is this much. Never above the limit, or nothing would ever be delivered.
    #[inline]
    pub(crate) fn input_low_bytes(&self) -> usize {
        self.input_low_bytes.min(self.limits.input_bytes_max)
    }

    #[inline]
    pub(crate) fn take_input(&mut self) -> Option<Box<Input>> {
        self.input.take()
    }

    pub(crate) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Whether there is input that only the low mark keeps from the protocol.
    pub(crate) fn withholds_input(&self) -> bool {
        let withheld = |input: &Input| input.rest().len() < self.input_low_bytes();
        self.wants_input() && self.input.as_deref().is_some_and(withheld)
    }

    /// Keeps what the protocol left. Dropped where nothing will be delivered any more.
    pub(crate) fn keep_input(&mut self, mut input: Box<Input>) {
        let keeps = match self.state {
            State::Open | State::FinQueued | State::WriteClosed | State::Failing | State::Detaching => true,
            State::ReadClosed | State::Flushing | State::FlushingAfterEnd => false,
            State::Lingering | State::Lost | State::Gone => false,
        };
        if keeps && !input.rest().is_empty() {
            input.trim();
            self.input = Some(input);
        }
    }

    /// The peer's end of stream was read.
    pub(crate) fn peer_ended(&mut self) {
        self.readable = false;
        match self.state {
            State::Open => self.state = State::ReadClosed,
            // Our half is over or about to be: both are.
            State::FinQueued | State::WriteClosed => self.begin_end(true, CloseReason::PeerClosed),
            _ => {}
        }
    }

    /// Looks whether the peer has, behind its end of stream, reset or closed the other half too, if an event hinted at
    /// that. Nothing else would tell: a read finds the end again.
    pub(crate) fn find_end(&mut self) -> Option<CloseReason> {
        if self.state != State::ReadClosed || !std::mem::take(&mut self.errored) {
            return None;
        }
        let socket = self.socket.as_ref()?;
        if socket.hang_up_is_both_halves() {
            return Some(CloseReason::PeerClosed);
        }
        socket.take_error().unwrap_or_else(Some).map(CloseReason::from_error)
    }

    pub(crate) fn has_error_hint(&self) -> bool {
        self.errored
    }
}
