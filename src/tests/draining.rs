//! Rules X3 and C6: drains, which let connections end by themselves.

use super::*;
use crate::SourceAction;
use crate::sys::script::Call;

/// An address to listen on; nothing ever does.
const NOWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Longer than anything takes that ends by itself here.
const GRACE: Duration = Duration::from_secs(100);

fn logged<const N: usize>(entries: [&str; N]) -> Vec<String> {
    entries.map(str::to_owned).into()
}

/// Says goodbye when it is told of a drain, and closes.
fn says_goodbye(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    if let Event::Draining = event {
        transport.write(b"going away");
        transport.close();
    }
    by_default(&event, transport)
}

/// Answers each complete line, and goes on unless the loop drains.
fn answers_lines(event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    if let Event::Data(data) = event {
        let Some(end) = data.iter().position(|&byte| byte == b'\n') else { return 0 };
        transport.write(b"answer to ");
        transport.write(&data[..=end]);
        if transport.context().is_draining() {
            transport.close();
        }
        return end + 1;
    }
    by_default(&event, transport)
}

#[test]
fn x3_a_drain_waits_for_the_answers_that_are_due_and_then_ends_run() {
    let mut scene = Scene::new();
    let logs = [Log::default(), Log::default()];
    let (_, in_the_middle) = scene.accept(&logs[0], answers_lines);
    let (_, ends_itself) = scene.accept(&logs[1], answers_lines);
    scene.receive(&in_the_middle, "half a ");
    let start = scene.world.now();
    let mut context = scene.event_loop.context();
    assert!(!context.is_draining());
    context.drain(GRACE);
    assert!(context.is_draining());
    assert!(scene.backlog.is_closed(), "listeners are closed at once");
    scene.pass(SECOND);
    assert_eq!(
        (logs[0].take(), logs[1].take()),
        (logged(["made", "data half a ", "draining"]), logged(["made", "draining"]))
    );
    scene.receive(&in_the_middle, "line\n");
    assert_eq!(in_the_middle.take_sent(), b"answer to half a line\n");
    assert!(scene.event_loop.context().is_draining());
    // The last one ends while `run` waits.
    ends_itself.sends("");
    scene.world.event(&ends_itself, Readiness::READABLE | Readiness::READ_CLOSED);
    scene.event_loop.run().unwrap();
    assert_eq!(logs[0].take(), ["data half a line\n", "lost: closed by us"]);
    assert_eq!(logs[1].take(), ["eof", "lost: closed by the peer"]);
    assert!(scene.world.now() - start < 10 * SECOND, "it does not wait for its deadline");
    // And once more.
    assert!(!scene.event_loop.context().is_draining());
    let log = Log::default();
    let (_, peer) = scene.attach(&log, echo);
    let (_, backlog) = scene.listen(|_, _| None);
    scene.receive(&peer, "y");
    assert_eq!(log.take(), ["made", "data y"]);
    assert!(!backlog.is_closed());
}

#[test]
fn x3_at_the_end_of_a_drain_what_is_left_is_closed_after_its_output() {
    let mut scene = Scene::new();
    let logs = [Log::default(), Log::default()];
    let (_, idles) = scene.accept(&logs[0], echo);
    let (slow, slow_peer) = scene.accept(&logs[1], idle);
    slow_peer.set_room(0);
    scene.event_loop.context().connection(slow).unwrap().write(b"the answer");
    let start = scene.world.now();
    scene.event_loop.context().drain(3 * SECOND);
    scene.pass(3 * SECOND - MS);
    assert_eq!((logs[0].take(), logs[1].take()), (logged(["made", "draining"]), logged(["made", "draining"])));
    let room = slow_peer.clone();
    let world = scene.world.clone();
    scene.event_loop.context().call_later(2 * SECOND, move |_| {
        room.set_room(100);
        world.event(&room, Readiness::WRITABLE);
    });
    scene.event_loop.run().unwrap();
    assert_eq!(scene.world.now() - start, 5 * SECOND - MS, "as long as its peer needed");
    assert_eq!(slow_peer.take_sent(), b"the answer");
    assert_eq!(logs[0].take(), ["lost: the loop was shut down"]);
    assert_eq!(logs[1].take(), ["lost: the loop was shut down"]);
    assert_eq!(idles.take_calls().last(), Some(&Call::Close));
    assert_eq!(slow_peer.take_calls().last(), Some(&Call::Close));
}

#[test]
fn x3_a_drain_is_over_when_closing_has_had_its_time_however_slowly_a_peer_takes() {
    let mut scene = Scene::with_limits(Limits::default().with_close_timeout(4 * SECOND));
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(0);
    scene.event_loop.context().connection(id).unwrap().write(&[b'x'; 100]);
    let (world, slow) = (scene.world.clone(), peer.clone());
    scene.event_loop.context().call_every(SECOND, move |_, _| {
        slow.set_room(1);
        world.event(&slow, Readiness::WRITABLE);
    });
    let start = scene.world.now();
    scene.event_loop.drain(10 * SECOND).unwrap();
    assert_eq!(scene.world.now() - start, 14 * SECOND);
    assert_eq!(log.take(), ["made", "draining", "lost: the loop was shut down"]);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset), "half an answer must not look whole");
}

#[test]
fn x3_a_second_drain_can_only_bring_the_end_nearer() {
    let mut scene = Scene::new();
    scene.accept(&Log::default(), idle);
    let start = scene.world.now();
    let mut context = scene.event_loop.context();
    context.drain(5 * SECOND);
    context.drain(2 * SECOND);
    context.drain(9 * SECOND);
    scene.event_loop.run().unwrap();
    assert_eq!(scene.world.now() - start, 2 * SECOND);
}

#[test]
fn x3_a_shutdown_within_a_drain_closes_all_and_ends_no_later() {
    for (grace, took) in [(SECOND, SECOND), (GRACE, 10 * SECOND)] {
        let mut scene = Scene::with_limits(Limits::default().with_close_timeout(7 * SECOND));
        // Only the loop's deadline ends them.
        let limits = Limits::default().with_close_timeout(GRACE);
        scene.event_loop.context().listener(scene.listener).unwrap().set_limits(limits);
        let logs = [Log::default(), Log::default()];
        scene.accept(&logs[0], idle);
        let (id, peer) = scene.accept(&logs[1], idle);
        peer.set_room(0);
        scene.event_loop.context().connection(id).unwrap().write(b"never taken");
        let start = scene.world.now();
        scene.event_loop.context().drain(3 * SECOND);
        scene.event_loop.context().shutdown(grace);
        scene.settle();
        assert_eq!(logs[0].take(), ["made", "lost: the loop was shut down"], "it does not drain on");
        // A drain is a weaker request than the shutdown under way, and changes nothing.
        scene.event_loop.context().drain(Duration::ZERO);
        scene.event_loop.run().unwrap();
        assert_eq!(scene.world.now() - start, took);
        assert_eq!(logs[1].take(), ["made", "lost: the loop was shut down"]);
    }
}

#[test]
fn c6_while_it_drains_the_loop_refuses_listeners_and_nobody_else() {
    let mut scene = Scene::new();
    scene.accept(&Log::default(), idle);
    scene.event_loop.context().drain(GRACE);
    let refused = scene
        .event_loop
        .context()
        .listen(std::net::SocketAddr::from(NOWHERE), |_, _| None::<Box<dyn Protocol>>)
        .unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (io::ErrorKind::NotConnected, "the loop is draining"));
    assert_eq!(crate::LoopError::of(&refused), Some(crate::LoopError::Draining));
    let log = Log::default();
    let (_, attached) = scene.attach(&log, echo);
    let server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    scene.event_loop.context().connect(address, protocol(&log, idle)).unwrap();
    server.answers();
    scene.world.event(&server, Readiness::WRITABLE);
    scene.receive(&attached, "x");
    assert_eq!(log.take(), ["made", "made", "data x"]);
    assert_eq!(attached.take_sent(), b"x");
    // The scripted poller takes no sources, and reports that if the source is not refused before.
    let source = mio::net::UdpSocket::bind(NOWHERE.into()).unwrap();
    let answer = scene.event_loop.context().register(source, mio::Interest::READABLE, |_, _, _| SourceAction::Wait);
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Unsupported);
}

#[test]
fn x3_a_drain_does_not_wait_for_what_is_background() {
    let mut scene = Scene::new();
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    let (other, _) = scene.accept(&Log::default(), echo);
    for background in [true, false, true] {
        assert!(scene.event_loop.context().set_background(id, background));
    }
    let start = scene.world.now();
    scene.event_loop.context().drain(GRACE);
    scene.receive(&peer, "still served");
    assert_eq!(peer.take_sent(), b"still served");
    scene.tell(other, close);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made", "data still served", "draining", "lost: the loop was shut down"]);
    assert!(scene.world.now() - start < 10 * SECOND);
}

#[test]
fn x3_a_drain_with_nobody_connected_is_over_at_once() {
    let mut scene = Scene::new();
    let start = scene.world.now();
    scene.event_loop.drain(GRACE).unwrap();
    scene.event_loop.context().drain(GRACE);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.event_loop.run().unwrap();
    scene.event_loop.context().drain(GRACE);
    scene.event_loop.run_until_idle().unwrap();
    assert!(!scene.event_loop.context().is_draining());
    assert_eq!(scene.world.now(), start);
    scene.pass(10 * SECOND);
    assert_eq!(scene.event_loop.time_to_next(), None, "no timer is left behind");
}

#[test]
fn x3_who_comes_with_the_drain_is_served() {
    let mut scene = Scene::new();
    let log = Log::default();
    let protocols = log.clone();
    let (_, backlog) = scene.listen(move |context, _| {
        context.drain(GRACE);
        Some(protocol(&protocols, answers_lines))
    });
    let peer = backlog.connect();
    peer.sends("x\n");
    scene.world.event(&backlog, Readiness::READABLE);
    scene.turn();
    scene.world.event(&peer, Readiness::READABLE);
    scene.event_loop.run().unwrap();
    assert_eq!(log.take(), ["made", "data x\n", "lost: closed by us"]);
    assert_eq!(peer.take_sent(), b"answer to x\n");
    assert!(backlog.is_closed());
}

#[test]
fn c6_dropping_the_loop_while_it_drains_tells_each_once() {
    let mut scene = Scene::new();
    let log = Log::default();
    scene.accept(&log, echo);
    scene.event_loop.context().drain(GRACE);
    scene.settle();
    assert_eq!(log.take(), ["made", "draining"]);
    drop(scene);
    assert_eq!(log.take(), ["lost: the loop was shut down"]);
}

#[test]
fn x3_what_is_said_to_a_drain_goes_out_and_run_returns_when_all_have_gone() {
    let mut scene = Scene::new();
    let log = Log::default();
    let peers = [(); 3].map(|()| scene.accept(&log, says_goodbye).1);
    log.take();
    let start = scene.world.now();
    scene.event_loop.drain(GRACE).unwrap();
    assert_eq!(scene.world.now(), start, "nobody waits");
    for peer in peers {
        assert_eq!(peer.take_sent(), b"going away");
        assert_eq!(peer.take_calls().last(), Some(&Call::Close));
    }
    assert_eq!(log.take()[..3], ["draining"; 3]);
}

#[test]
fn c3_a_drain_is_told_with_the_next_turn_once_and_the_oldest_first() {
    let mut scene = Scene::new();
    let log = Log::default();
    let told = |scene: &mut Scene, name: &'static str| {
        let log = log.clone();
        let act = move |event: Event<'_>, transport: &mut Transport<'_>| {
            match event {
                Event::Draining => {
                    log.push(name);
                    transport.context().drain(GRACE);
                }
                Event::Data(_) => transport.context().drain(GRACE),
                _ => {}
            }
            by_default(&event, transport)
        };
        scene.accept(&Log::default(), act)
    };
    let ((first, peer), (second, _)) = (told(&mut scene, "first"), told(&mut scene, "second"));
    let (third, _) = told(&mut scene, "third");
    // The fourth one has the slot of the second, and is younger than the third.
    scene.tell(second, abort);
    let (fourth, _) = told(&mut scene, "fourth");
    assert_eq!(fourth.0.slot, second.0.slot);
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    assert_eq!(log.take(), logged([]), "not in the turn in which it begins");
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.turn();
    assert_eq!(log.take(), ["first", "third", "fourth"]);
    scene.event_loop.context().drain(SECOND);
    scene.settle();
    assert_eq!(log.take(), logged([]));
    for id in [first, third, fourth] {
        assert!(scene.event_loop.context().connection(id).is_some(), "they go on");
    }
}

#[test]
fn l2_a_drain_is_told_to_so_many_a_turn() {
    let mut scene = Scene::new();
    let log = Log::default();
    for _ in 0..2500 {
        scene.attach(&log, idle);
    }
    scene.settle();
    assert_eq!(log.take().len(), 2500);
    scene.event_loop.context().drain(GRACE);
    for told in [1024, 1024, 452, 0] {
        scene.turn();
        assert_eq!(log.take().len(), told);
    }
}

#[test]
fn c7_only_those_that_stand_are_told_of_a_drain_and_the_protocol_that_they_have_then() {
    let mut scene = Scene::new();
    let log = Log::default();
    let ids = [(); 6].map(|()| scene.accept(&log, idle).0);
    let server = scene.world.connect_begins();
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    scene.event_loop.context().connect(address, protocol(&log, idle)).unwrap();
    log.take();
    let (set, started, rest) = (Log::default(), Log::default(), Log::default());
    let mut context = scene.event_loop.context();
    context.drain(GRACE);
    context.connection(ids[0]).unwrap().abort();
    context.connection(ids[1]).unwrap().close();
    context.connection(ids[2]).unwrap().set_protocol(protocol(&set, idle));
    context.connection(ids[3]).unwrap().start_protocol(protocol(&started, idle));
    let (noted, forgotten) = (rest.clone(), Log::default());
    context.connection(ids[4]).unwrap().detach(move |_, _| noted.push("detached"));
    context.connection(ids[5]).unwrap().set_protocol(protocol(&forgotten, |event, _| {
        assert!(!matches!(event, Event::Draining), "on purpose");
        0
    }));
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    server.answers();
    scene.world.event(&server, Readiness::WRITABLE);
    scene.settle();
    assert_eq!(set.take(), ["draining"]);
    assert_eq!(started.take(), ["made"], "it asks by itself");
    assert_eq!(rest.take(), ["detached"]);
    assert_eq!(forgotten.take(), ["draining", "lost: a callback panicked: on purpose"]);
    let log = log.take();
    assert!(!log.iter().any(|entry| entry == "draining"), "{log:?}");
    assert!(log.contains(&"made".to_owned()), "who is connected later asks: {log:?}");
}

#[test]
fn x3_a_shutdown_tells_nobody_that_the_loop_drains() {
    for drains_before in [false, true] {
        let mut scene = Scene::new();
        let log = Log::default();
        let (_, peer) = scene.accept(&log, says_goodbye);
        if drains_before {
            scene.event_loop.context().drain(GRACE);
        }
        scene.event_loop.shutdown(GRACE).unwrap();
        assert_eq!(log.take(), ["made", "lost: the loop was shut down"]);
        assert_eq!(peer.take_sent(), b"");
    }
}
