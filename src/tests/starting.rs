//! A protocol that takes over from another one and starts from the beginning, and a peer that is not the one it seems.

use std::net::SocketAddr;

use super::*;
use crate::sys::script::Call;

/// Takes one byte, and starts a protocol that logs everything with the prefix "new "; leaves other input in the buffer.
fn starts(new: &Log, also: fn(&mut Transport<'_>)) -> impl FnMut(Event<'_>, &mut Transport<'_>) -> usize + 'static {
    let new = new.clone();
    move |event, transport| match event {
        Event::Data(_) => {
            transport.start_protocol(protocol(&new, idle));
            also(transport);
            1
        }
        event => by_default(&event, transport),
    }
}

fn nothing(_: &mut Transport<'_>) {}

#[test]
fn c1_a_protocol_that_is_started_has_a_whole_life_and_the_old_one_none_any_more() {
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let (_, peer) = scene.accept(&old, starts(&new, nothing));
    scene.receive(&peer, "abc");
    assert_eq!(old.take(), ["made", "data abc"]);
    assert_eq!(new.take(), ["made", "data bc"]);
    scene.receive(&peer, "d");
    scene.end(&peer);
    assert_eq!(new.take(), ["data d", "eof", "lost: closed by the peer"]);
    assert_eq!(old.take(), [""; 0]);
    let counters = scene.event_loop.context().counters();
    assert_eq!((counters.connections_made, counters.connections_lost), (1, 1));
}

#[test]
fn c2_a_protocol_that_is_started_is_made_before_what_has_come_already() {
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let (_, peer) = scene.accept(&old, starts(&new, nothing));
    // All in one event: more data after the remaining input, and the end after that.
    peer.set_short_read_empties(false);
    peer.sends("ab");
    peer.sends("c");
    peer.sends([]);
    scene.world.event(&peer, Readiness::READABLE | Readiness::READ_CLOSED);
    scene.settle();
    assert_eq!(new.take(), ["made", "data b", "data c", "eof", "lost: closed by the peer"]);
}

#[test]
fn c1_a_protocol_that_is_started_and_never_made_is_told_nothing() {
    let acts: [fn(&mut Transport<'_>); 3] = [
        |transport| transport.abort(),
        |transport| transport.abort_for("broken"),
        |transport| transport.abort_on_timeout(Timeout::Total),
    ];
    for (what, act) in acts.into_iter().enumerate() {
        let mut scene = Scene::new();
        let (old, new) = (Log::default(), Log::default());
        let (_, peer) = scene.accept(&old, starts(&new, act));
        scene.receive(&peer, "ab");
        assert_eq!((old.take(), new.take()), (vec!["made".to_owned(), "data ab".into()], vec![]), "{what}");
        let counters = scene.event_loop.context().counters();
        assert_eq!((counters.connections_made, counters.connections_lost), (1, 1), "{what}");
        let losses = counters.losses;
        assert_eq!(losses.aborted + losses.protocol + losses.timeout, 1, "{what}");
    }
}

#[test]
fn c1_a_protocol_is_not_started_on_a_connection_that_is_closing() {
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let to_new = new.clone();
    let (_, peer) = scene.accept(&old, move |event, transport| {
        if let Event::Data(_) = event {
            transport.close();
            transport.start_protocol(protocol(&to_new, idle));
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "a");
    assert_eq!((old.take(), new.take()), (vec!["made".into(), "data a".into(), "lost: closed by us".into()], vec![]));
}

#[test]
fn c1_nothing_comes_between_the_start_of_a_protocol_and_its_connection_made() {
    // An idle timeout that has expired by then; it is judged by output that the peer does not take.
    let limits = Limits::default().with_idle_timeout(Some(SECOND)).with_total_timeout(Some(5 * SECOND));
    let mut scene = Scene::with_limits(limits);
    let (old, new) = (Log::default(), Log::default());
    let (id, peer) = scene.accept(&old, starts(&new, nothing));
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"stays"));
    // The same turn brings the input and, later, the timeout.
    scene.world.advance(SECOND);
    peer.sends("a");
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    scene.world.advance(10 * SECOND);
    scene.turn();
    assert_eq!(new.take(), ["made"]);
    // Both timeouts have started over with it.
    scene.pass(900 * MS);
    assert_eq!(new.take(), [""; 0]);
    scene.pass(200 * MS);
    assert_eq!(new.take(), ["timed out: Idle", "lost: idle for too long"]);
}

#[test]
fn w2_a_protocol_that_is_started_over_the_high_mark_is_told_of_it() {
    let limits = Limits::default().with_queue_bytes_high(1000).with_queue_bytes_low(100);
    let mut scene = Scene::with_limits(limits);
    let (old, new) = (Log::default(), Log::default());
    let to_new = new.clone();
    let (_, peer) = scene.accept(&old, move |event, transport| {
        match event {
            Event::Data(_) => transport.write(&[b'x'; 2000]),
            Event::Pause => transport.start_protocol(protocol(&to_new, idle)),
            _ => {}
        }
        by_default(&event, transport)
    });
    peer.set_room(0);
    scene.receive(&peer, "a");
    assert_eq!(
        (old.take(), new.take()),
        (vec!["made".into(), "data a".into(), "pause".into()], vec!["made".into(), "pause".into()])
    );
    scene.make_room(&peer, 10_000);
    assert_eq!(new.take(), ["resume"]);
}

#[test]
fn r4_what_came_before_a_failing_send_reaches_a_protocol_that_is_started() {
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let (_, peer) = scene.accept(&old, starts(&new, |transport| transport.write(b"answer")));
    peer.write_answers(Err(io::ErrorKind::ConnectionReset.into()));
    scene.receive(&peer, "abc");
    assert_eq!(new.take(), ["made", "data bc", "lost: reset by the peer"]);
}

#[test]
fn k6_a_protocol_that_is_started_before_a_connection_stands_is_made_when_it_does() {
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let peer = scene.world.connect_begins();
    let id = scene.event_loop.context().connect(("10.0.0.1", 1), protocol(&old, idle)).unwrap();
    scene.tell(id, |transport| transport.start_protocol(protocol(&Log::default(), idle)));
    let started = protocol(&new, idle);
    scene.event_loop.context().connection(id).unwrap().start_protocol(started);
    scene.settle();
    assert_eq!(new.take(), [""; 0]);
    peer.answers();
    scene.world.event(&peer, Readiness::WRITABLE);
    scene.settle();
    assert_eq!((old.take(), new.take()), (vec![], vec!["made".to_owned()]));
}

#[test]
fn x2_abort_for_resets_and_says_why() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.abort_for("no such thing"));
    assert_eq!(log.take(), ["made", "lost: protocol error: no such thing"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
    // Without an abort, a protocol error closes in order (F4).
    let (id, peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.close_for("no such thing"));
    assert_eq!(log.take(), ["made", "lost: protocol error: no such thing"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Close));
    // An abort upgrades a close.
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(b"stays"));
    scene.tell(id, close);
    scene.tell(id, |transport| transport.abort_for("no such thing"));
    assert_eq!(log.take(), ["made", "lost: aborted by us"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

#[test]
fn c8_a_peer_s_address_stays_as_it_was_set() {
    let mut scene = Scene::new();
    let log = Log::default();
    let shown = log.clone();
    let (id, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Lost(_) = event {
            shown.push(transport.peer_addr().unwrap().to_string());
        }
        by_default(&event, transport)
    });
    let carried = crate::Address::from(SocketAddr::from(([192, 0, 2, 1], 5)));
    scene.tell(id, |transport| transport.set_peer_addr(SocketAddr::from(([192, 0, 2, 9], 5)).into()));
    let set = carried.clone();
    let transport = |scene: &mut Scene| scene.event_loop.context().connection(id).unwrap().peer_addr().cloned();
    scene.event_loop.context().connection(id).unwrap().set_peer_addr(set);
    assert_eq!(transport(&mut scene), Some(carried));
    scene.end(&peer);
    assert_eq!(log.take(), ["made", "eof", "lost: closed by the peer", "192.0.2.1:5"]);
}

#[test]
fn a4_peers_beyond_a_proxy_are_counted_as_that() {
    for counted_late in [false, true] {
        let mut scene = Scene::new();
        let log = Log::default();
        let max = |max| Limits::default().with_connections_per_peer_max(Some(max));
        let limits = if counted_late { Limits::default() } else { max(2) };
        scene.event_loop.context().listener(scene.listener).unwrap().set_limits(limits);
        let mut peers = Vec::new();
        for n in 0..2 {
            let (id, peer) = scene.accept(&log, idle);
            let beyond = SocketAddr::from(([192, 0, 2, n], 5));
            scene.event_loop.context().connection(id).unwrap().set_peer_addr(beyond.into());
            peers.push(peer);
        }
        scene.event_loop.context().listener(scene.listener).unwrap().set_limits(max(2));
        log.take();
        let refused = scene.knock(Some(protocol(&log, idle)));
        scene.settle();
        assert_eq!((log.take(), refused.is_closed()), (vec![], true), "counted late: {counted_late}");
        scene.end(&peers[0]);
        scene.accept(&log, idle);
        assert_eq!(log.take(), ["eof", "lost: closed by the peer", "made"], "counted late: {counted_late}");
    }
}

// C7: a protocol that is started inherits nothing from the one before.

/// A connection whose first protocol did this to it, and whose second one, which behaves as `idle`, has been made.
fn started_after(limits: Limits, old_does: fn(&mut Transport<'_>)) -> (Scene, Log, ConnectionId, Peer) {
    let mut scene = Scene::with_limits(limits);
    let new = Log::default();
    let to_new = new.clone();
    let (id, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            old_does(transport);
            transport.start_protocol(protocol(&to_new, idle));
            return 1;
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "abc");
    (scene, new, id, peer)
}

#[test]
fn c7_a_protocol_that_is_started_has_no_timeout_of_the_one_before_and_all_of_its_limits() {
    let (mut scene, new, _, _peer) = started_after(Limits::default(), |transport| {
        for timeout in [Timeout::Idle, Timeout::ReadIdle, Timeout::Handshake, Timeout::Total] {
            transport.set_timeout(timeout, Some(500 * MS));
        }
    });
    scene.pass(100 * SECOND);
    assert_eq!(new.take(), ["made", "data bc"]);
    let limits = Limits::default().with_handshake_timeout(Some(3 * SECOND));
    let mut scene = Scene::with_limits(limits);
    let (old, new) = (Log::default(), Log::default());
    let (_, peer) = scene.accept(&old, starts(&new, nothing));
    scene.pass(2 * SECOND);
    scene.receive(&peer, "a");
    scene.pass(2999 * MS);
    assert_eq!(new.take(), ["made"]);
    scene.pass(MS);
    assert_eq!(new.take(), ["timed out: Handshake", "lost: the handshake took too long"]);
}

#[test]
fn c7_a_protocol_that_is_started_is_not_paused_by_the_one_before_and_gets_what_that_left() {
    let (mut scene, new, _, peer) = started_after(Limits::default(), pause_reading);
    assert_eq!(new.take(), ["made", "data bc"]);
    scene.receive(&peer, "d");
    assert_eq!(new.take(), ["data d"]);
    // A pause that is requested afterwards belongs to the new protocol.
    let mut scene = Scene::new();
    let (old, new) = (Log::default(), Log::default());
    let (id, peer) = scene.accept(&old, starts(&new, pause_reading));
    scene.receive(&peer, "abc");
    assert_eq!(new.take(), ["made"]);
    scene.tell(id, resume_reading);
    assert_eq!(new.take(), ["data bc"]);
}

#[test]
fn c7_a_protocol_that_is_started_has_the_marks_and_the_limits_that_the_connection_began_with() {
    let limits = Limits::default().with_input_bytes_max(10).with_close_timeout(7 * SECOND);
    let (mut scene, new, id, peer) = started_after(limits, |transport| {
        transport.set_write_marks(10, 5);
        transport.set_input_bytes_max(1000);
        transport.set_input_low_bytes(1000);
        transport.set_timeout(Timeout::Close, Some(SECOND));
        transport.set_answering(true);
    });
    let initial = |scene: &mut Scene| scene.event_loop.context().connection(id).unwrap().input_bytes_max();
    assert_eq!((new.take(), initial(&mut scene)), (vec!["made".into(), "data bc".into()], 10));
    assert!(!scene.event_loop.core.parts.slots.connection(id.0).unwrap().notes.has(crate::connection::Note::Answering));
    peer.set_room(0);
    scene.tell(id, |transport| transport.write(&[0; 11]));
    assert_eq!(new.take(), [""; 0]);
    scene.tell(id, close);
    scene.pass(6999 * MS);
    assert_eq!(new.take(), [""; 0]);
    scene.pass(MS);
    assert_eq!(new.take(), ["lost: the peer did not take the remaining output in time"]);
}

#[test]
fn c7_a_protocol_that_is_started_has_no_read_rate_of_the_one_before() {
    let slow: fn(&mut Transport<'_>) = |transport| {
        let group = transport.context().add_rate_group(Rate::new(1).burst(1));
        transport.set_rate_group(Some(group));
        transport.set_read_rate(Some(Rate::new(1).burst(1)));
    };
    let (mut scene, new, _, peer) = started_after(Limits::default(), slow);
    for n in 0..3 {
        scene.receive(&peer, format!("{n}{n}"));
    }
    assert_eq!(new.take(), ["made", "data bc", "data 00", "data 11", "data 22"]);
    // The rate of the connection's limits starts over, with all of its burst.
    let limits = Limits::default().with_read_rate(Some(Rate::new(1).burst(3)));
    let (mut scene, new, _, peer) = started_after(limits, |transport| transport.set_read_rate(None));
    scene.receive(&peer, "defghi");
    assert_eq!(new.take(), ["made", "data bc", "data def"]);
    scene.pass(SECOND);
    assert_eq!(new.take(), ["data g"]);
}
