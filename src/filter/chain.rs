//! The filters of a connection, one above the other, and the bytes between them.
//!
//! Pure data: no socket, no clock except the time that is passed in, and no loop. The loop guards each call, since
//! filters are user code.

use std::error::Error;
use std::time::Instant;

use super::{Bytes, Filter, Flow, STEP_BYTES_MAX, Said, find};
use crate::Address;
use crate::time::heap::Key;

/// How much may wait for a filter that does not take it.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// How much of a buffer is kept for the next connection.
const SCRATCH_BYTES_MAX: usize = 128 * 1024;

#[derive(Default)]
pub(crate) struct Chain {
    /// The lowest first.
    layers: Vec<Layer>,
    /// On its way to the protocol.
    plain: Bytes,
    /// On its way to the network.
    net: Bytes,
    state: State,
    /// Whether one of them has left, and is to be removed.
    leaves: bool,
    /// Whether all were ready when one of them failed, perhaps only since that very call: what was received before that
    /// still goes to the protocol.
    failed_open: bool,
    pub(crate) said: Heard,
    /// Fires when the handshake has taken too long.
    pub(crate) timer: Option<Key>,
}

/// The state of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A filter was added, and none of its methods was called yet.
    #[default]
    Waiting,
    /// Not all are ready.
    Shaking,
    Ready,
    /// Our half ends once everything is sent.
    Finishing,
    /// One of them has failed, and none is called any more.
    Failed,
}

/// The direction of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What filters have said, for the loop to act on.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) peer: Option<Address>,
    pub(crate) failure: Option<Box<dyn Error + Send + Sync>>,
    /// The stream to the protocol has ended, which the protocol was not told yet.
    pub(crate) end: bool,
}

struct Layer {
    filter: Box<dyn Filter>,
    /// Received from below, and not taken yet.
    input: Bytes,
    /// How much of the input was put back into a buffer last, if it has taken nothing since.
    put_back: usize,
    /// What it has passed down and the one below has not taken; that of the lowest one goes to the network.
    output: Bytes,
    begun: bool,
    ready: bool,
    ended: bool,
    finished: bool,
    left: bool,
}

impl Layer {
    fn new(filter: Box<dyn Filter>) -> Layer {
        let (input, output) = (Bytes::default(), Bytes::default());
        Layer {
            filter,
            input,
            put_back: 0,
            output,
            begun: false,
            ready: false,
            ended: false,
            finished: false,
            left: false,
        }
    }
}

impl Chain {
    /// Adds a filter above those that are there. What was written before is sent below it.
    pub(crate) fn push(&mut self, filter: Box<dyn Filter>, written: &[u8]) {
        let mut layer = Layer::new(filter);
        // As if it had passed it down itself.
        let below = if self.layers.is_empty() { &mut self.net } else { &mut layer.output };
        below.push(written);
        // Most connections have one.
        self.layers.reserve_exact(1);
        self.layers.push(layer);
        if self.state != State::Failed {
            self.state = State::Waiting;
        }
    }

    /// Returns whether a filter was added that has not begun.
    pub(crate) fn waits(&self) -> bool {
        self.state == State::Waiting
    }

    /// Returns whether it has begun, and is not ready.
    pub(crate) fn is_shaking(&self) -> bool {
        self.state == State::Shaking
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready | State::Finishing)
    }

    /// Returns whether the protocol may be given what they have passed up.
    pub(crate) fn is_open(&self) -> bool {
        self.is_ready() || self.failed_open
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Fails the chain: from here on no filter is called.
    fn fail(&mut self) {
        self.failed_open |= self.layers.iter().all(|layer| layer.ready);
        self.state = State::Failed;
    }

    /// Returns whether the filters are ready and have said nothing that the loop has to act on.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let Heard { peer: None, failure: None, end: false } = self.said else { return false };
        self.timer.is_none() && self.is_ready()
    }

    /// Returns whether no filter is left, and no bytes between them.
    pub(crate) fn is_dissolved(&self) -> bool {
        self.layers.is_empty() && self.net.is_empty() && self.plain.is_empty()
    }

    /// Returns whether there is input that was not filtered yet, or an end or a failure that is still to be reported.
    pub(crate) fn has_input(&self) -> bool {
        let has_end = self.said.end && self.is_ready() || self.said.failure.is_some();
        has_end || !self.plain.is_empty() || self.layers.iter().any(|layer| !layer.input.is_empty())
    }

    /// Returns the filter of this type; the uppermost, if there are several.
    pub(crate) fn find<T: Filter>(&self) -> Option<&T> {
        self.layers.iter().rev().find_map(|layer| find(&*layer.filter))
    }

    // Beginning.

    /// Begins those filters whose turn it is: each once those below it are ready.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.state == State::Waiting {
            self.state = State::Shaking;
        }
        self.go_on(now);
    }

    fn go_on(&mut self, now: Instant) {
        if self.is_common() {
            return;
        }
        let mut index = 0;
        while self.state == State::Shaking {
            let Some(layer) = self.layers.get_mut(index) else {
                self.state = State::Ready;
                break;
            };
            if !std::mem::replace(&mut layer.begun, true) {
                self.call(index, now, &mut |filter, _, flow| {
                    filter.begin(flow);
                    0
                });
            }
            if !self.layers[index].ready {
                break;
            }
            index += 1;
        }
        self.settle(now);
        self.prune();
    }

    // Input.

    /// Gives the filters received data. Returns how much of it was taken, and whether anything has happened, so that
    /// another call may continue.
    pub(crate) fn receive(&mut self, data: &mut [u8], now: Instant) -> (usize, bool) {
        let (mut took, mut moved) = (0, false);
        match self.layers.first_mut() {
            None => {
                self.plain.push(data);
                took = data.len();
            }
            Some(layer) if layer.ended || self.state == State::Failed => took = data.len(),
            Some(layer) if !layer.input.is_empty() => {
                layer.input.push(data);
                took = data.len();
            }
            Some(_) if data.is_empty() => {}
            Some(_) => {
                let answer = self.call(0, now, &mut |filter, _, flow| filter.receive(data, flow));
                (took, moved) = (answer.0.min(data.len()), answer.1);
                self.note_taken(0, took);
            }
        }
        for index in 0..self.layers.len() {
            moved |= self.lift(index, now);
        }
        self.go_on(now);
        (took, moved || took > 0)
    }

    /// Input that was not taken at once is now.
    fn note_taken(&mut self, index: usize, taken: usize) {
        if let (true, Some(layer)) = (taken > 0, self.layers.get_mut(index)) {
            layer.put_back = 0;
        }
    }

    /// Gives a filter its input, for as long as it takes some and there is room above; the lowest one only once, so
    /// that its output is delivered before it continues. Returns whether it has taken or passed on any.
    fn lift(&mut self, index: usize, now: Instant) -> bool {
        let (mut moved, mut goes_on) = (false, true);
        while goes_on && self.state != State::Failed {
            let layer = &mut self.layers[index];
            if layer.ended {
                layer.input.clear();
            }
            let has_room = self.above(index).len() < STEP_BYTES_MAX;
            let layer = &self.layers[index];
            goes_on = layer.begun && has_room && !layer.input.is_empty();
            if goes_on {
                let (taken, gave) = self.call(index, now, &mut |filter, input, flow| {
                    let taken = filter.receive(input.rest_mut(), flow);
                    input.consume(taken);
                    taken
                });
                self.note_taken(index, taken);
                goes_on = taken > 0 || gave;
                moved |= goes_on;
                goes_on &= index > 0;
            }
        }
        self.layers[index].input.trim();
        let below_has_ended = index > 0 && self.layers[index - 1].ended;
        if below_has_ended && self.layers[index].begun && !self.layers[index].ended && !self.has_failed() {
            self.end_layer(index, now);
            moved = true;
        }
        moved
    }

    /// Notes that the stream from the network has ended.
    pub(crate) fn receive_end(&mut self, now: Instant) {
        for index in 0..self.layers.len() {
            if !self.layers[index].ended && self.state != State::Failed {
                self.end_layer(index, now);
            }
        }
        self.said.end |= self.layers.is_empty();
        self.settle(now);
    }

    fn end_layer(&mut self, index: usize, now: Instant) {
        self.call(index, now, &mut |filter, _, flow| {
            filter.receive_end(flow);
            0
        });
        if self.state != State::Failed && !self.layers[index].ended {
            // It has not objected.
            self.note_end(index);
        }
    }

    fn note_end(&mut self, index: usize) {
        self.layers[index].ended = true;
        self.layers[index].input.clear();
        self.said.end |= index + 1 == self.layers.len();
    }

    /// Returns whether the lowest filter may still make something of what comes from the network.
    pub(crate) fn awaits_end(&self) -> bool {
        self.state != State::Failed && self.layers.first().is_some_and(|lowest| !lowest.ended)
    }

    /// Keeps what no filter has taken. Returns `false` if that is too much.
    pub(crate) fn keep(&mut self, data: &[u8]) -> bool {
        match self.layers.first_mut() {
            Some(layer) => {
                layer.input.push(data);
                layer.input.len() <= KEPT_BYTES_MAX
            }
            None => {
                self.plain.push(data);
                true
            }
        }
    }

    /// Moves what was kept to the front of a buffer, if it fills at most half of that. Returns how much that is.
    pub(crate) fn put_back(&mut self, buffer: &mut [u8]) -> usize {
        let Some(Layer { input, begun: true, ended: false, put_back, .. }) = self.layers.first_mut() else { return 0 };
        let count = input.len();
        if count == 0 || count > buffer.len() / 2 || self.state == State::Failed {
            return 0;
        }
        // A peer that sends a record in many pieces would have all of it moved for each. It is moved again when it has
        // grown by a quarter, so that what is moved is a multiple of what arrives.
        if *put_back > 0 && count < *put_back + *put_back / 4 {
            return 0;
        }
        *put_back = count;
        buffer[..count].copy_from_slice(input.rest());
        input.clear();
        input.trim();
        count
    }

    /// Takes out the bytes for the protocol.
    pub(crate) fn take_plain(&mut self) -> Bytes {
        std::mem::take(&mut self.plain)
    }

    /// Returns the bytes for a thread that has taken the protocol's place.
    pub(crate) fn plain(&mut self) -> &mut Bytes {
        &mut self.plain
    }

    /// Returns whether the stream to the protocol has ended, whether or not it was told.
    pub(crate) fn has_ended(&self) -> bool {
        self.said.end || self.layers.last().is_some_and(|layer| layer.ended)
    }

    /// Fails the chain, with an error that is to be reported: from here on no filter is called.
    pub(crate) fn fail_for(&mut self, failure: Box<dyn Error + Send + Sync>) {
        self.said.failure.get_or_insert(failure);
        self.fail();
    }

    // Output.

    /// Gives the filters written data. Returns how much of it was taken.
    pub(crate) fn send(&mut self, data: &[u8], now: Instant) -> usize {
        let top = self.layers.len().checked_sub(1);
        let taken = match top {
            None => {
                self.net.push(data);
                data.len()
            }
            Some(_) if !self.is_ready() => 0,
            Some(top) => self.call(top, now, &mut |filter, _, flow| filter.send(data, flow)).0.min(data.len()),
        };
        if !self.is_common() {
            self.settle(now);
            self.prune();
        }
        taken
    }

    /// Ends our half, after everything that was written was taken.
    pub(crate) fn finish(&mut self, now: Instant) {
        if self.state == State::Ready {
            self.state = State::Finishing;
        }
        self.settle(now);
    }

    /// Returns whether our half is ending, or has ended.
    pub(crate) fn is_finishing(&self) -> bool {
        self.state == State::Finishing
    }

    /// Returns whether there is one filter and it is ready, so that nothing passes between filters, begins or ends.
    /// Most chains are like this.
    #[inline]
    pub(crate) fn is_common(&self) -> bool {
        self.state == State::Ready && self.layers.len() == 1 && !self.leaves
    }

    /// Passes on what filters have passed down, and the end of our half after it.
    fn settle(&mut self, now: Instant) {
        for index in (0..self.layers.len()).rev() {
            self.sink(index, now);
            let above_is_done =
                self.layers.get(index + 1).is_none_or(|above| above.finished && above.output.is_empty());
            let layer = &self.layers[index];
            if self.state == State::Finishing && above_is_done && !layer.finished {
                self.call(index, now, &mut |filter, _, flow| {
                    filter.finish(flow);
                    0
                });
                self.layers[index].finished = true;
            }
        }
    }

    /// Gives a filter what the one above it has passed down.
    fn sink(&mut self, index: usize, now: Instant) {
        let Some(above) = self.layers.get_mut(index + 1) else { return };
        let mut output = std::mem::take(&mut above.output);
        let mut goes_on = self.layers[index].ready;
        while goes_on && !output.is_empty() && self.state != State::Failed {
            let length = output.len().min(STEP_BYTES_MAX);
            let (taken, gave) =
                self.call(index, now, &mut |filter, _, flow| filter.send(&output.rest()[..length], flow));
            output.consume(taken);
            goes_on = taken > 0 || gave;
        }
        output.trim();
        self.layers[index + 1].output = output;
    }

    /// Returns how many bytes wait between the protocol's queue and the network.
    pub(crate) fn outward_bytes(&self) -> usize {
        self.net.len() + self.layers.iter().map(|layer| layer.output.len()).sum::<usize>()
    }

    /// Returns what goes to the network next.
    pub(crate) fn net(&mut self) -> &mut Bytes {
        &mut self.net
    }

    /// Drops the output, of which nothing can be sent any more.
    pub(crate) fn drop_output(&mut self) {
        self.net.clear();
        self.layers.iter_mut().for_each(|layer| layer.output.clear());
    }

    // Memory.

    /// Lends it the loop's buffers where it has none of its own: both of them only if it may need both.
    #[inline]
    pub(crate) fn lend(&mut self, way: Way, scratch: &mut Scratch) {
        if way == Way::Up || !self.is_common() {
            self.plain.borrow_memory(&mut scratch.plain);
        }
        if way == Way::Down || !self.is_common() {
            self.net.borrow_memory(&mut scratch.net);
        }
    }

    /// Returns the loop's buffers if they are empty, and keeps no memory for empty ones.
    #[inline]
    pub(crate) fn give_back(&mut self, scratch: &mut Scratch) {
        self.plain.return_memory(&mut scratch.plain);
        self.net.return_memory(&mut scratch.net);
    }

    /// Returns how much memory it keeps for bytes, including those that it holds.
    #[cfg(all(test, feature = "testing"))]
    pub(crate) fn kept_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| layer.input.capacity() + layer.output.capacity());
        self.plain.capacity() + self.net.capacity() + layers.sum::<usize>()
    }

    // The filters themselves.

    /// Returns where a filter passes its input up to.
    fn above(&self, index: usize) -> &Bytes {
        self.layers.get(index + 1).map_or(&self.plain, |above| &above.input)
    }

    /// Calls a filter. Returns what it returned, and whether it has passed on anything or changed its state.
    fn call(
        &mut self,
        index: usize,
        now: Instant,
        call: &mut dyn FnMut(&mut dyn Filter, &mut Bytes, &mut Flow<'_>) -> usize,
    ) -> (usize, bool) {
        let (below, above) = self.layers.split_at_mut(index + 1);
        let Layer { filter, input, output, finished, .. } = &mut below[index];
        let up = above.first_mut().map_or(&mut self.plain, |above| &mut above.input);
        let down = if index == 0 { &mut self.net } else { output };
        let (before, mut said) = ((up.len(), down.len()), None);
        let answer = call(&mut **filter, input, &mut Flow { up, down, said: &mut said, now });
        if *finished {
            // Nothing is sent after its end.
            down.truncate(before.1);
        }
        let gave = (up.len(), down.len()) != before;
        (answer, said.is_some_and(|said| self.heed(index, *said)) || gave)
    }

    /// Acts on what a filter has said. Returns whether that changes anything.
    #[inline(never)]
    fn heed(&mut self, index: usize, Said { ready, ended, leaves, failure, peer }: Said) -> bool {
        let layer = &mut self.layers[index];
        // Saying it again changes nothing: otherwise a filter that says so in each call would be called for ever.
        let changes = ready && !layer.ready || ended && !layer.ended || leaves && !layer.left;
        layer.ready |= ready;
        if leaves {
            self.leaves = true;
            layer.left = true;
            layer.filter = Box::new(Passing);
        }
        if ended && !layer.ended {
            self.note_end(index);
        }
        if peer.is_some() {
            self.said.peer = peer;
        }
        if let Some(failure) = failure {
            self.said.failure.get_or_insert(failure);
            self.fail();
        }
        changes
    }

    /// Removes those that have left, once nothing of theirs waits for the one below.
    fn prune(&mut self) {
        if !self.leaves {
            return;
        }
        for index in (0..self.layers.len()).rev() {
            let layer = &self.layers[index];
            if layer.left && (index == 0 || layer.output.is_empty()) {
                let left = self.layers.remove(index);
                let above = self.layers.get_mut(index);
                let is_top = above.is_none();
                above.map_or(&mut self.plain, |above| &mut above.input).push(left.input.rest());
                self.said.end |= is_top && !left.ended && index > 0 && self.layers[index - 1].ended;
            }
        }
        self.leaves = self.layers.iter().any(|layer| layer.left);
    }
}

/// Passes everything on unchanged: takes the place of a filter that has left.
pub(crate) struct Passing;

impl Filter for Passing {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

/// Buffers of the loop that filters work in.
#[derive(Default)]
pub(crate) struct Scratch {
    plain: Bytes,
    net: Bytes,
}

impl Scratch {
    /// Returns whether it holds more than most connections need.
    pub(crate) fn holds_memory(&self) -> bool {
        self.plain.capacity().max(self.net.capacity()) > SCRATCH_BYTES_MAX
    }

    /// Releases that memory.
    pub(crate) fn decay(&mut self) {
        if self.holds_memory() {
            *self = Scratch::default();
        }
    }

    /// Takes back a buffer that was taken out of a chain.
    pub(crate) fn put_back(&mut self, mut plain: Bytes) {
        plain.clear();
        if plain.capacity() > self.plain.capacity() {
            self.plain = plain;
        }
    }
}
