//! Requests to handles: commands, which run in order and later than they are requested.

use super::actions::later;
use super::ledger::{Ledger, Phase, with};
use crate::Context;

pub(super) fn post(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    ledger.coverage.hit("post");
    let connection = ledger.some_connection(host, false).unwrap_or(usize::MAX);
    // If the queue is full, the closure comes back and is dropped.
    let _ = context.handle().post(move |context| {
        with(|ledger| {
            ledger.coverage.hit("posted");
            later(ledger, context, host, connection);
        });
    });
}

/// Closes, aborts or writes.
pub(super) fn command(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let lost = ledger.random.hits(200);
    let Some(index) = ledger.some_connection(host, lost) else { return };
    match ledger.random.below(10) {
        0..=2 => end(ledger, context, index, true),
        3 => end(ledger, context, index, false),
        _ => write(ledger, context, index),
    }
}

fn end(ledger: &mut Ledger, context: &mut Context<'_>, index: usize, closes: bool) {
    let Some(id) = ledger.connections[index].id else { return };
    ledger.coverage.hit(if closes { "handle close" } else { "handle abort" });
    let sent = if closes { context.handle().close(id) } else { context.handle().abort(id) };
    if sent.is_ok() && ledger.connections[index].phase != Phase::Lost {
        // When it runs is not visible: it may do so from here on.
        ledger.connections[index].asked.command = true;
        ledger.connections[index].asked.close |= closes;
        ledger.connections[index].asked.abort |= !closes;
        if let Some(stream) = ledger.connections[index].stream {
            let side = ledger.connections[index].side;
            ledger.streams[stream].halves[side as usize].end_asked = true;
        }
    }
}

/// Writes through a handle. When the write happens is not visible; a closure posted after it shows when it is over.
/// Nothing else is written to the connection until then.
fn write(ledger: &mut Ledger, context: &mut Context<'_>, index: usize) {
    let connection = &ledger.connections[index];
    let (Some(id), Some(stream), side) = (connection.id, connection.stream, connection.side) else { return };
    if connection.phase == Phase::Lost {
        ledger.coverage.hit("handle writes late");
        // It is counted, and does no harm.
        let _ = context.handle().write(id, *b"late");
        return;
    }
    if connection.write_shut || connection.asked.command {
        return;
    }
    let count = (ledger.random.between(1, 3000) as usize).min(ledger.write_bound);
    let from = ledger.streams[stream].halves[side as usize].written;
    let bytes = ledger.bytes(stream, side, from, count);
    if context.handle().write(id, bytes).is_err() {
        return ledger.coverage.hit("handle full");
    }
    ledger.coverage.hit("handle write");
    ledger.write_max = ledger.write_max.max(count);
    ledger.streams[stream].halves[side as usize].written += count;
    ledger.connections[index].handle_writes += 1;
    // If there is no room for this closure, nothing else is ever written to the connection again.
    let _ = context.handle().post(move |_| with(|ledger| ledger.connections[index].handle_writes -= 1));
}
