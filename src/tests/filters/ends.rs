//! How a connection with filters ends (rule Y4).

use super::kinds::Eager;
use super::*;

#[test]
fn y4_close_and_shutdown_write_have_the_filter_say_the_end_behind_what_was_written() {
    for act in [close, shutdown_write] {
        let mut wire = Wire::sealed(idle);
        let mut peer = wire.shaken();
        wire.tell(|transport| {
            transport.write(b"bye");
            act(transport);
        });
        assert_eq!(peer.read(), [&record(b"bye")[..], b"E"].concat());
        assert!(peer.saw_end() && peer.error().is_none());
    }
}

#[test]
fn y4_what_a_peer_answers_to_our_end_does_not_have_it_reset() {
    for answer in [&b"E"[..], &[&record(b"too late")[..], b"E"].concat()] {
        let mut wire = Wire::sealed(idle);
        let mut peer = wire.shaken();
        wire.tell(|transport| {
            transport.write(b"bye");
            transport.close();
        });
        wire.send(&mut peer, answer);
        assert_eq!(peer.read(), [&record(b"bye")[..], b"E"].concat());
        assert!(peer.saw_end() && peer.error().is_none());
        peer.end();
        wire.rest();
        assert_eq!((wire.log.take(), wire.connections()), (vec!["lost: closed by us".into()], 0));
    }
    // The peer's end is waited for no longer than with any other lingering connection.
    let mut wire = Wire::sealed(idle);
    let _peer = wire.shaken();
    wire.tell(close);
    wire.network.run_for(2 * SECOND);
    assert_eq!((wire.log.take(), wire.connections()), (vec!["lost: closed by us".into()], 0));
}

#[test]
fn y4_an_end_that_comes_with_data_waits_for_a_protocol_that_has_paused() {
    let eager = |listen: Listen| listen.filter(|_| Some(Eager(Sealed::server(KEY, 100))));
    let mut wire = Wire::new(Limits::default(), eager, |event, transport| match event {
        Event::Made => {
            transport.pause_reading();
            0
        }
        event => by_default(&event, transport),
    });
    let mut peer = wire.peer();
    wire.send(&mut peer, &[b"H\0", &record(b"all")[..], b"E"].concat());
    assert_eq!(wire.log.take(), ["made"]);
    wire.tell(|transport| transport.resume_reading());
    assert_eq!(wire.log.take(), ["data all", "eof", "lost: closed by the peer"]);
    // The same if the protocol pauses at that data, and if it leaves some of it.
    let mut wire = Wire::new(Limits::default(), eager, |event, transport| match event {
        Event::Data(data) => {
            transport.pause_reading();
            data.len().min(1)
        }
        event => by_default(&event, transport),
    });
    let mut peer = wire.shaken();
    wire.send(&mut peer, &[&record(b"abc")[..], b"E"].concat());
    assert_eq!(wire.log.take(), ["data abc"]);
    wire.tell(|transport| transport.resume_reading());
    assert_eq!(wire.log.take(), ["data bc"]);
    wire.tell(|transport| transport.resume_reading());
    wire.tell(|transport| transport.resume_reading());
    assert_eq!(wire.log.take(), ["data c", "eof", "lost: closed by the peer"]);
}

#[test]
fn y4_an_end_that_is_said_is_eof_and_the_other_half_goes_on() {
    let mut wire = Wire::sealed(stays);
    let mut peer = wire.shaken();
    wire.send(&mut peer, &[&record(b"all")[..], b"E"].concat());
    assert_eq!(wire.log.take(), ["data all", "eof"]);
    wire.tell(|transport| transport.write(b"still here"));
    assert_eq!(peer.read(), record(b"still here"));
    wire.tell(close);
    assert_eq!((wire.log.take(), peer.read()), (vec!["lost: closed by the peer".into()], b"E".to_vec()));
}

#[test]
fn y4_an_end_that_is_not_said_is_a_truncation_behind_all_data_and_without_eof() {
    for rest in [&b""[..], b"R", b"R\0\x05half"] {
        let mut wire = Wire::sealed(idle);
        let mut peer = wire.shaken();
        wire.send(&mut peer, &[&record(b"half")[..], rest].concat());
        peer.end();
        wire.rest();
        assert_eq!(wire.log.take(), ["data half", "lost: the stream was truncated"]);
        assert!(peer.error().is_some(), "our own end is a reset");
        assert_eq!(wire.network.context(wire.host).counters().losses.truncated, 1);
    }
}

#[test]
fn y4_behind_an_alert_goes_nothing_out_and_the_reason_names_what_was_wrong() {
    let limits = Limits::default().with_pause_reading_over_high(false);
    let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), idle);
    let mut peer = wire.shaken();
    peer.stall();
    wire.tell(|transport| transport.write_owned(vec![b'x'; 1 << 20]));
    wire.log.take();
    peer.send(&[&record(b"fine")[..], b"nonsense"].concat());
    wire.rest();
    assert_eq!(wire.log.take(), ["data fine"], "it is not over before the alert has gone out");
    peer.unstall();
    let mut got = Vec::new();
    for _ in 0..100 {
        wire.rest();
        got.extend(peer.read());
    }
    assert_eq!(wire.log.take(), ["lost: protocol error: a broken record"]);
    assert_eq!(got.last(), Some(&b'A'));
    assert!(got.len() < 900_000, "what was not filtered was dropped: {}", got.len());
    assert!(peer.saw_end() && peer.error().is_none(), "and it ends in order");
}

#[test]
fn y4_an_alert_of_the_peer_ends_it() {
    let mut wire = Wire::sealed(idle);
    let mut peer = wire.shaken();
    wire.send(&mut peer, b"A");
    assert_eq!(wire.log.take(), ["lost: protocol error: an alert"]);
    assert_eq!(peer.read(), b"", "no end is said behind it");
}

#[test]
fn y4_closing_in_a_handshake_waits_for_no_end_of_the_filter() {
    let mut wire = Wire::sealed(idle);
    let mut peer = wire.peer();
    wire.tell(|transport| {
        transport.write(b"never");
        transport.close();
    });
    assert_eq!((peer.read(), peer.saw_end(), wire.connections()), (vec![], true, 0));
}

#[test]
fn y4_a_send_that_failed_stays_the_reason() {
    let mut wire = Wire::sealed(idle);
    let mut peer = wire.shaken();
    wire.send(&mut peer, &record(b"whole"));
    peer.reset();
    wire.tell_if_there(|transport| transport.write(b"x"));
    assert_eq!(wire.log.take(), ["data whole", "lost: reset by the peer"]);
}

#[test]
fn y4_peers_that_leave_in_each_state_of_the_handshake_leave_nothing_behind() {
    let bytes = [b"H\0", &record(b"hello")[..], b"E"].concat();
    for cut in 0..=bytes.len() {
        for resets in [true, false] {
            let mut wire = Wire::sealed(echo);
            let mut peer = wire.peer();
            let _ = peer.send(&bytes[..cut]);
            wire.network.run_for(MS);
            match resets {
                true => peer.reset(),
                false => peer.close(),
            }
            wire.rest();
            assert_eq!(wire.connections(), 0, "cut at {cut}, reset: {resets}");
            wire.network.run_for(20 * SECOND);
            assert_eq!(wire.network.sockets(), 1, "the listener's");
        }
    }
}

#[test]
fn y4_where_an_upper_filter_has_seen_the_end_what_is_for_a_lower_one_resets_nothing() {
    let stack =
        |listen: Listen| listen.filter(|_| Some(Sealed::server(KEY, 100))).filter(|_| Some(Sealed::server(KEY, 100)));
    let mut wire = Wire::new(Limits::default(), stack, echo);
    let mut peer = wire.peer();
    wire.send(&mut peer, &[b"H\0", &record(b"H\0")[..]].concat());
    wire.send(&mut peer, &record(&[&record(b"hello")[..], b"E"].concat()));
    assert_eq!(wire.log.take(), ["made", "data hello", "eof"], "it lingers, both ends being over to its protocol");
    let answers = [record(b"S\x55"), record(&record(b"hello")), record(b"E"), b"E".to_vec()].concat();
    assert_eq!(peer.read(), [&b"S\x55"[..], &answers].concat());
    wire.send(&mut peer, b"E");
    assert_eq!(peer.read(), b"");
    assert!(peer.saw_end() && peer.error().is_none());
    peer.end();
    wire.rest();
    assert_eq!((wire.log.take(), wire.connections()), (vec!["lost: closed by the peer".into()], 0));
}
