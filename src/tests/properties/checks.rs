//! What must hold of a loop between turns, at rest, and at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::datagrams;
use super::dials::Dial;
use super::ledger::{Ledger, Phase};
use crate::connection::{Connection, State};
use crate::event_loop::inspect::is_read_later;
use crate::ids::Id;
use crate::listener::Accepting;
use crate::sys::sim::Inspected;
use crate::testing::{HostId, Network};
use crate::{ConnectionId, EventLoop};

/// The most that one read returns.
const READ_BYTES: usize = 64 * 1024;

/// Checks after each step that memory is within its bounds, and that sums are right.
pub(super) fn between_turns(ledger: &mut Ledger, host: usize, event_loop: &EventLoop) {
    let core = &event_loop.core;
    let (queue_max, loop_max) = (ledger.limits.each.queue_bytes_max, ledger.limits.loop_queue_bytes_max);
    // With the overhead of each piece.
    let one_write = ledger.write_max + 256;
    let mut total = 0;
    core.parts.each_connection(|id, connection| {
        let cost = connection.queued_cost() + core.parts.outbox.log().cost(id);
        total += cost;
        let inspected = connection.inspected();
        cover(ledger, connection);
        note_ending(ledger, (host, ConnectionId(id)), connection, core.parts.now());
        ledger.check(cost <= queue_max + one_write, || format!("{cost} bytes are queued for {id}, of {queue_max}"));
        let input_max = connection.settings.limits.input_bytes_max + READ_BYTES;
        ledger.check(inspected.kept_bytes <= input_max, || format!("{} bytes of input kept", inspected.kept_bytes));
        let Some(&index) = ledger.ids.get(&(host, ConnectionId(id))) else { return };
        let paused = ledger.connections[index].paused;
        let agrees = paused == inspected.paused || !connection.is_alive();
        ledger.check(agrees, || format!("{id} is paused: {}, as was asked: {paused}", inspected.paused));
        let goes_on = ledger.connections[index].asked.panic && connection.is_alive();
        ledger.check(!goes_on, || format!("{id} goes on after a panic"));
    });
    core.parts.each_datagram(|_, datagram| {
        total += datagram.queued_cost();
        if datagram.queued_cost() > 0 {
            ledger.coverage.hit("datagrams queued");
        }
    });
    ledger.check(total == core.parts.outbox.queued(), || {
        format!("{} are queued in all, not {total}", core.parts.outbox.queued())
    });
    let all_max = loop_max + one_write + ledger.restored + 64 * core.parts.slots.connections();
    ledger.check(total <= all_max, || format!("{total} bytes are queued in the loop, of {loop_max}"));
    core.parts.each_listener(|_, listener| match listener.accepting {
        Accepting::Full => ledger.coverage.hit("listener full"),
        Accepting::BackingOff(_) => ledger.coverage.hit("listener backing off"),
        Accepting::Yes => {}
    });
    let (panics, deliberate) = (core.parts.counters.panics, ledger.panics[host]);
    ledger.check(panics == deliberate, || format!("{panics} panics, and {deliberate} were meant"));
}

/// Records since when an ending connection has made no progress.
fn note_ending(ledger: &mut Ledger, key: (usize, ConnectionId), connection: &Connection, now: Instant) {
    if matches!(connection.state(), State::Flushing | State::FlushingAfterEnd | State::Lingering) {
        let queued = connection.queued_bytes();
        let noted = ledger.ending_since.entry(key).or_insert((queued, now));
        if noted.0 != queued {
            *noted = (queued, now);
        }
    }
}

/// Checks at rest that no end takes longer than its deadline.
fn check_ending(ledger: &mut Ledger, key: (usize, ConnectionId), connection: &Connection, now: Instant) {
    let timeout = match connection.state() {
        State::Flushing | State::FlushingAfterEnd => connection.settings.limits.close_timeout,
        State::Lingering => connection.settings.limits.linger_timeout,
        _ => return,
    };
    let noted = ledger.ending_since.get(&key).filter(|(queued, _)| *queued == connection.queued_bytes());
    let lasts = noted.map_or(Duration::ZERO, |(_, since)| now - *since);
    // The deadline counts from the flush, and the loop may be late for that.
    ledger.check(lasts <= timeout + Duration::from_secs(1), || {
        format!("{} is {:?} for {lasts:?}", key.1, connection.state())
    });
}

fn cover(ledger: &mut Ledger, connection: &Connection) {
    let inspected = connection.inspected();
    let state = match inspected.state {
        State::Open => "Open",
        State::ReadClosed => "ReadClosed",
        State::FinQueued => "FinQueued",
        State::WriteClosed => "WriteClosed",
        State::Flushing => "Flushing",
        State::FlushingAfterEnd => "FlushingAfterEnd",
        State::Lingering => "Lingering",
        State::Connecting => "Connecting",
        State::ConnectingFinQueued => "ConnectingFinQueued",
        State::Failing => "Failing",
        State::Detaching => "Detaching",
        State::Lost | State::Gone => return,
    };
    ledger.coverage.hit(state);
    for (is, what) in [
        (inspected.over_high, "over high"),
        (inspected.over_high && connection.settings.limits.pause_reading_over_high, "held back"),
        (inspected.paused, "paused"),
        (inspected.kept_bytes > 0, "kept input"),
        (inspected.sends_later, "sends later"),
        (connection.queued_bytes() > 0, "queued output"),
    ] {
        if is {
            ledger.coverage.hit(what);
        }
    }
}

/// Checks at rest that nothing waits for what is there already (no lost wake-up).
pub(super) fn at_rest(ledger: &mut Ledger, network: &mut Network, hosts: &[HostId]) {
    ledger.coverage.hit("rest");
    let sockets: BTreeMap<_, _> =
        network.inspected().into_iter().map(|socket| ((socket.host, socket.token), socket)).collect();
    for (host, &id) in hosts.iter().enumerate() {
        let event_loop = network.event_loop(id);
        let now = event_loop.context().now();
        let overdue = ledger.has_overdue(host, now);
        ledger.check(!overdue, || "a timer is due, and nobody sees to it".into());
        let mut alive = Vec::new();
        event_loop.core.parts.each_connection(|id, connection| {
            if connection.is_connecting() {
                return ledger.violated(format!("{id} is connecting still, and nothing is under way"));
            }
            let Some(socket) = sockets.get(&(host, id.token())) else {
                return ledger.violated(format!("{id} has no socket at rest: {:?}", connection.state()));
            };
            alive.push(ConnectionId(id));
            let is_read_later = is_read_later(&event_loop.core.parts, id);
            connection_at_rest(ledger, (host, now), (id, is_read_later), connection, socket);
            check_ending(ledger, (host, ConnectionId(id)), connection, now);
        });
        event_loop.core.parts.each_datagram(|id, datagram| {
            let unread = sockets.get(&(host, id.token())).map_or(0, |socket| socket.unread);
            datagrams::at_rest(ledger, id, datagram, unread);
        });
        let mut lingering = BTreeMap::new();
        event_loop.core.parts.each_connection(|_, connection| {
            if let (State::Lingering, Some(listener)) = (connection.state(), connection.settings.listener) {
                *lingering.entry(listener).or_insert(0) += 1;
            }
        });
        event_loop.core.parts.each_listener(|id, listener| {
            let lingering = lingering.get(&id).copied().unwrap_or(0);
            ledger.check(listener.lingering == lingering, || format!("{lingering} linger of {}", listener.lingering));
            let waiting = sockets.get(&(host, id.token())).map_or(0, |socket| socket.unread);
            // A listener that is exactly at its cap gives up a lingering connection for a newcomer.
            let is_full =
                listener.is_full() && (lingering == 0 || listener.live > listener.settings.limits.connections_max);
            let waits = listener.paused
                || matches!(listener.accepting, Accepting::BackingOff(_))
                || (listener.accepting == Accepting::Full && is_full);
            ledger.check(waiting == 0 || waits, || format!("{waiting} wait to be accepted, and nobody sees to it"));
        });
        let told = ledger.connections.iter().filter(|of| of.host == host);
        let missing = told.filter(|of| of.phase.is_live());
        let missing = missing.filter(|of| of.id.is_some_and(|id| !alive.contains(&id))).count();
        ledger.check(missing == 0, || format!("{missing} connections are gone, and nobody was told"));
    }
}

fn connection_at_rest(
    ledger: &mut Ledger,
    (host, now): (usize, Instant),
    (id, is_read_later): (Id, bool),
    connection: &Connection,
    socket: &Inspected,
) {
    let inspected = connection.inspected();
    let state = inspected.state;
    let (cost, bytes) = (connection.queued_cost(), connection.queued_bytes());
    // Without memory for a read, it is tried again by time.
    let tries_later = inspected.asks_later || is_read_later;
    let reads = (connection.wants_input() || state == State::Lingering) && !tries_later;
    // A connection that was closed before its new protocol was told of it lingers without its protocol being told.
    ledger.check(inspected.made || state == State::Lingering, || format!("{id} is not made at rest"));
    ledger
        .check(!reads || socket.unread == 0, || format!("{} bytes are to be read by {id} ({state:?})", socket.unread));
    ledger.check(!reads || !socket.read_shut, || format!("an end is to be read by {id} ({state:?})"));
    let sends = bytes > 0 && !inspected.sends_later;
    ledger.check(!sends || !socket.has_space, || format!("{bytes} bytes of {id} could be sent ({state:?})"));
    let flushed = matches!(state, State::Flushing | State::FlushingAfterEnd | State::FinQueued) && bytes == 0;
    ledger.check(!flushed && state != State::Failing, || format!("{id} is {state:?} with nothing left to do"));
    if state.is_timed() {
        if let Some(&index) = ledger.ids.get(&(host, ConnectionId(id))) {
            let untold = ledger.has_untold_value(index);
            ledger.check(!untold, || format!("a value was given to {id}'s protocol, which is not told ({state:?})"));
            let overdue = ledger.has_own_overdue(index, now);
            ledger.check(!overdue, || format!("a timer of {id}'s protocol is due, and nobody sees to it ({state:?})"));
        }
    }
    if !connection.can_write() {
        return;
    }
    let (high, low) = (connection.settings.limits.queue_bytes_high, connection.settings.limits.low());
    ledger.check(inspected.over_high || cost <= high, || format!("{cost} are queued, and nobody was told of the mark"));
    ledger.check(!inspected.over_high || cost > low, || format!("{cost} are queued, and it still counts as over"));
    let Some(&index) = ledger.ids.get(&(host, ConnectionId(id))) else { return };
    let produces = ledger.connections[index].producing.asked;
    ledger.check(produces == inspected.produces, || format!("{id} produces: {}, not {produces}", inspected.produces));
    ledger
        .check(!produces || cost > low, || format!("{id} is to produce at {cost} bytes, of {low}, and is not called"));
    let over = ledger.connections[index].over;
    ledger.check(over == inspected.over_high, || format!("over the mark: {}, told: {over}", inspected.over_high));
}

/// Checks that nothing is left to be sent if the peer reads everything.
pub(super) fn drained(ledger: &mut Ledger, host: usize, id: Id, connection: &Connection) {
    let index = ledger.ids.get(&(host, ConnectionId(id)));
    let stream = index.and_then(|&index| ledger.connections[index].stream);
    let stands = stream.is_some_and(|stream| ledger.streams[stream].client_stands || ledger.is_pair(stream));
    let queued = connection.queued_bytes();
    let inspected = connection.inspected();
    ledger.check(queued == 0 || !stands, || format!("{queued} bytes of {id} never go out: {inspected:?}"));
}

/// Checks unread input of sockets that a loop has closed: there may be some only if it was not wanted any more (R4).
pub(super) fn abandoned(ledger: &mut Ledger, network: &mut Network) {
    for (host, token, bytes) in network.take_abandoned() {
        let of_it = ledger.ids.iter().find(|((of, id), _)| *of == host && id.0.token() == token);
        let Some((_, &index)) = of_it else { continue };
        let connection = &ledger.connections[index];
        let failed = ["reset", "I/O error", "peer closed"].contains(&connection.lost_reason);
        let asked = connection.closing || connection.asked.close || connection.asked.abort;
        let unwanted = asked || connection.paused || connection.left > ledger.limits.each.input_bytes_max;
        // It may have been the socket of an attempt before the one that was established.
        let of_several = connection.dial.as_ref().is_some_and(Dial::has_several_targets);
        let reason = connection.lost_reason;
        if failed && !unwanted && !of_several && !ledger.takes_excuse(host, reason) {
            ledger.violated(format!("{bytes} bytes had arrived before the end ({reason})"));
        }
    }
}

/// Checks that nothing is left at the end, and that every protocol was told of its end.
pub(super) fn at_the_end(ledger: &mut Ledger, network: &mut Network, hosts: &[HostId], dropped: bool) {
    let untold = ledger.connections.iter().filter(|of| of.phase.is_live()).count();
    ledger.check(untold == 0, || format!("{untold} connections never end"));
    let bound = ledger.has_bound_left();
    ledger.check(!bound, || "a datagram socket never ends".into());
    datagrams::at_the_end(ledger, network, hosts);
    let protocols = ledger.protocols;
    ledger.check(protocols == 0, || format!("{protocols} protocols are left"));
    let mut listeners = 0;
    if !dropped {
        for &host in hosts {
            let core = &network.event_loop(host).core;
            let mut own = 0;
            core.parts.each_listener(|_, listener| own += listener.sockets.len());
            listeners += own;
            let leftovers = core.leftovers(own);
            ledger.check(leftovers.is_empty(), || format!("left at the end: {}", leftovers.join(", ")));
        }
    }
    let sockets = network.sockets();
    ledger.check(sockets == listeners, || format!("{sockets} sockets are left, and {listeners} of them listen"));
    let idle = network.turns_without_progress_most();
    ledger.check(idle < SPIN_TURNS, || format!("{idle} turns in a row that did nothing"));
}

/// This many turns of a loop in a row without an event, a byte, a timer or an end mean that it spins. A pause and a
/// resume of one connection and a change of its protocol take a turn each, and callbacks do at most this many of them
/// in a row.
const SPIN_TURNS: u64 = 40;

// Draining.

impl Ledger {
    /// The loops begin to drain: established connections are to be told.
    pub(super) fn drain_begins(&mut self) {
        for connection in &mut self.connections {
            let stands = matches!(connection.phase, Phase::Made | Phase::Ended);
            connection.untold_of_drain = stands && !connection.closing && !connection.starting;
        }
    }

    pub(super) fn draining(&mut self, index: usize) {
        self.coverage.hit("draining");
        let was_untold = std::mem::take(&mut self.connections[index].untold_of_drain);
        let of = &self.connections[index];
        let state = format!("{:?} closing {} starting {} life {}", of.phase, of.closing, of.starting, of.life);
        self.check(was_untold, || format!("a drain is told twice, or to who is not to be told: {state}"));
    }

    pub(super) fn drain_is_told(&mut self) {
        // If a handle was asked to end the connection, that may have happened before.
        let ends = |of: &super::ledger::Connection| of.closing || of.asked.close || of.asked.abort;
        let left = |of: &super::ledger::Connection| of.phase.is_live() && !ends(of) && !of.starting;
        let untold = self.connections.iter().filter(|of| of.untold_of_drain && left(of)).count();
        self.check(untold == 0, || format!("{untold} connections are not told of the drain"));
    }
}
