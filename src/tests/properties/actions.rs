//! What callbacks, timers, posted closures and other code do.

use std::time::Duration;

use super::commands::{command, post};
use super::datagrams;
use super::dials::{self, connect};
use super::ledger::{Ledger, Listening, Phase, with};
use super::own_calls;
use super::producing::{self, Producing};
use super::program::{Program, make};
use super::reaching::reach;
use super::refusals::REFUSAL;
use super::timers::{cancel, cancel_own, reset, set_own, set_timer};
use crate::ids::AnyId;
use crate::{Context, Detached, Listen, Timeout, Transport, WhenFull};

/// One thing that is done to a connection: by its own callback, or by any code that has its id.
pub(super) fn act_on(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    match ledger.random.below(64) {
        0..=21 => write(ledger, transport, index),
        22 => close(ledger, transport, index),
        23 => fail(ledger, transport, index),
        24 => abort(ledger, transport, index),
        25 => shutdown_write(ledger, transport, index),
        26..=28 => pause(ledger, transport, index),
        29..=34 => resume(ledger, transport, index),
        35..=37 => set_protocol(ledger, transport, index),
        38 => detach(ledger, transport, index),
        39 | 40 => set_marks(ledger, transport, index),
        41 | 42 => set_low_mark(ledger, transport),
        43 => set_timeout(ledger, transport, index),
        44..=46 => set_timer(ledger, &mut transport.context(), index),
        47..=49 => producing::start(ledger, transport, index),
        50 => producing::stop(ledger, transport, index),
        52..=54 => start_protocol(ledger, transport, index),
        55 | 56 => set_answering(ledger, transport, index),
        57..=59 => set_own(ledger, transport, index),
        60 => cancel_own(ledger, transport, index),
        61 | 62 => own_calls::ask(ledger, transport, index),
        _ => {}
    }
}

/// One thing that is done to anything else in a host's loop.
pub(super) fn act_around(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    match ledger.random.below(33) {
        0..=9 => another(ledger, context, host),
        10 | 11 => cancel(ledger, context, host),
        12 => reset(ledger, context, host),
        13 | 14 => stale(ledger, context, host),
        15 | 16 => post(ledger, context, host),
        17 | 18 => command(ledger, context, host),
        19 => listen(ledger, context, host),
        20 => listener(ledger, context, host),
        21..=23 => connect(ledger, context, host),
        24..=26 => datagrams::act(ledger, context, host),
        27..=29 => reach(ledger, context, host),
        30 | 31 => own_calls::go_on(ledger, context, host),
        _ => {
            let connection = ledger.some_connection(host, false).unwrap_or(usize::MAX);
            set_timer(ledger, context, connection);
        }
    }
}

fn another(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let Some(index) = ledger.some_connection(host, false) else { return };
    ledger.coverage.hit("another's");
    let Some(id) = ledger.connections[index].id else { return };
    // It may have ended already, without its protocol having been told.
    if let Some(mut transport) = context.connection(id) {
        ledger.check(transport.id() == id, || "another connection than was asked for".into());
        act_on(ledger, &mut transport, index);
    }
}

fn stale(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let Some(index) = ledger.some_connection(host, true) else { return };
    let Some(id) = ledger.connections[index].id else { return };
    ledger.coverage.hit("stale id");
    let found = context.connection(id).is_some() | context.set_background(AnyId::Connection(id), true);
    ledger.check(!found, || format!("{id} has ended, and is found"));
}

// Writing.

pub(super) fn write(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let Some(stream) = ledger.connections[index].stream.filter(|_| ledger.connections[index].handle_writes == 0) else {
        return;
    };
    let side = ledger.connections[index].side;
    let from = ledger.streams[stream].halves[side as usize].written;
    let count = match ledger.random.below(40) {
        0 => 0,
        1..=20 => ledger.random.between(1, 40),
        21..=35 => ledger.random.between(40, 1500),
        36 | 37 => ledger.random.between(1500, 6000),
        _ => ledger.random.between(16_000, 40_000),
    } as usize;
    let count = count.min(ledger.write_bound);
    let bytes = ledger.bytes(stream, side, from, count);
    ledger.coverage.hit(match (count, ledger.connections[index].phase) {
        (0, _) => "write nothing",
        (_, Phase::Connecting) => "write while connecting",
        _ => "write",
    });
    if count >= 16 * 1024 {
        ledger.coverage.hit("write large");
    }
    ledger.write_max = ledger.write_max.max(count);
    let before = transport.context().counters().late_writes;
    let mut reached = true;
    match ledger.random.below(4) {
        0 => transport.write(&bytes),
        1 => {
            ledger.coverage.hit("write owned");
            transport.write_owned(bytes);
        }
        2 => {
            ledger.coverage.hit("broadcast");
            let id = transport.id();
            reached = transport.context().broadcast([id], &bytes) == 1 || count == 0;
        }
        _ => {
            ledger.coverage.hit("write shared");
            transport.write_shared(bytes.into());
        }
    }
    let taken = transport.context().counters().late_writes == before && reached;
    let shut = ledger.connections[index].write_shut;
    ledger.check(!(taken && shut && count > 0), || "a write after the end is taken".into());
    let connection = &ledger.connections[index];
    let stays = connection.phase == Phase::Connecting && !shut && !connection.closing && !connection.asked.command;
    // It may have ended because it hoards, without its protocol having been told.
    let is_ignored = !taken && stays && !format!("{transport:?}").contains("Lost");
    ledger.check(!is_ignored, || "a write before the connection stands is ignored".into());
    if taken {
        ledger.streams[stream].halves[side as usize].written += count;
        ledger.connections[index].producing.wrote |= count > 0;
    }
}

fn set_marks(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("marks");
    let (high, low) = (ledger.random.below(20_000) as usize, ledger.random.below(6000) as usize);
    let connection = &mut ledger.connections[index];
    connection.initial.get_or_insert_with(|| connection.limits.clone());
    (connection.limits.queue_bytes_high, connection.limits.queue_bytes_low) = (high, low);
    transport.set_write_marks(high, low);
}

// Reading.

fn pause(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("pause_reading");
    set_paused(ledger, transport, index, true);
    transport.pause_reading();
}

pub(super) fn resume(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("resume_reading");
    set_paused(ledger, transport, index, false);
    transport.resume_reading();
}

/// For a connection that has ended, told or not, the call has no effect: what a failed send found paused is gone.
fn set_paused(ledger: &mut Ledger, transport: &Transport<'_>, index: usize, paused: bool) {
    let is_lost = format!("{transport:?}").contains("state: Some(Lost)");
    let connection = &mut ledger.connections[index];
    if connection.phase != Phase::Lost && !is_lost {
        connection.paused = paused;
    }
}

fn set_low_mark(ledger: &mut Ledger, transport: &mut Transport<'_>) {
    ledger.coverage.hit("low mark");
    let mark = if ledger.random.hits(500) { 0 } else { ledger.random.below(200) as usize };
    transport.set_input_low_bytes(mark);
}

fn set_protocol(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    // A connection that has ended keeps its protocol to the end.
    let phase = ledger.connections[index].phase;
    let stands = transport.peer_addr().is_some() && matches!(phase, Phase::Made | Phase::Ended);
    if !stands && phase != Phase::Connecting {
        return;
    }
    ledger.coverage.hit(if stands { "set_protocol" } else { "set_protocol while connecting" });
    ledger.connections[index].instance += 1;
    ledger.connections[index].producing = Producing::default();
    let instance = ledger.connections[index].instance;
    let program = Program::new(ledger, index, instance);
    transport.set_protocol(program);
}

/// Starts a protocol that inherits nothing from the present one.
fn start_protocol(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let connection = &ledger.connections[index];
    let lives = matches!(connection.phase, Phase::Connecting | Phase::Made | Phase::Ended);
    // Its end may have begun without a request that is noted here: by a handle, a limit, a failing send.
    let shown = format!("{transport:?}");
    let ends = ["Flushing", "Detaching", "Lingering", "Lost", "Gone"].iter().any(|state| shown.contains(state));
    if !lives || ends || shown.contains("state: None") {
        return;
    }
    ledger.coverage.hit("start_protocol");
    let connection = &mut ledger.connections[index];
    connection.instance += 1;
    connection.life += 1;
    connection.producing = Producing::default();
    connection.starting = connection.phase != Phase::Connecting;
    (connection.paused, connection.over, connection.answering) = (false, false, false);
    if let Some(initial) = connection.initial.take() {
        connection.limits = initial;
    }
    let instance = connection.instance;
    let program = Program::new(ledger, index, instance);
    transport.start_protocol(program);
}

fn set_answering(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let answering = ledger.random.hits(500);
    ledger.coverage.hit("set_answering");
    let connection = &mut ledger.connections[index];
    if connection.phase != Phase::Lost && !connection.closing {
        connection.answering = answering;
    }
    transport.set_answering(answering);
}

fn set_timeout(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("set_timeout");
    let which = match ledger.random.below(10) {
        0..=3 => Timeout::Idle,
        4 | 5 => Timeout::ReadIdle,
        6 | 7 => Timeout::Handshake,
        _ => Timeout::Total,
    };
    let after = Duration::from_millis(ledger.random.between(1, 5000));
    let after = ledger.random.hits(800).then_some(after);
    let connection = &mut ledger.connections[index];
    let life = connection.life;
    connection.timeouts.retain(|(of, _)| *of != which);
    connection.timeouts.push((which, after.map(|_| life)));
    transport.set_timeout(which, after);
}

// Ending.

pub(super) fn close(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("close");
    ledger.connections[index].asked.close = true;
    ledger.closes(index);
    transport.close();
}

fn fail(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("fail");
    ledger.connections[index].asked.fail = true;
    ledger.closes(index);
    transport.close_for("a mistake");
}

pub(super) fn abort(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    ledger.coverage.hit("abort");
    ledger.connections[index].asked.abort = true;
    ledger.closes(index);
    transport.abort();
}

fn shutdown_write(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    let connects = ledger.connections[index].phase == Phase::Connecting;
    ledger.coverage.hit(if connects { "shutdown_write while connecting" } else { "shutdown_write" });
    match ledger.connections[index].phase {
        Phase::Ended => ledger.closes(index),
        _ => ledger.end_of_sending(index),
    }
    ledger.connections[index].fin_asked = true;
    transport.shutdown_write();
}

fn detach(ledger: &mut Ledger, transport: &mut Transport<'_>, index: usize) {
    // Data that a handle is still to write would have no receiver, and later data would be out of place.
    if ledger.connections[index].handle_writes > 0 {
        return;
    }
    ledger.coverage.hit("detach");
    let keeps = ledger.random.hits(700);
    let detached =
        transport.detach(move |context, detached| with(|ledger| detached_to(ledger, context, index, detached, keeps)));
    if detached {
        let connection = &mut ledger.connections[index];
        connection.asked.detach = true;
        connection.closing = true;
        connection.write_shut = true;
    }
}

/// A connection has left its loop: it is attached again, or dropped.
fn detached_to(ledger: &mut Ledger, context: &mut Context<'_>, index: usize, detached: Detached, keeps: bool) {
    ledger.coverage.hit("detached to");
    let (host, side) = (ledger.connections[index].host, ledger.connections[index].side);
    let (phase, left) = (ledger.connections[index].phase, ledger.connections[index].left);
    ledger.check(phase == Phase::Lost, || format!("detached while {phase:?}"));
    let Some(stream) = ledger.connections[index].stream else { return };
    let sender = ledger.sender(index);
    let unread = detached.unread();
    ledger.check(unread.len() >= left, || format!("detached with {} unread, of {left}", unread.len()));
    let from = ledger.streams[stream].halves[sender as usize].received;
    ledger.compare(stream, sender, from, unread);
    let (unread, unsent) = (unread.len(), detached.unsent().len());
    let ended = ledger.streams[stream].halves[sender as usize].end_seen;
    // Once the end has been read, no loop reports it again.
    if keeps && !ended && !ledger.ending[host] {
        let again = ledger.connect(host, side, Some(stream));
        let program = Program::new(ledger, again, 0);
        match context.attach(detached, program) {
            Ok(id) => {
                ledger.coverage.hit("attach");
                ledger.restored += unsent;
                ledger.connections[again].left = unread;
                ledger.connections[again].id = Some(id);
                return;
            }
            Err(error) => ledger.violated(format!("cannot attach: {error}")),
        }
    } else {
        ledger.coverage.hit("drop detached");
        drop(detached);
    }
    let half = &mut ledger.streams[stream].halves[side as usize];
    half.end_asked = true;
    half.torn |= unsent > 0;
}

// Later actions.

/// What timers and posted closures do: something to the connection that set them, or to something else.
pub(super) fn later(ledger: &mut Ledger, context: &mut Context<'_>, host: usize, connection: usize) {
    if ledger.actions == 0 {
        return;
    }
    ledger.actions -= 1;
    let id = ledger.connections.get(connection).and_then(|connection| connection.id);
    match id.and_then(|id| context.connection(id)) {
        Some(mut transport) if ledger.random.hits(700) => act_on(ledger, &mut transport, connection),
        _ => act_around(ledger, context, host),
    }
}

// Listeners.

/// Listens at a port that the system chooses, of which nobody is told, or at one that the driver chooses.
pub(super) fn listen(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    if ledger.listeners.len() < 4 && !ledger.ending[host] {
        ledger.coverage.hit("listen");
        let count = ledger.random.between(1, 3) as usize;
        listen_at(ledger, context, host, vec![([0, 0, 0, 0], 0).into(); count]);
    }
}

pub(super) fn listen_at(ledger: &mut Ledger, context: &mut Context<'_>, host: usize, at: Vec<std::net::SocketAddr>) {
    let number = ledger.listeners.len();
    let backlog = [1, 16, 1024][ledger.random.below(3) as usize];
    let (count, listen) = (at.len(), Listen::at(at).backlog(backlog).refusal(REFUSAL));
    let listened = context.listen(listen, move |context, client| {
        with(|ledger| {
            let client = client.as_inet()?;
            // The limits that the listener has when it accepts.
            let limits = ledger.listeners[number].limits.clone();
            if ledger.actions > 0 && ledger.random.hits(100) {
                ledger.actions -= 1;
                act_around(ledger, context, host);
            }
            let program = make(ledger, host, client, limits)?;
            Some(program)
        })
    });
    let at = listened.as_ref().ok().and_then(|&id| context.listener(id)?.local_addrs().ok());
    let at: Vec<_> = at.iter().flatten().filter_map(|at| at.as_inet()).collect();
    match listened {
        Ok(id) if at.len() == count => {
            if count > 1 {
                ledger.coverage.hit("listen at several addresses");
            }
            let limits = ledger.limits.each.clone();
            ledger.listeners.push(Listening { host, id, at, limits, paused: false, closed: false });
        }
        Ok(_) => ledger.violated("a listener has not the addresses that it was given"),
        Err(error) => ledger.violated(format!("cannot listen: {error}")),
    }
}

fn listener(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let own: Vec<_> = (0..ledger.listeners.len()).filter(|&index| ledger.listeners[index].host == host).collect();
    if own.is_empty() {
        return;
    }
    let index = own[ledger.random.below(own.len() as u64) as usize];
    let way = ledger.random.below(13);
    let mut limits = dials::vary(ledger);
    if !ledger.patient {
        limits.connections_max = ledger.random.between(1, 6) as usize;
        limits.when_full = if ledger.random.hits(700) { WhenFull::Wait } else { WhenFull::Refuse };
    }
    let entry = &mut ledger.listeners[index];
    let closed = entry.closed;
    let Some(mut listener) = context.listener(entry.id) else {
        let gone = closed || ledger.ending[host];
        return ledger.check(gone, || "a listener that was not closed is gone".into());
    };
    match way {
        0..=3 => {
            entry.paused = true;
            listener.pause();
            ledger.coverage.hit("pause listener");
        }
        4..=8 => {
            entry.paused = false;
            listener.resume();
            ledger.coverage.hit("resume listener");
        }
        9..=11 => {
            entry.limits = limits.clone();
            listener.set_limits(limits);
            ledger.coverage.hit("set_limits");
        }
        _ => {
            entry.closed = true;
            listener.close();
            ledger.coverage.hit("close listener");
        }
    }
    ledger.check(!closed, || "a listener that was closed is found".into());
}
