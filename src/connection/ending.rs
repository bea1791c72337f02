//! The end of a connection: how it begins, and how the socket is closed.

use std::io;
use std::time::Duration;

use super::writing::MUCH_SENT_BYTES;
use super::{Connection, Event, Flag, Handover, Note, State};
use crate::CloseReason;
use crate::connection::detached::{Detached, Receiver};
use crate::connection::input::Input;
use crate::connection::output::{Piece, Pool};
use crate::filter::chain::Chain;
use crate::sys::Stream;
use crate::time::ns_of;

impl Connection {
    /// `close`: the connection ends once the queue is sent. Returns whether this call began the end; it does not if
    /// there is nowhere to flush to.
    pub(crate) fn close(&mut self, reason: CloseReason) -> bool {
        let begins = self.life.step(Event::Close);
        if begins {
            self.begin_end(reason);
        }
        begins
    }

    /// `close`, if the peer has already ended its stream: the connection ends once the queue is sent. Returns whether
    /// the peer had.
    #[inline]
    pub(crate) fn close_after_end(&mut self) -> bool {
        let had = self.state() == State::ReadClosed;
        if had {
            self.life.step_from(State::ReadClosed, Event::Close);
            self.input = None;
        }
        had
    }

    /// Returns whether it was closed after the peer had ended its stream, nothing is left to send, and its protocol,
    /// which is checked out, was not replaced.
    #[inline]
    pub(crate) fn is_out_and_over(&self) -> bool {
        let is_over = self.state() == State::FlushingAfterEnd && self.output.is_none() && self.extras.is_none();
        is_over && self.protocol.is_none()
    }

    /// An end has begun for this reason: no more input is wanted.
    pub(super) fn begin_end(&mut self, reason: CloseReason) {
        self.input = None;
        match reason {
            // Most connections end this way, and a record costs an allocation.
            CloseReason::PeerClosed if self.state() == State::FlushingAfterEnd => {}
            reason => _ = self.set_ending(reason),
        }
    }

    /// Returns the reason with which its end began, if it has; for the code that completes the end.
    pub(crate) fn take_begun(&mut self) -> Option<CloseReason> {
        match self.ending_mut() {
            Some(begun) => {
                let reason = std::mem::replace(&mut begun.reason, CloseReason::Closed);
                self.notes.set(Note::TimedOutInOrder, matches!(reason, CloseReason::Timeout(_)));
                Some(reason)
            }
            None => (self.state() == State::FlushingAfterEnd).then_some(CloseReason::PeerClosed),
        }
    }

    /// Returns when its peer will have taken nothing of the unsent data for too long, or too long in total, in the
    /// loop's own time. `None` if nothing is left, or no end has begun.
    pub(crate) fn close_deadline_ns(&self) -> Option<u64> {
        if !self.is_flushing() {
            return None;
        }
        let blocked_ns = self.ending()?.blocked_ns?;
        let limits = &self.settings.limits;
        let taken_ns = self.taken_ns()?.max(blocked_ns);
        let in_all = ns_of(limits.flush_timeout.unwrap_or(Duration::MAX));
        Some(taken_ns.saturating_add(self.patience_ns(limits.close_timeout)).min(blocked_ns.saturating_add(in_all)))
    }

    fn is_flushing(&self) -> bool {
        self.state().is_flushing()
    }

    /// `shutdown_write`: sends the queue, then FIN.
    pub(crate) fn shutdown_write(&mut self) {
        if self.life.step(Event::ShutdownWrite) && self.state() == State::FlushingAfterEnd {
            self.begin_end(CloseReason::PeerClosed);
        }
    }

    /// Sends FIN, once the queue is sent.
    pub(crate) fn send_fin(&mut self) -> io::Result<()> {
        self.life.step(Event::AllSent);
        self.socket.as_ref().map_or(Ok(()), Stream::shutdown_write)
    }

    /// A send has failed. Returns `Ok` if there may be earlier input to deliver before the connection is lost (R4).
    pub(crate) fn begin_failing(&mut self, reason: CloseReason, pool: &mut Pool) -> Result<(), CloseReason> {
        self.drop_output(pool);
        // Input that the mark held back is offered now.
        if self.is_held_back() {
            self.flags.set(Flag::OfferAgain, true);
        }
        self.flags.set(Flag::OverHigh, false);
        let delivers = !self.is_paused() && self.was_made();
        match self.life.after(Event::SendFailed) {
            // The first error is the reason, not the ones that follow from it.
            State::Failing if self.state() == State::Failing => Ok(()),
            State::Failing if delivers => {
                self.life.step(Event::SendFailed);
                self.set_ending(reason);
                self.flags.set(Flag::Readable, true);
                self.flags.set(Flag::Hinted, true);
                Ok(())
            }
            _ => Err(reason),
        }
    }

    /// Begins to discard input; `count` bytes have arrived already. Returns whether that is within the bound.
    pub(crate) fn begin_lingering(&mut self, count: usize) -> bool {
        let begins = self.may_discard(count);
        if begins {
            self.life.step(Event::InputLeft);
        }
        begins
    }

    /// Returns whether `count` more bytes of input are within the limit on what is discarded while lingering.
    pub(crate) fn may_discard(&mut self, count: usize) -> bool {
        let most = self.settings.limits.linger_bytes_max;
        let Some(ending) = self.ending_mut() else { return false };
        ending.discarded_bytes += count;
        ending.discarded_bytes <= most
    }

    /// `detach`: once its callback has returned, the loop releases it. Fails if an end has begun already, or before its
    /// filters are ready.
    pub(crate) fn detach(&mut self, receiver: Receiver) -> Result<(), Receiver> {
        if self.is_filtered() && !self.chain().is_some_and(Chain::is_open) || !self.life.step(Event::Detach) {
            return Err(receiver);
        }
        let handover = Some(Box::new(Handover { receiver, detached: None }));
        self.set_ending(CloseReason::Detached).handover = handover;
        Ok(())
    }

    /// Takes everything out of a connection that is being detached; its socket stays open.
    pub(crate) fn take_out(&mut self, pool: &mut Pool) {
        let Some(stream) = self.socket.take() else { return };
        let (mut unread, mut unsent) = (Vec::new(), Vec::new());
        if let Some(input) = self.input.take() {
            unread.extend_from_slice(input.rest());
        }
        if let Some(queue) = &self.output {
            unsent = queue.to_vec();
        }
        let chain = self.take_chain_out();
        self.drop_output(pool);
        let peer = self.peer().cloned();
        if let Some(handover) = self.ending_mut().and_then(|ending| ending.handover.as_mut()) {
            handover.detached = Some(Detached::new(stream, peer, unread, unsent).with_chain(chain));
        }
    }

    /// Continues a detached connection: unread input is offered once it is made, and unsent data is sent.
    pub(crate) fn restore(&mut self, unread: &[u8], unsent: Vec<u8>, chain: Option<Box<Chain>>, pool: &mut Pool) {
        if !unread.is_empty() {
            let mut input = Box::<Input>::default();
            input.append(unread);
            self.input = Some(input);
            self.flags.set(Flag::OfferAgain, true);
        }
        self.push(Piece::Owned(unsent), 0, pool);
        if let Some(chain) = chain {
            self.put_chain_back(chain, pool);
        }
    }

    /// Returns whether ending it takes more than closing its socket.
    #[inline]
    pub(crate) fn ends_specially(&self) -> bool {
        self.extras.is_some() || self.output.is_some() || self.idle.is_some() || self.is_connecting()
    }

    /// Closes the socket, with a reset if the reason or unsent output demands it (X5).
    #[inline(always)]
    pub(crate) fn lose(&mut self, reason: &CloseReason, pool: &mut Pool) {
        let reset = reason.demands_reset() || self.output.is_some() || self.is_aborted_by(reason);
        if reset || !self.notes.are_none() || self.bytes_sent >= MUCH_SENT_BYTES {
            self.close_specially(reset, reason, pool);
        }
        drop(self.socket.take());
        self.input = None;
        self.life.step(Event::Ended);
    }

    /// The rare ways to close the socket: with a reset, or with a limit on how long the kernel keeps data that the peer
    /// has not taken.
    #[cold]
    #[inline(never)]
    fn close_specially(&mut self, reset: bool, reason: &CloseReason, pool: &mut Pool) {
        let reset = match reset {
            true => self.output.is_some() || !self.notes.has(Note::TimedOutInOrder),
            false => self.is_cut_short_by(reason),
        };
        match (self.socket.take(), self.settings.limits.orphan_timeout) {
            (Some(socket), _) if reset => socket.reset(),
            (Some(socket), Some(timeout)) => socket.limit_orphan(timeout),
            _ => {}
        }
        if self.output.is_some() {
            self.drop_output(pool);
        }
    }

    /// Returns whether half an answer was written, and the other half never will be.
    fn is_cut_short_by(&self, reason: &CloseReason) -> bool {
        self.notes.has(Note::Answering) && matches!(reason, CloseReason::Shutdown)
    }

    /// The same for an end that has begun.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.ending().is_some_and(|ending| self.is_cut_short_by(&ending.reason))
    }

    /// Returns whether it ends because of a protocol error, and no orderly end had begun.
    #[inline]
    fn is_aborted_by(&self, reason: &CloseReason) -> bool {
        matches!(reason, CloseReason::Protocol(_)) && !self.is_closing()
    }

    /// Returns whether an orderly end has begun, which sends the queue first.
    pub(crate) fn is_closing(&self) -> bool {
        self.state().is_closing()
    }

    /// Returns whether its end has begun, orderly or by a failed send.
    pub(crate) fn has_begun_to_end(&self) -> bool {
        self.is_closing() || self.state() == State::Failing
    }

    /// Returns whether a protocol of this connection, perhaps an earlier one, was told that it is made.
    fn was_made(&self) -> bool {
        self.flags.has(Flag::Made) || self.flags.has(Flag::Anew)
    }

    /// Has a new protocol told that the connection is made, if another one was; the old one leaves nothing behind,
    /// neither a pause nor limits of its own. Returns `false` if an end has begun.
    pub(crate) fn begin_anew(&mut self) -> bool {
        if self.is_closing() {
            return false;
        }
        if self.flags.replace(Flag::Made, false) {
            self.flags.set(Flag::Anew, true);
        }
        // The new protocol is told of the marks anew as well, and reading that they held back continues in the
        // meantime.
        self.flags.set(Flag::OverHigh, false);
        if self.set_paused(false) {
            self.retry_reading();
        }
        self.notes.set(Note::Answering, false);
        if let Some(initial) = self.settings.initial.clone() {
            self.settings = initial;
        }
        true
    }

    pub(crate) fn set_gone(&mut self) {
        self.life.step_from(State::Lost, Event::Told);
    }
}
