//! Rule W4: at the cap of the whole loop, connections that hoard end, not those that are written to next.

use super::*;
use crate::filter::{Filter, Flow};
use crate::sys::script::Call;

const HOARDED: &str = "lost: too much output queued in the whole loop";

fn capped(bytes: usize) -> Scene {
    Scene::with_limits(LoopLimits::default().with_loop_queue_bytes_max(bytes))
}

/// A connection whose peer takes `room` bytes, and to which `bytes` are written.
fn hoarder(scene: &mut Scene, room: usize, bytes: usize) -> (ConnectionId, Peer, Log) {
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(room);
    scene.tell(id, |transport| transport.write(&vec![b'x'; bytes]));
    (id, peer, log)
}

/// Writes a byte to a connection whose peer takes everything, and returns whether the connection survives.
fn is_served(scene: &mut Scene) -> bool {
    let (_, peer, log) = hoarder(scene, usize::MAX, 1);
    peer.take_sent() == b"x" && log.take() == ["made"]
}

fn has_ended((_, peer, log): &(ConnectionId, Peer, Log)) -> bool {
    let ended = log.take().contains(&HOARDED.to_owned());
    assert_eq!(ended, peer.is_closed());
    ended
}

#[test]
fn w4_a_few_peers_that_ask_for_much_and_read_nothing_do_not_deny_the_service_to_others() {
    let mut scene = capped(100_000);
    let hoarders: Vec<_> = (0..3).map(|_| hoarder(&mut scene, 0, 50_000)).collect();
    for _ in 0..5 {
        assert!(is_served(&mut scene));
        scene.pass(SECOND);
    }
    let ended: Vec<_> = hoarders.iter().map(has_ended).collect();
    assert_eq!(ended, [true, true, false], "as many as it takes");
    assert_eq!(hoarders[0].1.take_calls().last(), Some(&Call::Reset), "by a reset (X5)");
}

#[test]
fn w4_5_000_small_queues_do_not_deny_the_service_either_and_are_not_looked_at_for_each_write() {
    // Each one counts 64 bytes more than its data.
    let cap = 5000 * 1064 - 1;
    let mut scene = capped(cap);
    let mut hoarders: Vec<_> = (0..5000).map(|_| hoarder(&mut scene, 0, 1000)).collect();
    scene.pass(2 * SECOND);
    for (_, peer, _) in &hoarders {
        peer.take_calls();
    }
    assert!(is_served(&mut scene));
    // An eighth has been freed, and until that is filled again no other connection ends.
    let tries: usize = hoarders.iter().map(|(_, peer, _)| peer.take_calls().len()).sum();
    hoarders.retain(|hoarder| !has_ended(hoarder));
    let left = cap / 8 * 7 / 1064;
    assert_eq!(hoarders.len(), left);
    for _ in 0..600 {
        assert!(is_served(&mut scene));
    }
    let tries_again: usize = hoarders.iter().map(|(_, peer, _)| peer.take_calls().len()).sum();
    assert_eq!((tries, tries_again), (5000 + 5000 - left, 0), "one try each, and the resets");
}

#[test]
fn w4_first_go_those_whose_peers_have_taken_nothing_for_a_second_the_largest_first() {
    let mut scene = capped(100_000);
    let stuck = [30_000, 40_000, 20_000].map(|bytes| hoarder(&mut scene, 0, bytes));
    scene.pass(SECOND);
    // This one is larger, but its peer has taken something a moment ago.
    let download = hoarder(&mut scene, 1000, 60_000);
    assert!(is_served(&mut scene));
    assert_eq!(stuck.each_ref().map(has_ended), [true, true, false]);
    assert!(!has_ended(&download));
    // If no peer is stuck, the largest one goes.
    let mut scene = capped(100_000);
    let long = [50_000, 60_000].map(|bytes| hoarder(&mut scene, 1000, bytes));
    assert!(is_served(&mut scene));
    assert_eq!(long.each_ref().map(has_ended), [false, true]);
}

#[test]
fn w4_those_below_their_low_mark_go_last() {
    let mut scene = capped(100_000);
    let long = hoarder(&mut scene, 0, 17_000);
    let short: Vec<_> = (0..6).map(|_| hoarder(&mut scene, 0, 16_000)).collect();
    assert!(is_served(&mut scene));
    assert!(has_ended(&long));
    assert_eq!(short.iter().map(has_ended).filter(|ended| *ended).count(), 1, "down to 7/8 of the cap");
}

#[test]
fn w4_a_queue_below_its_low_mark_goes_after_a_shorter_one_that_is_not() {
    let mut scene = capped(100_000);
    let short = hoarder(&mut scene, 0, 60_000);
    scene.tell(short.0, |transport| transport.set_write_marks(90_000, 60_064));
    let long = hoarder(&mut scene, 0, 41_000);
    assert!(is_served(&mut scene));
    assert_eq!((has_ended(&short), has_ended(&long)), (false, true));
}

#[test]
fn w4_a_large_download_that_is_taken_lasts_though_no_event_tells_that_there_is_room() {
    let mut scene = capped(100_000);
    let download = hoarder(&mut scene, 1000, 60_000);
    let stuck = [(); 2].map(|()| hoarder(&mut scene, 0, 30_000));
    // Its peer goes on reading, but its kernel does not report so little room.
    scene.pass(2 * SECOND);
    download.1.set_room(5000);
    assert!(is_served(&mut scene));
    assert!(!has_ended(&download));
    assert_eq!(stuck.each_ref().map(has_ended).iter().filter(|ended| **ended).count(), 1);
    assert_eq!(download.1.take_sent().len(), 6000, "it was sent to before it was judged");
}

/// Flips a bit of each byte.
struct Masked;

impl Filter for Masked {
    fn receive(&mut self, data: &mut [u8], _: &mut Flow<'_>) -> usize {
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(&data.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>());
        data.len()
    }
}

#[test]
fn w4_a_download_through_a_filter_is_tried_before_it_is_judged_too() {
    let mut scene = capped(400_000);
    let log = Log::default();
    let (id, peer) = scene.accept(&log, idle);
    peer.set_room(1000);
    scene.tell(id, |transport| {
        assert!(transport.set_filter(Masked));
        transport.write(&[b'x'; 250_000]);
    });
    let download = (id, peer, log);
    let stuck = [(); 2].map(|()| hoarder(&mut scene, 0, 100_000));
    scene.pass(2 * SECOND);
    download.1.set_room(150_000);
    assert!(is_served(&mut scene));
    assert!(!has_ended(&download));
    assert_eq!(stuck.each_ref().map(has_ended).iter().filter(|ended| **ended).count(), 1);
    let sent = download.1.take_sent();
    assert_eq!(sent.len(), 151_000, "more than stood filtered");
    assert!(sent.iter().all(|byte| *byte == b'y'), "all of it went through the filter");
    // The remaining ones go on as before.
    scene.make_room(&download.1, usize::MAX);
    assert_eq!(download.1.take_sent().len(), 99_000);
}

#[test]
fn w4_time_goes_on_for_those_that_are_judged_though_no_timer_is_set() {
    let mut scene = capped(100_000);
    let download = hoarder(&mut scene, 1000, 60_000);
    let writer = hoarder(&mut scene, 0, 30_000);
    scene.pass(10 * SECOND);
    // Both peers have taken something a moment ago.
    scene.make_room(&download.1, 100);
    scene.make_room(&writer.1, 100);
    assert_eq!(scene.event_loop.time_to_next(), None, "a timer would have the clock looked at");
    download.1.take_sent();
    // Two seconds pass within one turn, and the kernel does not report so little room.
    scene.world.advance(2 * SECOND);
    download.1.set_room(5000);
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(writer.0).unwrap();
    transport.write_owned(vec![b'x'; 20_000]);
    transport.write_owned(vec![b'x'; 20_000]);
    assert_eq!(download.1.take_sent().len(), 5000, "it was sent to before it was judged");
}

#[test]
fn w4_what_a_try_sends_may_be_enough_and_its_marks_are_told_later() {
    let mut scene = capped(100_000);
    let (_, peer, log) = hoarder(&mut scene, 0, 70_000);
    let other = hoarder(&mut scene, 0, 40_000);
    scene.pass(2 * SECOND);
    assert_eq!(log.take(), ["made", "pause"]);
    peer.set_room(usize::MAX);
    assert!(is_served(&mut scene));
    assert_eq!((log.take(), peer.take_sent().len(), has_ended(&other)), (vec!["resume".into()], 70_000, false));
}

#[test]
fn w4_who_hoards_may_be_the_one_that_writes() {
    let mut scene = capped(100_000);
    let (id, peer, log) = hoarder(&mut scene, 0, 100_001);
    let before = scene.event_loop.context().counters().late_writes;
    scene.tell(id, |transport| transport.write(b"more"));
    assert_eq!((log.take(), peer.is_closed()), (vec!["made".into(), "pause".into(), HOARDED.into()], true));
    assert_eq!(scene.event_loop.context().counters().late_writes, before + 1);
}

#[test]
fn w4_a_closing_connection_may_hoard_too() {
    let mut scene = capped(100_000);
    let closing = hoarder(&mut scene, 0, 100_001);
    scene.tell(closing.0, close);
    assert!(is_served(&mut scene));
    assert!(has_ended(&closing));
}

#[test]
fn w4_within_a_callback_nobody_else_is_called() {
    let mut scene = capped(100_000);
    let hoarders = [(); 2].map(|()| hoarder(&mut scene, 0, 60_000));
    let logs = hoarders.each_ref().map(|hoarder| hoarder.2.clone());
    logs.iter().for_each(|log| drop(log.take()));
    let seen = logs.clone();
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 30_000]);
            assert_eq!(seen.each_ref().map(Log::take), [[""; 0]; 2]);
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(logs.each_ref().map(|log| log.take().len()), [1, 0]);
    assert_eq!(peer.take_sent().len(), 30_000);
}

#[test]
fn w4_a_broadcast_at_the_cap_ends_those_who_do_not_read() {
    for size in [1000, 20_000] {
        let mut scene = capped(1_000_000);
        let members =
            |scene: &mut Scene, room, count: usize| -> Vec<_> { (0..count).map(|_| hoarder(scene, room, 1)).collect() };
        let (deaf, listening) = (members(&mut scene, 0, 60), members(&mut scene, usize::MAX, 5));
        let ids: Vec<_> = deaf.iter().chain(&listening).map(|member| member.0).collect();
        let payload = vec![b'x'; size];
        for _ in 0..200 {
            scene.pass(100 * MS);
            scene.event_loop.context().broadcast(ids.iter().copied(), &payload);
            scene.settle();
        }
        for (_, peer, log) in &listening {
            assert_eq!((log.take(), peer.take_sent().len()), (vec!["made".into()], 1 + 200 * size), "{size}");
        }
        assert!(deaf.iter().any(has_ended), "{size}");
    }
}

#[test]
fn w4_the_quick_path_is_left_near_the_cap_where_each_write_is_checked() {
    const PIECE: [u8; 50] = [b'x'; 50];
    let mut scene = capped(100_000);
    let large = hoarder(&mut scene, 0, 99_500);
    scene.pass(2 * SECOND);
    let lasted = Rc::new(RefCell::new(0));
    let (count, hoards) = (lasted.clone(), large.0);
    let (_, peer) = scene.accept(&Log::default(), move |event, transport| match event {
        Event::Data(data) => {
            for _ in 0..100 {
                transport.write(&PIECE);
                *count.borrow_mut() += usize::from(transport.connection(hoards).is_some());
            }
            data.len()
        }
        _ => 0,
    });
    peer.set_room(0);
    // A connection that has nothing queued is served quickly, unless the loop is near its cap.
    peer.sends("go");
    scene.world.event(&peer, Readiness::READABLE);
    scene.turn();
    assert!(has_ended(&large));
    let room = 100_000 - 99_500;
    assert!(*lasted.borrow() <= room / PIECE.len() + 2, "it lasted for {} writes beyond the cap", lasted.borrow());
}
