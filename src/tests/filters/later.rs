//! Filters that are added in the middle of a stream (rule Y6).

use super::kinds::Masked;
use super::*;

/// Imitates STARTTLS: after a command and its plain answer, everything is sealed.
fn starts(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    if let Event::Data(b"START") = event {
        transport.write(b"go");
        assert!(transport.set_filter(Sealed::server(KEY, 100)));
        assert!(!transport.is_reading());
        transport.write(b"sealed");
    }
    by_default(&event, transport)
}

fn plain(act: fn(Event<'_>, &mut Transport<'_>) -> usize) -> Wire {
    Wire::new(Limits::default(), |listen| listen, act)
}

#[test]
fn y6_what_was_written_before_goes_out_as_it_is_and_what_is_written_after_through_the_filter() {
    let mut wire = plain(starts);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"START");
    assert_eq!((wire.log.take(), peer.read()), (vec!["made".into(), "data START".into()], b"go".to_vec()));
    wire.send(&mut peer, b"H\0");
    assert_eq!(peer.read(), [&[b'S', KEY], &record(b"sealed")[..]].concat());
    assert_eq!(wire.log.take(), [""; 0], "it is not made anew");
    wire.send(&mut peer, &record(b"hello"));
    assert_eq!(wire.log.take(), ["data hello"]);
}

#[test]
fn y6_input_that_is_left_when_a_filter_is_put_in_ends_the_connection() {
    let mut wire = plain(|event, transport| {
        if let Event::Data(data) = event {
            if data.starts_with(b"START") {
                transport.write(b"go");
                transport.set_filter(Sealed::server(KEY, 100));
                return 5;
            }
        }
        by_default(&event, transport)
    });
    let mut peer = wire.peer();
    wire.send(&mut peer, b"STARTinjected");
    let lost = "lost: protocol error: input arrived before the filter for it had started";
    assert_eq!(wire.log.take(), ["made", "data STARTinjected", lost]);
    assert!(peer.error().is_some());
    // The same if the bytes had been left in the buffer before.
    let mut wire = plain(idle_and_leaves);
    let mut peer = wire.peer();
    wire.send(&mut peer, b"kept");
    wire.tell(|transport| _ = transport.set_filter(Sealed::server(KEY, 100)));
    assert_eq!(wire.log.take(), ["made", "data kept", lost]);
}

fn idle_and_leaves(_: Event<'_>, _: &mut Transport<'_>) -> usize {
    0
}

#[test]
fn y6_a_protocol_that_is_started_with_the_filter_is_made_when_that_is_ready() {
    let mut wire = plain(|event, transport| {
        if let Event::Data(b"START") = event {
            transport.write(b"go");
            transport.set_filter(Sealed::server(KEY, 100));
            transport.start_protocol(Second);
        }
        by_default(&event, transport)
    });
    let mut peer = wire.peer();
    wire.send(&mut peer, b"START");
    assert_eq!(peer.read(), b"go");
    wire.send(&mut peer, b"H\0");
    assert_eq!(peer.read(), [&[b'S', KEY], &record(b"welcome")[..]].concat());
}

struct Second;

impl Protocol for Second {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b"welcome");
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn y6_one_that_is_put_in_above_another_leaves_what_was_written_to_that() {
    let mut wire = Wire::sealed(|event, transport| {
        if let Event::Data(b"MASK") = event {
            transport.write(b"go");
            transport.set_filter(Masked { key: 0x20, step: 1000 });
            transport.write(b"MASKED");
        }
        by_default(&event, transport)
    });
    let mut peer = wire.shaken();
    wire.send(&mut peer, &record(b"MASK"));
    assert_eq!(peer.read(), [record(b"go"), record(b"masked")].concat());
    wire.send(&mut peer, &record(b"HELLO"));
    assert_eq!(wire.log.take(), ["data MASK", "data hello"]);
}

#[test]
fn y6_a_connection_that_is_not_established_takes_none() {
    let mut wire = plain(idle);
    let _server = wire.network.peer_listener(80, 1).unwrap();
    let at = _server.local_addr();
    let made = protocol(&wire.log, idle);
    let mut context = wire.network.context(wire.host);
    let id = context.connect(at, made).unwrap();
    assert!(!context.connection(id).unwrap().set_filter(Sealed::client(KEY, 100)));
    wire.rest();
    assert_eq!(wire.log.take(), ["made"]);
    for act in [shutdown_write, close] {
        wire.tell(|transport| {
            act(transport);
            assert!(!transport.set_filter(Sealed::client(KEY, 100)));
        });
    }
}

#[test]
fn y6_input_is_left_too_where_it_was_held_back_by_what_the_callback_wrote() {
    let act = |event: Event<'_>, transport: &mut Transport<'_>| {
        if let Event::Data(data) = event {
            transport.write(&[b'x'; 5000]);
            assert!(!transport.is_reading());
            transport.set_filter(Sealed::server(KEY, 100));
            return data.len() - 5;
        }
        by_default(&event, transport)
    };
    let limits = Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(50);
    for bytes in [&b"inject"[..], b"eject"] {
        let mut wire = Wire::new(limits.clone(), |listen| listen, act);
        let mut peer = wire.peer();
        wire.send(&mut peer, bytes);
        let log = wire.log.take();
        assert!(log.last().unwrap().starts_with("lost: protocol error: input arrived before"), "{log:?}");
    }
}

#[test]
fn y4_our_half_ends_after_the_handshake_where_it_was_asked_to_before() {
    let mut wire = plain(|event, transport| {
        if let Event::Data(b"START") = event {
            transport.set_filter(Sealed::server(KEY, 100));
            transport.shutdown_write();
        }
        stays(event, transport)
    });
    let mut peer = wire.peer();
    wire.send(&mut peer, b"START");
    assert_eq!((peer.read(), peer.saw_end()), (vec![], false));
    wire.send(&mut peer, &[b"H\0", &record(b"hello")[..], b"E"].concat());
    assert_eq!((peer.read(), peer.saw_end()), (vec![b'S', KEY, b'E'], true));
    assert_eq!(wire.log.take(), ["made", "data START", "data hello", "eof", "lost: closed by the peer"]);
}
