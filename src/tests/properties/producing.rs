//! Producing: which protocols may be called for more output, when, and until when (W8).

use super::actions::{act_on, write};
use super::ledger::Ledger;
use crate::Transport;

/// What is known of producing for a connection's present protocol.
#[derive(Clone, Copy, Default)]
pub(super) struct Producing {
    pub(super) asked: bool,
    /// The turn of its loop in which it was last called.
    turn: u64,
    /// Whether anything was written to the connection since.
    pub(super) wrote: bool,
}

pub(super) fn start(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("start_producing");
    ledger.connections[index].producing.asked = true;
    transport.start_producing();
}

pub(super) fn stop(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("stop_producing");
    ledger.connections[index].producing.asked = false;
    transport.stop_producing();
}

/// A protocol is called for more output.
pub(super) fn begin(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let (turn, queued) = (transport.context().counters().turns, transport.queued_bytes());
    let connection = &mut ledger.connections[index];
    let asked = connection.producing.asked;
    let before = std::mem::replace(&mut connection.producing.turn, turn);
    connection.producing.wrote = false;
    let ended = connection.closing || connection.write_shut;
    let low = connection.limits.queue_bytes_low.min(connection.limits.queue_bytes_high);
    ledger.check(asked, || "produce, and nobody has asked for it".into());
    ledger.check(before != turn, || "produce twice in a turn".into());
    ledger.check(!ended, || "produce after the end of sending".into());
    ledger.check(queued <= low, || format!("produce at {queued} bytes, of {low}"));
}

/// Mostly writes something, by a write or from a reader.
pub(super) fn produce(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    if ledger.actions == 0 || ledger.random.hits(300) {
        return;
    }
    ledger.actions -= 1;
    match ledger.random.below(10) {
        0..=5 => write(ledger, transport, index),
        6..=8 => write_from(ledger, transport, index),
        _ => act_on(ledger, transport, index),
    }
}

fn write_from(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let connection = &ledger.connections[index];
    let Some(stream) = connection.stream.filter(|_| connection.handle_writes == 0) else { return };
    let (side, high, shut) = (connection.side, connection.limits.queue_bytes_high, connection.write_shut);
    let before = transport.queued_bytes();
    let from = ledger.streams[stream].halves[side as usize].written;
    let count = (ledger.random.between(1, 100_000) as usize).min(ledger.write_bound);
    let bytes = ledger.bytes(stream, side, from, count);
    let written = transport.write_from(&mut &bytes[..]);
    ledger.coverage.hit("write_from");
    ledger.write_max = ledger.write_max.max(written);
    ledger.check(written == 0 || !shut, || "a piece after the end is read".into());
    let passes = written > 1 && before + written > high;
    ledger.check(!passes, || format!("a piece of {written} bytes behind {before}, of {high}"));
    ledger.streams[stream].halves[side as usize].written += written;
    ledger.connections[index].producing.wrote |= written > 0;
}

/// The call has returned. If it wrote nothing, and its protocol is still the present one, it was the last call.
pub(super) fn end(ledger: &mut Ledger, index: usize, instance: u32) {
    let connection = &mut ledger.connections[index];
    if !connection.producing.wrote && connection.instance == instance {
        connection.producing.asked = false;
        ledger.coverage.hit("produce nothing");
    }
}
