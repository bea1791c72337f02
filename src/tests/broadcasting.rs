//! Broadcasts: for each connection as if the payload had been written to it alone, as far as anyone else can see.

use std::cell::RefCell;
use std::rc::Rc;

use super::life::{Numbers, SEND_FAILS, let_this_happen};
use super::*;
use crate::connection::output::LARGE_BYTES;
use crate::sys::script::Call;

/// Sends whatever arrives to everyone in a room.
fn talker(room: &Rc<RefCell<Vec<ConnectionId>>>, event: Event<'_>, transport: &mut Transport<'_>) -> usize {
    if let Event::Data(data) = event {
        transport.context().broadcast(room.borrow().iter(), data);
    }
    by_default(&event, transport)
}

/// A room with `count` members, all of which talk.
fn room(scene: &mut Scene, count: usize) -> (Rc<RefCell<Vec<ConnectionId>>>, Vec<Peer>) {
    let room = Rc::new(RefCell::new(Vec::new()));
    let mut peers = Vec::new();
    for _ in 0..count {
        let of = room.clone();
        let (id, peer) = scene.accept(&Log::default(), move |event, transport| talker(&of, event, transport));
        room.borrow_mut().push(id);
        peers.push(peer);
    }
    (room, peers)
}

#[test]
fn w1_what_is_broadcast_goes_out_in_one_call_to_each_before_the_loop_sleeps() {
    let mut scene = Scene::new();
    let (_, peers) = room(&mut scene, 5);
    for round in 0..3 {
        peers.iter().for_each(|peer| drop(peer.take_calls()));
        for (n, peer) in peers.iter().enumerate() {
            peer.sends(format!("line {n}\n"));
            scene.world.event(peer, Readiness::READABLE);
        }
        scene.turn();
        for peer in &peers {
            assert_eq!(peer.take_sent(), b"line 0\nline 1\nline 2\nline 3\nline 4\n", "round {round}");
            // Its own line does not take a separate send either.
            assert_eq!(peer.take_calls(), [Call::Read, Call::Write(35)], "round {round}");
        }
        assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
    }
}

#[test]
fn w1_the_same_written_to_one_after_the_other_goes_out_in_one_call_to_each() {
    let mut scene = Scene::new();
    let ids = Rc::new(RefCell::new(Vec::new()));
    let mut peers = Vec::new();
    for _ in 0..5 {
        let room = ids.clone();
        let (id, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(data) = event {
                for &id in room.borrow().iter() {
                    transport.context().connection(id).unwrap().write(data);
                }
            }
            by_default(&event, transport)
        });
        ids.borrow_mut().push(id);
        peers.push(peer);
    }
    // The same line from all of them is still one line from each.
    for lines in [["one\n", "two\n", "three\n", "four\n", "five\n"], ["same\n"; 5]] {
        for (peer, line) in peers.iter().zip(lines) {
            peer.sends(line);
            scene.world.event(peer, Readiness::READABLE);
        }
        scene.turn();
        for (n, peer) in peers.iter().enumerate() {
            assert_eq!(String::from_utf8(peer.take_sent()).unwrap(), lines.concat(), "to {n}");
            let sends = peer.take_calls().into_iter().filter(|call| matches!(call, Call::Write(_))).count();
            // When the first one's own callback returned, nobody had written to it yet.
            assert_eq!(sends, if n == 0 { 2 } else { 1 }, "to {n}");
        }
        assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
    }
}

/// How a payload is written to many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Broadcast,
    /// By id, so that the loop recognises the same payload.
    Writes,
    /// By id, so that it does not.
    WritesOwned,
}

/// A protocol that writes to members of a room, and now and then closes or aborts one, or panics.
fn member(log: &Log, room: &Rc<RefCell<Vec<ConnectionId>>>, seed: u64, way: Way) -> Box<dyn Protocol> {
    let (mut choices, room) = (Numbers(seed), room.clone());
    protocol(log, move |event, transport| {
        let mut room = room.borrow_mut();
        if let Event::Made = event {
            room.push(transport.id());
        }
        for _ in 0..choices.below(4) {
            let size = [1, 5, 50, 300, 20_000][choices.below(5) as usize];
            let payload = vec![b'a' + choices.below(20) as u8; size];
            // Most get it; some get it twice.
            let most = choices.below(10);
            let mut ids: Vec<_> = room.iter().copied().filter(|_| choices.below(10) >= most / 3).collect();
            ids.extend(room.get(choices.below(20) as usize));
            if way == Way::Broadcast {
                transport.context().broadcast(&ids, &payload);
                ids.clear();
            }
            for &id in &ids {
                match (transport.context().connection(id), way) {
                    (Some(mut other), Way::WritesOwned) => other.write_owned(payload.clone()),
                    (Some(mut other), _) => other.write(&payload),
                    (None, _) => {}
                }
            }
            if choices.below(3) == 0 {
                transport.write(b"own");
            }
        }
        let other = room[choices.below(room.len() as u64) as usize];
        if let Some(mut other) = transport.context().connection(other) {
            match choices.below(60) {
                0 => other.close(),
                1 => other.abort(),
                2 => other.shutdown_write(),
                3..=20 => other.write(b"other"),
                _ => {}
            }
        }
        assert!(choices.below(60) != 0, "as asked for");
        by_default(&event, transport)
    })
}

/// What is seen of a random scene: by each of five members after each step, what was sent to each in total, and the
/// counters.
struct Story {
    entries: Vec<Vec<String>>,
    sent: Vec<Vec<u8>>,
    counters: crate::Counters,
}

fn tell(seed: u64, way: Way, sends_fail: bool) -> Story {
    let idle = (seed % 4 < 2).then_some(1500 * MS);
    let limits = LoopLimits::from(Limits::default().with_queue_bytes_max(300_000).with_idle_timeout(idle))
        .with_loop_queue_bytes_max(900_000);
    let mut scene = Scene::with_limits(limits);
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (room, mut numbers, mut lives) = (Rc::default(), Numbers(seed), Vec::new());
    for n in 0..5 {
        let log = Log::default();
        let peer = scene.knock(Some(member(&log, &room, seed * 100 + n, way)));
        lives.push((log, peer));
    }
    scene.settle();
    let (mut entries, mut sent) = (Vec::new(), vec![Vec::new(); lives.len()]);
    for _ in 0..60 {
        // Several in one turn, and one to which anything happens.
        for _ in 0..numbers.below(4) {
            let (_, peer) = &lives[numbers.below(lives.len() as u64) as usize];
            if !peer.is_closed() {
                peer.sends("talk");
                scene.world.event(peer, Readiness::READABLE);
            }
        }
        let (_, peer) = &lives[numbers.below(lives.len() as u64) as usize];
        let what = numbers.below(12);
        if !peer.is_closed() && (sends_fail || what != SEND_FAILS) {
            let_this_happen(&mut scene, peer, &mut numbers, what);
        }
        scene.pass(Duration::from_millis(100 * numbers.below(10)));
        let core = &scene.event_loop.core;
        let mut total = 0;
        core.parts.slots.ids(&|_| true).iter().filter_map(|&id| core.parts.slots.connection(id)).for_each(
            |connection| {
                total += connection.queued_cost();
            },
        );
        assert_eq!((core.parts.outbox.queued(), core.parts.outbox.log().is_shared()), (total, false), "seed {seed}");
        for ((log, peer), sent) in lives.iter().zip(&mut sent) {
            entries.push(log.take());
            sent.extend(peer.take_sent());
        }
    }
    let counters = scene.event_loop.context().counters();
    assert_eq!(counters.bytes_sent, sent.iter().map(Vec::len).sum::<usize>() as u64, "seed {seed}");
    Story { entries, sent, counters }
}

#[test]
fn w1_a_broadcast_and_a_write_to_each_cannot_be_told_apart_whatever_happens() {
    for seed in 0..100 {
        let (sends_fail, way) = (seed % 2 == 0, [Way::Broadcast, Way::Writes][usize::from(seed % 3 == 0)]);
        let (broadcast, written) = (tell(seed, way, sends_fail), tell(seed, Way::WritesOwned, sends_fail));
        let entries = &written.entries;
        for (n, (broadcast, written)) in broadcast.entries.iter().zip(&written.entries).enumerate() {
            assert_eq!(broadcast, written, "seed {seed}, step {} of {}", n / 5, n % 5);
        }
        for (n, (broadcast, written)) in broadcast.sent.iter().zip(&written.sent).enumerate() {
            let cuts = |entry: &String| entry.starts_with("lost") && !entry.contains("closed");
            let is_cut_off = entries.iter().skip(n).step_by(5).flatten().any(cuts);
            // How much went out before it was cut off depends on when in the turn that was; which bytes they are does
            // not.
            let count = if is_cut_off { broadcast.len().min(written.len()) } else { usize::MAX };
            let first = |bytes: &[u8]| bytes[..count.min(bytes.len())].to_vec();
            assert!(first(broadcast) == first(written), "to {n} of seed {seed}");
        }
        let (broadcast, written) = (broadcast.counters, written.counters);
        assert_eq!(broadcast.losses, written.losses, "seed {seed}");
        // When a failing send is noticed depends on when in the turn it is tried; writes after that are late.
        assert!(sends_fail || broadcast.late_writes == written.late_writes, "seed {seed}");
    }
}

#[test]
fn w4_a_room_whose_turn_is_longer_than_the_cap_of_the_loop_is_cut_off_nowhere() {
    let mut scene = Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(100 * KIB));
    let (room, peers) = room(&mut scene, 10);
    let payload = vec![b'x'; 10 * KIB];
    for _ in 0..60 {
        assert_eq!(scene.event_loop.context().broadcast(room.borrow().iter(), &payload), 10);
    }
    // All of it, with its overhead, is within the cap, although the turn has not ended yet.
    assert!(scene.event_loop.core.parts.outbox.queued() <= 100 * KIB + 10 * (10 * KIB + 64));
    scene.settle();
    for peer in &peers {
        assert_eq!(peer.take_sent().len(), 60 * payload.len());
    }
    assert_eq!(scene.event_loop.core.parts.outbox.queued(), 0);
}

#[test]
fn w4_a_member_who_does_not_read_meets_its_cap_and_the_others_get_all() {
    let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(300 * KIB));
    let (room, peers) = room(&mut scene, 3);
    peers[0].set_room(0);
    for _ in 0..40 {
        scene.event_loop.context().broadcast(room.borrow().iter(), &[b'x'; 10 * KIB]);
        scene.settle();
    }
    assert!(peers[0].is_closed());
    assert!(peers[1..].iter().all(|peer| peer.take_sent().len() == 400 * KIB));
    assert_eq!(
        (scene.event_loop.context().counters().losses.limit, scene.event_loop.core.parts.outbox.queued()),
        (1, 0)
    );
}

#[test]
fn w5_a_broadcast_leaves_out_who_is_closing_or_gone() {
    let mut scene = Scene::new();
    let (room, peers) = room(&mut scene, 4);
    let ids = room.borrow().clone();
    scene.tell(ids[0], abort);
    let mut context = scene.event_loop.context();
    assert_eq!(context.broadcast(&ids, b"1"), 3);
    context.connection(ids[1]).unwrap().close();
    context.connection(ids[2]).unwrap().shutdown_write();
    // What it was sent before goes out first; this comes too late.
    assert_eq!((context.broadcast(&ids, b"2"), context.counters().late_writes), (1, 2));
    assert_eq!(context.broadcast(&ids, b""), 0);
    scene.settle();
    let sent: Vec<_> = peers.iter().map(Peer::take_sent).collect();
    assert_eq!(sent, [&b""[..], b"1", b"1", b"12"]);
}

#[test]
fn w4_of_a_large_broadcast_one_copy_is_kept_for_all_who_take_less() {
    let mut scene = Scene::new();
    let (room, peers) = room(&mut scene, 4);
    let payload: Vec<u8> = (0..100 * KIB).map(|n| (n / 7) as u8).collect();
    peers[1..].iter().enumerate().for_each(|(n, peer)| peer.set_room(n * 1000));
    let mut context = scene.event_loop.context();
    context.broadcast(room.borrow().iter(), b"before ");
    assert_eq!(context.broadcast(room.borrow().iter(), &payload), 4);
    context.broadcast(room.borrow().iter(), b" behind");
    for peer in &peers {
        scene.make_room(peer, usize::MAX);
        assert!(peer.take_sent() == [&b"before "[..], &payload, b" behind"].concat());
    }
}

#[test]
fn w3_what_broadcasts_have_grown_is_given_back() {
    let mut scene = Scene::new();
    let (room, _peers) = room(&mut scene, 100);
    for _ in 0..20 {
        scene.event_loop.context().broadcast(room.borrow().iter(), &[b'x'; 10 * KIB]);
    }
    // The log stays bounded meanwhile, and is gone soon after.
    assert!(scene.event_loop.core.parts.outbox.log().holds_memory());
    scene.pass(4 * SECOND);
    assert!(!scene.event_loop.core.parts.outbox.log().holds_memory());
}

#[test]
fn w3_the_log_begins_anew_each_turn_though_what_is_written_first_is_what_came_last() {
    let mut scene = Scene::new();
    let (room, peers) = room(&mut scene, 3);
    let lines = ["the end\n".into(), "a".repeat(100), "b".repeat(100), "the end\n".into()];
    for turn in 0..1000 {
        for line in &lines {
            for &id in room.borrow().iter() {
                scene.event_loop.context().connection(id).unwrap().write(line.as_bytes());
            }
        }
        assert!(scene.event_loop.core.parts.outbox.log().bytes() <= lines.concat().len(), "turn {turn}");
        scene.turn();
        assert!(peers.iter().all(|peer| peer.take_sent() == lines.concat().as_bytes()), "turn {turn}");
    }
}

#[test]
fn w1_what_stands_behind_a_share_that_could_not_be_sent_is_not_sent_either() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Data(_) = event {
            let id = transport.id();
            transport.context().broadcast([id], b"shared");
            transport.write(b"own");
            // This sends all shares.
            transport.context().broadcast(std::iter::empty::<ConnectionId>(), &[0; LARGE_BYTES]);
        }
        by_default(&event, transport)
    });
    peer.write_answers(Err(io::ErrorKind::BrokenPipe.into()));
    scene.receive(&peer, "x");
    assert_eq!((log.take().len(), peer.take_sent()), (3, vec![]), "made, data, lost");
}

#[test]
fn w4_near_its_cap_nobody_s_own_writes_wait_for_the_turn_s_end() {
    for limits in
        [Limits::default().with_queue_bytes_max(50_000).into(), LoopLimits::default().with_loop_queue_bytes_max(50_000)]
    {
        let mut scene = Scene::with_limits(limits);
        let (of_one, of_others) = (Log::default(), Log::default());
        let (id, peer) = scene.accept(&of_one, |event, transport| {
            if let Event::Data(_) = event {
                (0..9).for_each(|_| transport.write(&[b'o'; 5000]));
            }
            by_default(&event, transport)
        });
        let mut writes = |size: usize| {
            let write = move |event: Event<'_>, transport: &mut Transport<'_>| {
                if let Event::Data(_) = event {
                    transport.context().connection(id).unwrap().write(&vec![b'x'; size]);
                }
                by_default(&event, transport)
            };
            scene.accept(&of_others, write).1
        };
        let others = [writes(1), writes(10_000), writes(1)];
        for peer in [&others[0], &peer, &others[1], &others[2]] {
            peer.sends("x");
            scene.world.event(peer, Readiness::READABLE);
        }
        scene.settle();
        // In one turn it is more than the cap, but its peer takes everything.
        assert_eq!((of_one.take(), peer.take_sent().len()), (vec!["made".into(), "data x".into()], 55_002));
    }
}

#[test]
fn w4_a_share_counts_for_what_a_callback_may_gather_behind_it() {
    let end = Readiness::READABLE | Readiness::READ_CLOSED;
    // Of data and of the end of the stream, on the quick path and on the general one.
    for (sent, readiness) in [
        ("x", Readiness::READABLE),
        ("x", Readiness::READABLE | Readiness::PRIORITY),
        ("", end),
        ("", end | Readiness::PRIORITY),
    ] {
        let mut scene = Scene::with_limits(Limits::default().with_queue_bytes_max(300 * KIB));
        let most = Rc::new(RefCell::new(0));
        let noted = most.clone();
        let (id, peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Data(_) | Event::Eof(_) = event {
                for _ in 0..60 {
                    transport.write(&[0; 10 * KIB]);
                    let most = &mut *noted.borrow_mut();
                    *most = transport.queued_bytes().max(*most);
                }
            }
            by_default(&event, transport)
        });
        peer.set_room(0);
        for _ in 0..20 {
            scene.event_loop.context().broadcast([id], &[0; 10 * KIB]);
        }
        peer.sends(sent);
        scene.world.event(&peer, readiness);
        scene.settle();
        assert!(peer.is_closed(), "{sent:?}, {readiness:?}");
        // The cap and one write.
        assert!((290 * KIB..=310 * KIB).contains(&*most.borrow()), "{sent:?}, {readiness:?}: {most:?}");
    }
}

#[test]
fn x3_what_was_broadcast_before_the_loop_ends_goes_out_first() {
    const GRACE: Duration = Duration::from_secs(100);
    for ends in ["shutdown", "drain", "each"] {
        let mut scene = Scene::new();
        let room: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
        let (logs, mut peers): ([Log; 4], _) = (Default::default(), Vec::new());
        for log in &logs {
            let of = room.clone();
            let (id, peer) = scene.accept(log, move |event, transport| {
                if let Event::Data(data) = event {
                    let mut context = transport.context();
                    context.broadcast(of.borrow().iter(), data);
                    match ends {
                        "shutdown" => context.shutdown(GRACE),
                        "drain" => context.drain(GRACE),
                        _ => of.borrow().iter().for_each(|&id| context.connection(id).unwrap().close()),
                    }
                    context.broadcast(of.borrow().iter(), b", and no more");
                }
                by_default(&event, transport)
            });
            room.borrow_mut().push(id);
            peers.push(peer);
        }
        // One peer takes it bit by bit.
        peers[3].set_room(3);
        scene.receive(&peers[0], "the last words");
        scene.make_room(&peers[3], 100);
        peers.iter().for_each(|peer| scene.end(peer));
        let expected = if ends == "drain" { "the last words, and no more" } else { "the last words" };
        for (n, (peer, log)) in peers.iter().zip(&logs).enumerate() {
            assert_eq!(String::from_utf8(peer.take_sent()).unwrap(), expected, "{ends}, {n}");
            assert!(peer.is_closed() && !log.take().last().unwrap().contains("abort"), "{ends}, {n}");
        }
        assert!(!scene.event_loop.context().is_draining());
        assert_eq!(
            (scene.event_loop.core.parts.outbox.queued(), scene.event_loop.core.parts.outbox.log().is_shared()),
            (0, false)
        );
    }
}

#[test]
fn h1_a_goodbye_that_is_broadcast_at_the_peer_s_end_goes_out() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.accept(&log, |event, transport| {
        if let Event::Eof(_) = event {
            let id = transport.id();
            transport.context().broadcast([id], b"bye");
        }
        by_default(&event, transport)
    });
    scene.end(&peer);
    assert_eq!(
        (log.take(), peer.take_sent()),
        (vec!["made".into(), "eof".into(), "lost: closed by the peer".into()], b"bye".to_vec())
    );
    assert!(!peer.take_calls().contains(&Call::Reset));
}

#[test]
fn e1_ids_that_panic_leave_a_broadcast_whole_for_who_came_before() {
    let mut scene = Scene::new();
    let (room, peers) = room(&mut scene, 3);
    let ids = room.borrow().clone();
    let mut context = scene.event_loop.context();
    context.broadcast(&ids, b"1");
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        context.broadcast(ids.iter().inspect(|&&id| assert!(id != ids[2], "as asked for")), b"2")
    }));
    assert!(cut.is_err());
    context.broadcast(&ids, b"3");
    scene.settle();
    let sent: Vec<_> = peers.iter().map(Peer::take_sent).collect();
    assert_eq!(
        (sent, scene.event_loop.core.parts.outbox.queued()),
        (vec![b"123".to_vec(), b"123".to_vec(), b"13".to_vec()], 0)
    );
}
