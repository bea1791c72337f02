//! Filters that report things twice, take nothing, or fail where it is least convenient (rules Y2 to Y5): nothing
//! spins, stalls or is lost.

use super::kinds::Masked;
use super::*;
use crate::filter::{Filter, Flow};

/// The most calls that a filter gets in a test; more mean that a loop never ends.
const CALLS_MAX: usize = 2000;

/// Reports that it is ready with every call, as a filter does that asks its handshake each time, and takes whole lines.
struct Insists(usize);

impl Filter for Insists {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        self.0 += 1;
        assert!(self.0 < CALLS_MAX, "it is called for ever");
        flow.set_ready();
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        flow.up().push(&data[..=end]);
        end + 1
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.set_ready();
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn y2_a_filter_that_says_with_each_call_that_it_is_ready_is_not_called_for_ever() {
    let mut wire = Wire::new(Limits::default(), |listen| listen.filter(|_| Some(Insists(0))), echo);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"hel");
    assert_eq!(wire.log.take(), ["made"]);
    wire.send(&mut peer, b"lo\nwor");
    assert_eq!((wire.log.take(), peer.read()), (vec!["data hello\n".into()], b"hello\n".to_vec()));
}

/// Takes nothing from above before `!` has come from below, as a filter does that waits for new keys.
pub(super) struct Waits {
    is_open: bool,
    calls: usize,
}

impl Waits {
    pub(super) fn new() -> Waits {
        Waits { is_open: false, calls: 0 }
    }
}

impl Filter for Waits {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        self.is_open |= data.contains(&b'!');
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "it is called for ever");
        let count = if self.is_open { data.len() } else { 0 };
        flow.down().push(&data[..count]);
        count
    }
}

#[test]
fn y2_what_a_lower_filter_does_not_take_waits_until_something_has_come() {
    for is_above in [false, true] {
        let stack = move |listen: Listen| {
            let listen = listen.filter(|_| Some(Waits::new()));
            if is_above { listen.filter(|_| Some(Masked { key: 0x20, step: 3 })) } else { listen }
        };
        let mut wire = Wire::new(Limits::default(), stack, stays);
        let mut peer = wire.peer();
        wire.tell(|transport| {
            transport.write(b"HELLO");
            transport.shutdown_write();
        });
        assert_eq!((peer.read(), peer.saw_end()), (vec![], false));
        wire.send(&mut peer, b"!");
        assert_eq!(peer.read(), if is_above { b"hello" } else { b"HELLO" });
        assert!(peer.saw_end());
        // A connection that is closed is not read from, so its deadline ends it.
        let mut peer = wire.peer();
        wire.log.take();
        let mut context = wire.network.context(wire.host);
        let id = context.connection_ids()[1];
        let mut transport = context.connection(id).unwrap();
        transport.write(b"HELLO");
        transport.close();
        wire.rest();
        wire.network.run_for(60 * SECOND);
        assert_eq!(wire.connections(), 1);
        assert!(peer.error().is_some() && peer.read().is_empty());
    }
}

/// Takes everything that has arrived in one call, and fails at `!`, after an alert.
pub(super) struct Greedy;

impl Filter for Greedy {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let end = data.iter().position(|byte| *byte == b'!');
        flow.up().push(&data[..end.unwrap_or(data.len())]);
        if end.is_some() {
            flow.down().push(b"alert");
            flow.fail("a wrong byte");
        }
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn y4_what_came_in_one_call_with_a_failure_is_delivered_before_it() {
    for low_mark in [false, true] {
        let mut wire = Wire::new(Limits::default(), |listen| listen.filter(|_| Some(Greedy)), idle);
        let mut peer = wire.peer();
        if low_mark {
            wire.tell(|transport| transport.set_input_low_bytes(100));
        }
        wire.send(&mut peer, b"fine!worse");
        assert_eq!(wire.log.take(), ["made", "data fine", "lost: protocol error: a wrong byte"], "{low_mark}");
        assert_eq!((peer.read(), peer.error().is_none()), (b"alert".to_vec(), true));
    }
}

#[test]
fn y4_a_failure_that_came_with_data_waits_behind_that_where_the_protocol_has_paused() {
    const LOST: &str = "lost: protocol error: a wrong byte";
    let pauses = |event: Event<'_>, transport: &mut Transport<'_>| {
        if let Event::Made = event {
            transport.pause_reading();
        }
        by_default(&event, transport)
    };
    let acts: [fn(&mut Transport<'_>); 3] = [resume_reading, |transport| transport.write(b"x"), close];
    let told = [&["data fine", LOST][..], &[LOST], &["lost: closed by us"]];
    for (act, told) in acts.into_iter().zip(told) {
        // The data has arrived by the time the connection is made.
        let limits = Limits::default().with_filter_timeout(None);
        let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Late(Greedy))), pauses);
        let mut peer = wire.peer();
        wire.send(&mut peer, b"fine!worse");
        assert_eq!((wire.log.take(), peer.read()), (vec!["made".to_owned()], b"alert".to_vec()));
        wire.tell(act);
        wire.network.run_for(3 * SECOND);
        assert_eq!((wire.log.take(), peer.read()), (told.iter().map(|&event| event.into()).collect(), vec![]));
        assert!(peer.saw_end() && peer.error().is_none());
        peer.close();
        wire.rest();
        assert_eq!((wire.connections(), wire.timers()), (0, 0));
    }
}

/// Is not ready before something has arrived.
struct Late(Greedy);

impl Filter for Late {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.set_ready();
        self.0.receive(data, flow)
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.0.send(data, flow)
    }
}

#[test]
fn y1_a_filter_that_becomes_ready_and_fails_in_one_call_has_its_protocol_told_of_both() {
    for timeout in [None, Some(SECOND)] {
        let limits = Limits::default().with_filter_timeout(timeout);
        let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Late(Greedy))), idle);
        let mut peer = wire.peer();
        wire.send(&mut peer, b"fine!worse");
        assert_eq!(wire.log.take(), ["made", "data fine", "lost: protocol error: a wrong byte"]);
        assert_eq!(wire.network.context(wire.host).counters().handshakes_failed, 0);
        peer.close();
        assert_eq!(wire.timers(), 0);
    }
}

#[test]
fn y4_what_the_protocol_left_is_offered_to_it_again_before_a_failure_that_came_with_it() {
    let limits = Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(50);
    let act = |event: Event<'_>, transport: &mut Transport<'_>| match event {
        Event::Data(_) => {
            transport.write_owned(vec![b'x'; 1 << 20]);
            1
        }
        event => by_default(&event, transport),
    };
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Greedy)), act);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"abc!worse");
    assert_eq!(wire.log.take(), ["made", "data abc", "data bc", "data c", "lost: protocol error: a wrong byte"]);
    assert_eq!(peer.read(), b"alert");
}

/// Replies to all input, and passes it on.
struct Answers;

impl Filter for Answers {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(b"ok");
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        flow.down().push(b"end");
    }
}

#[test]
fn y4_what_a_filter_says_behind_its_end_goes_nowhere_and_does_no_harm() {
    let mut wire = Wire::new(Limits::default(), |listen| listen.filter(|_| Some(Answers)), stays);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"one");
    wire.tell(shutdown_write);
    wire.send(&mut peer, b"two");
    wire.send(&mut peer, b"three");
    assert_eq!(wire.log.take(), ["made", "data one", "data two", "data three"]);
    assert_eq!((peer.read(), peer.saw_end()), (b"okend".to_vec(), true));
    peer.end();
    wire.rest();
    assert_eq!((wire.log.take(), wire.connections()), (vec!["eof".into(), "lost: closed by the peer".into()], 0));
}

#[test]
fn y4_a_failure_stays_the_reason_when_the_time_for_the_handshake_is_over() {
    let limits = Limits::default().with_filter_timeout(Some(SECOND)).with_read_bytes_per_turn_max(1);
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), echo);
    let errors = wire.errors();
    let mut peer = wire.peer();
    wire.network.run_for(300 * MS);
    // The input that it does not read makes it linger.
    wire.send(&mut peer, b"nonsense");
    assert_eq!((wire.connections(), peer.read()), (1, b"A".to_vec()));
    wire.network.run_for(30 * SECOND);
    assert_eq!(wire.connections(), 0);
    let told = errors.take();
    assert!(told.len() == 1 && told[0].ends_with("protocol error: a broken record"), "{told:?}");
    assert_eq!(wire.timers(), 0);
}

#[test]
fn y5_an_end_that_came_with_data_waits_where_that_paused_reading() {
    let stack = |listen: Listen| {
        listen.filter(|_| Some(Masked { key: 7, step: 1000 })).filter(|_| Some(Sealed::server(KEY, 100)))
    };
    let mut wire = Wire::new(Limits::default(), stack, |event, transport| {
        if let Event::Data(_) = event {
            transport.pause_reading();
        }
        stays(event, transport)
    });
    let mut peer = wire.peer();
    let bytes = [b"H\0", &record(b"all")[..], b"E"].concat();
    let masked: Vec<u8> = bytes.iter().map(|byte| byte ^ 7).collect();
    wire.send(&mut peer, &masked);
    assert_eq!(wire.log.take(), ["made", "data all"]);
    wire.tell(|transport| transport.write(b"x"));
    assert_eq!(wire.log.take(), [""; 0], "nor does a flush tell it");
    wire.tell(resume_reading);
    assert_eq!(wire.log.take(), ["eof"]);
    wire.tell(close);
    peer.end();
    wire.rest();
    assert_eq!((wire.log.take(), wire.connections(), wire.timers()), (vec!["lost: closed by the peer".into()], 0, 0));
}

#[test]
fn y3_a_stream_that_always_waits_for_the_rest_of_a_record_takes_no_more_and_more_memory() {
    let stack = |listen: Listen| {
        listen.filter(|_| Some(Masked { key: 0, step: 1000 })).filter(|_| Some(Sealed::server(KEY, 100)))
    };
    for stacked in [false, true] {
        let one = |listen: Listen| listen.filter(|_| Some(Sealed::server(KEY, 100)));
        let mut wire = Wire::new(Limits::default(), if stacked { stack } else { one }, stays);
        let mut peer = wire.shaken();
        let whole = record(&[b'x'; 100]);
        let (first, second) = whole.split_at(50);
        peer.send(first);
        for _ in 0..2000 {
            peer.send(&[second, first].concat());
            wire.network.run_for(MS);
        }
        assert_eq!(wire.log.take().len(), 2000);
        let context = wire.network.context(wire.host);
        let id = context.connection_ids()[0];
        let chain = wire.network.event_loop(wire.host).core.parts.slots.connection(id.0).unwrap().chain();
        let capacity = chain.unwrap().kept_bytes();
        assert!(capacity < 2000, "{capacity} bytes for 50");
    }
}
