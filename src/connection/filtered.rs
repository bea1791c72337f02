//! A connection with filters: written data waits in its queue until the filters take it, and their output waits beneath
//! that queue until the kernel takes it.

use super::writing::{Taken, taken};
use super::{Connection, Flag, Note, Sent, State};
use crate::CloseReason;
use crate::connection::output::Pool;
use crate::filter::chain::Chain;
use crate::filter::{Filter, STEP_BYTES_MAX};
use crate::sys::Blocked;

impl Connection {
    /// Returns whether there are filters between its socket and its protocol.
    #[inline]
    pub(crate) fn is_filtered(&self) -> bool {
        self.flags.has(Flag::Careful) && self.chain().is_some()
    }

    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.extras.as_ref()?.chain.as_deref()
    }

    pub(crate) fn chain_mut(&mut self) -> Option<&mut Chain> {
        self.extras.as_mut()?.chain.as_deref_mut()
    }

    /// Returns whether its protocol gets no input because one of its filters is not ready.
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        self.flags.has(Flag::Careful) && self.chain().is_some_and(|chain| !chain.is_open())
    }

    /// Returns whether its filters want input though its protocol gets none, because they are not ready.
    pub(crate) fn is_shaking(&self) -> bool {
        self.is_filtered() && self.chain().is_some_and(Chain::is_shaking)
    }

    /// Returns whether a filter was added that has not begun.
    pub(crate) fn waits_to_shake(&self) -> bool {
        self.is_filtered() && self.chain().is_some_and(Chain::waits)
    }

    /// Returns whether added filters may begin. During a close, too, a filter that is ready at once takes what was
    /// written after it was added.
    pub(crate) fn may_shake(&self) -> bool {
        self.waits_to_shake() && (self.state().is_timed() || self.state().is_flushing())
    }

    /// Returns whether no protocol was told yet that it is made, because it is not established or the filters with
    /// which it began are not ready.
    pub(crate) fn is_to_be_made(&self) -> bool {
        self.is_connecting() || self.notes.has(Note::BeginsFiltered)
    }

    /// Returns whether it is to be read from: for its protocol, or for filters that are not ready.
    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        self.wants_input() || self.state().delivers_input() && self.is_shaking()
    }

    /// Returns whether a filter can be added: it is established, and our half is open.
    pub(crate) fn takes_filter(&self) -> bool {
        self.can_write() && !self.is_connecting()
    }

    /// Adds a filter above the existing ones. Earlier output is sent below it, unless all of it was written by the
    /// protocol before the connection was established.
    pub(crate) fn put_filter_in(&mut self, filter: Box<dyn Filter>, pool: &mut Pool) {
        let mut written = Vec::new();
        match &mut self.output {
            Some(queue) if !self.life.state().is_connecting() => {
                written = queue.to_vec();
                queue.forget();
            }
            _ => {}
        }
        self.flags.set(Flag::Careful, true);
        self.extras_mut().chain.get_or_insert_default().push(filter, &written);
        self.count_beneath(pool);
    }

    /// Takes its filters out, with the data between them.
    pub(super) fn take_chain_out(&mut self) -> Option<Box<Chain>> {
        let mut chain = self.extras.as_mut()?.chain.take()?;
        // Like a socket, it reports the end again to its next reader.
        chain.said.end = chain.has_ended();
        Some(chain)
    }

    /// Adds filters that came with the connection and are ready. What they have said is reported once the connection is
    /// made.
    pub(super) fn put_chain_back(&mut self, chain: Box<Chain>, pool: &mut Pool) {
        let has_ended_ours = chain.is_finishing();
        self.flags.set(Flag::Careful, true);
        self.flags.set(Flag::OfferAgain, true);
        self.extras_mut().chain = Some(chain);
        self.count_beneath(pool);
        if has_ended_ours {
            self.shutdown_write();
        }
    }

    /// Input that came with the connection is from the network, so it goes to the filters.
    pub(crate) fn give_input_to_filters(&mut self) {
        let input = self.input.take();
        if let (Some(input), Some(chain)) = (input, self.chain_mut()) {
            chain.keep(input.rest());
            self.flags.set(Flag::OfferAgain, true);
        }
    }

    /// Returns whether its filters have passed on input that its protocol, which has paused reading, has not been
    /// given.
    pub(crate) fn keeps_in_a_pause(&self) -> bool {
        self.is_paused() && self.has_input()
    }

    /// Returns whether there is input that its filters have not taken.
    pub(crate) fn has_unfiltered_input(&self) -> bool {
        self.is_filtered() && self.chain().is_some_and(Chain::has_input)
    }

    /// Data has passed its filters: their unsent output counts as queued.
    pub(crate) fn count_beneath(&mut self, pool: &mut Pool) {
        let beneath = self.chain().map_or(0, Chain::outward_bytes);
        if beneath > 0 || self.output.is_some() {
            let queue = self.output.get_or_insert_with(|| pool.take());
            queue.beneath = beneath;
            if queue.is_empty() {
                self.drop_output(pool);
            }
        }
    }

    /// Returns whether its only filter takes what is written now, and nothing else is to be done once that is sent: the
    /// filter is ready, nothing waits for it, the kernel takes its output, of which there is little so far, and no mark
    /// was crossed.
    #[inline]
    pub(crate) fn filters_at_once(&self) -> bool {
        let is_open = self.state() == State::Open && self.flags.has(Flag::Writable);
        let has_duties = self.flags.has(Flag::OverHigh) || self.flags.has(Flag::Produces);
        let takes = |chain: &Chain| chain.is_common() && chain.outward_bytes() < STEP_BYTES_MAX;
        is_open && !has_duties && self.unfiltered().is_empty() && self.chain().is_some_and(takes)
    }

    /// Returns whether the filters' unsent output is to be counted, or no longer.
    #[inline]
    pub(crate) fn counts_beneath(&self) -> bool {
        self.has_output() || self.chain().is_some_and(|chain| chain.outward_bytes() > 0)
    }

    /// Returns whether its protocol, which was not replaced, has filters below it and has not begun an end.
    pub(crate) fn is_out_and_filtered(&self) -> bool {
        self.protocol.is_none() && self.is_filtered() && self.state() == State::Open
    }

    /// Returns whether even large writes of its callback may wait until that returns.
    pub(crate) fn gathers_large(&self) -> bool {
        self.can_write() && !self.has_output() && !self.settings.limits.are_tight()
    }

    /// Puts the input that its lowest filter has not taken back at the front of the read buffer, unless it fills more
    /// than half of that, so that a read appends to it. Returns how much that is.
    #[inline]
    pub(crate) fn put_unfiltered_back(&mut self, buffer: &mut [u8]) -> usize {
        if !self.flags.has(Flag::Careful) {
            return 0;
        }
        self.chain_mut().map_or(0, |chain| chain.put_back(buffer))
    }

    /// Keeps it again, if nothing has arrived.
    #[inline]
    pub(crate) fn keep_unfiltered(&mut self, data: &[u8]) {
        if let (false, Some(chain)) = (data.is_empty(), self.chain_mut()) {
            chain.keep(data);
        }
    }

    /// Returns the first chunk of written data that no filter has taken.
    pub(crate) fn unfiltered(&self) -> &[u8] {
        self.output.as_ref().map_or(&[], |queue| queue.first())
    }

    /// Removes what a filter has taken.
    pub(crate) fn advance_unfiltered(&mut self, bytes: usize) {
        if let Some(queue) = &mut self.output {
            queue.advance(bytes);
        }
    }

    /// Drops what no filter has taken: it will never be sent.
    pub(crate) fn drop_unfiltered(&mut self, pool: &mut Pool) {
        if let Some(queue) = &mut self.output {
            queue.forget();
        }
        self.count_beneath(pool);
    }

    /// Returns whether all written data was taken, and our half is to end after it.
    pub(crate) fn finishes_filters(&self) -> bool {
        let ends = self.state().is_flushing() || self.state() == State::FinQueued;
        ends && self.unfiltered().is_empty() && self.chain().is_some_and(Chain::is_ready)
    }

    /// Returns whether our half is to end, and its filters have not announced that yet because they are not ready.
    pub(crate) fn owes_an_end(&self) -> bool {
        self.state() == State::FinQueued && self.is_shut() && !self.chain().is_some_and(Chain::has_failed)
    }

    /// Returns whether the uppermost filter has reported the peer's end of stream, while the peer may still send data
    /// for the filters below.
    pub(crate) fn awaits_end_of_network(&self) -> bool {
        self.is_filtered() && self.chain().is_some_and(Chain::awaits_end)
    }

    /// Returns whether its filters have announced our end, and their peers may still respond. A peer that was too slow
    /// is not waited for.
    pub(crate) fn awaits_answer(&self) -> bool {
        let has_said = self.awaits_end_of_network() && self.chain().is_some_and(Chain::is_ready);
        has_said && self.ending().is_some_and(|ending| !matches!(ending.reason, CloseReason::Timeout(_)))
    }

    /// Sends the filters' output.
    pub(crate) fn send_beneath(&mut self) -> Sent {
        let chain = self.extras.as_mut().and_then(|extras| extras.chain.as_deref_mut());
        let (Some(socket), Some(chain)) = (&mut self.socket, chain) else { return Sent::All };
        let net = chain.net();
        while !net.is_empty() {
            if !self.flags.has(Flag::Writable) {
                return Sent::Blocked(Blocked::UntilEvent);
            }
            match taken(socket.write(net.rest())) {
                Taken::Bytes(count) => {
                    net.consume(count);
                    self.bytes_sent += count as u64;
                }
                Taken::Nothing(Blocked::UntilEvent) => self.flags.set(Flag::Writable, false),
                Taken::Nothing(Blocked::UntilLater) => return Sent::Blocked(Blocked::UntilLater),
                Taken::Failed(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    /// Returns whether filters have added to the `beneath` bytes below the queue though these exceeded the cap, beyond
    /// what one step may put there: filters that keep talking to a peer that takes nothing. Judged by what was there
    /// before (W4).
    pub(crate) fn is_over_cap_beneath(&self, beneath: usize) -> bool {
        let most = self.settings.limits.queue_bytes_max.saturating_add(2 * STEP_BYTES_MAX);
        beneath > most && self.chain().is_some_and(|chain| chain.outward_bytes() > beneath)
    }

    /// If no filter is left, makes it a connection that never had any. Returns whether it did.
    pub(crate) fn dissolve_filters(&mut self) -> bool {
        let is_dissolved = self.chain().is_some_and(Chain::is_dissolved);
        if is_dissolved {
            if let Some(extras) = &mut self.extras {
                extras.chain = None;
            }
            let is_tight = self.settings.limits.are_tight();
            self.flags.set(Flag::Careful, is_tight);
        }
        is_dissolved
    }
}
