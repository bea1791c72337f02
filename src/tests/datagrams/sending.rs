//! Sending datagrams: the queue, its marks and bounds, and what goes wrong with it (rule U1).

use super::*;

#[test]
fn u1_who_sends_again_when_refused_stops_nobody() {
    let mut network = Network::new(0, Faults::none());
    let (host, log) = (network.host(), Log::default());
    let to = network.datagram_peer(9).unwrap().local_addr();
    let again = |event: &Event<'_>, transport: &mut DatagramTransport<'_>| {
        if let Event::Made | Event::Error(_) = event {
            transport.send(b"again");
        }
    };
    network.context(host).connect_datagram(to, Recorder { log: log.clone(), act: again }).unwrap();
    network.context(host).call_later(Duration::ZERO, |context| context.stop());
    network.event_loop(host).run().unwrap();
    assert!(log.take().len() < 5);
}

/// Sends more than the system takes while nothing arrives.
pub(super) fn fill(world: &mut World, count: usize) {
    let to = world.peer_address();
    world.with(|transport| (0..count).for_each(|n| transport.send_to(&[n as u8; 10_000], &to)));
}

#[test]
fn u1_the_queue_has_marks_and_keeps_the_order() {
    let limits = Limits::default().with_queue_bytes_high(50_000).with_queue_bytes_low(20_000);
    let mut world = world(limits, idle);
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 30);
    assert!(world.with(|transport| transport.queued_bytes()) > 50_000);
    assert!(world.queued() > 50_000);
    world.network.run_for(MS);
    assert_eq!(world.log.take(), ["pause"]);
    assert_eq!(world.rest(), ["resume"]);
    let received: Vec<_> = world.received().iter().map(|data| data[0]).collect();
    // Datagrams that the peer has no room for are lost, not queued forever.
    assert!(received.len() > 20 && received.is_sorted(), "{received:?}");
    assert_eq!((world.queued(), world.with(|transport| transport.queued_bytes())), (0, 0));
    // A change of the mark is checked, too.
    fill(&mut world, 30);
    world.with(|transport| transport.set_write_marks(1_000_000, 1_000_000));
    world.network.run_for(MS);
    assert_eq!(world.log.take(), [] as [&str; 0]);
    world.with(|transport| transport.set_write_marks(10, 10));
    assert_eq!(world.rest(), ["pause", "resume"]);
}

#[test]
fn u1_once_nothing_waits_no_datagram_that_has_left_wakes_the_loop() {
    let mut world = world(Limits::default(), echo);
    world.rest();
    let cost_of_an_echo = |world: &mut World| {
        let before = world.network.turns();
        world.send(b"hello");
        world.rest();
        world.network.turns() - before
    };
    let before = cost_of_an_echo(&mut world);
    world.slow(SECOND);
    fill(&mut world, 30);
    world.rest();
    world.received();
    assert_eq!(cost_of_an_echo(&mut world), before);
}

#[test]
fn u1_a_low_mark_of_zero_is_reached() {
    let mut world = world(Limits::default().with_queue_bytes_high(0).with_queue_bytes_low(7), idle);
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 30);
    assert_eq!(world.rest(), ["pause", "resume"]);
}

#[test]
fn u1_what_is_sent_while_the_queue_is_sent_comes_behind_it() {
    let mut world = world(Limits::default().with_datagrams_per_turn_max(2), |event, transport| {
        if let Event::Datagram(_, from) = event {
            transport.send_to(&[99], from);
        }
    });
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 30);
    // It arrives when the others have left the queue.
    world.send(b"answer me");
    world.network.run_for(SECOND * 3 / 2);
    let mut received = world.received();
    world.rest();
    received.extend(world.received());
    assert_eq!(received.len(), 30, "one found no room with the peer");
    let first_bytes: Vec<_> = received.iter().map(|data| data[0]).collect();
    assert!(first_bytes.is_sorted() && first_bytes.ends_with(&[99]), "{first_bytes:?}");
}

#[test]
fn u1_the_queue_is_bounded_and_tells_what_it_drops() {
    let each = Limits::default().with_queue_bytes_high(1 << 20);
    for limits in
        [each.clone().with_queue_bytes_max(30_000).into(), LoopLimits::from(each).with_loop_queue_bytes_max(30_000)]
    {
        let mut world = world(limits, idle);
        world.rest();
        world.slow(SECOND);
        fill(&mut world, 100);
        let queued = world.with(|transport| transport.queued_bytes());
        assert!((30_000..=40_000).contains(&queued), "{queued}");
        world.network.run_for(MS);
        let noted = world.log.take();
        assert_eq!(noted.len(), 1);
        assert!(noted[0].ends_with(" datagrams dropped unsent"), "{noted:?}");
        // The datagrams it drops were the last to come.
        world.network.run_for(SECOND);
        let mut received = world.received();
        world.network.run_for(SECOND);
        received.extend(world.received());
        let firsts: Vec<_> = received.iter().map(|data| data[0]).collect();
        assert!(firsts.iter().all(|first| *first < 30) && firsts.contains(&24), "{firsts:?}");
        // It goes on as before.
        assert_eq!(world.rest(), [] as [&str; 0]);
        let to = world.peer_address();
        world.received();
        world.with(|transport| transport.send_to(b"on", &to));
        world.rest();
        assert_eq!(world.received(), [b"on"]);
    }
}

/// Makes a connection hoard output that its peer does not take.
fn hoard(world: &mut World) -> crate::testing::Peer {
    struct Hoards;
    impl crate::Protocol for Hoards {
        fn connection_made(&mut self, transport: &mut crate::Transport<'_>) {
            transport.write(&[0; 1_000_000]);
        }

        fn data_received(&mut self, _: &mut crate::Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let at = world.network.address(world.host, 80);
    world.network.context(world.host).listen(at, |_, _| Some(Hoards)).unwrap();
    let mut peer = world.network.peer(at);
    peer.stall();
    world.rest();
    assert!(world.queued() > 100_000);
    peer
}

#[test]
fn u1_no_datagram_is_dropped_for_what_connections_hoard() {
    let mut world = world(
        LoopLimits::from(Limits::default().with_queue_bytes_high(1 << 20)).with_loop_queue_bytes_max(100_000),
        idle,
    );
    let _peer = hoard(&mut world);
    world.slow(SECOND);
    fill(&mut world, 28);
    let queued = world.with(|transport| transport.queued_bytes());
    assert!(queued > 0, "the system takes less than that at once");
    assert_eq!(world.rest(), [] as [&str; 0], "none is dropped");
    let host = world.host;
    assert_eq!(world.network.context(host).connection_count(), 0, "it is the connection that ends");
}

#[test]
fn u1_a_socket_whose_only_datagram_was_dropped_sends_again() {
    let mut world = world(LoopLimits::default().with_loop_queue_bytes_max(1000), idle);
    let (other, to) = (world.network.address(world.host, 8), world.peer_address());
    let recorder = Recorder { log: Log::default(), act: idle };
    let other = world.network.context(world.host).bind_datagram(other, recorder).unwrap();
    world.rest();
    world.slow(SECOND);
    // It has filled the loop's queues, and its queued datagrams are dropped for those that the other one sends.
    let fill = |transport: &mut DatagramTransport<'_>| (0..6).for_each(|_| transport.send_to(&[0; 60_000], &to));
    world.with(fill);
    assert_eq!(world.with(|transport| transport.queued_bytes()), 60_000);
    fill(&mut world.network.context(world.host).datagram(other).unwrap());
    assert_eq!(world.with(|transport| transport.queued_bytes()), 0);
    world.rest();
    world.received();
    world.with(|transport| transport.send_to(b"on", &to));
    world.rest();
    assert_eq!(world.received(), [b"on"]);
}

#[test]
fn u1_empty_datagrams_in_the_queue_count_too() {
    let mut world = world(Limits::default().with_queue_bytes_max(10_000), idle);
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 23);
    let to = world.peer_address();
    world.with(|transport| (0..10_000).for_each(|_| transport.send_to(b"", &to)));
    world.network.run_for(MS);
    let noted = world.log.take();
    let dropped = noted[0].strip_prefix("error: ").and_then(|line| line.split(' ').next()?.parse().ok());
    assert!(dropped.is_some_and(|count: u64| count > 9_000), "{noted:?}");
}

#[test]
fn u1_a_send_error_does_not_stop_what_waits_behind_it() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 22);
    let to = world.peer_address();
    world.with(|transport| {
        transport.send_to(&vec![7; 70_000], &to);
        transport.send_to(b"behind it", &to);
    });
    let noted = world.rest();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(world.received().last().unwrap(), b"behind it");
}

#[test]
fn u1_close_sends_what_waits_but_not_for_ever() {
    let late = "lost: the peer did not take the remaining output in time";
    for (time, expected) in
        [(SECOND, vec!["lost: closed by us"]), (SECOND * 60, vec!["error: 3 datagrams dropped unsent", late])]
    {
        let mut world = world(Limits::default(), idle);
        world.rest();
        world.slow(time);
        fill(&mut world, 25);
        world.with(|transport| {
            transport.close();
            assert!(transport.is_closing(), "though its socket is open until all is sent");
        });
        // If it closes, nothing more is delivered.
        world.slow(Duration::ZERO);
        world.send(b"too late");
        world.network.run_for(SECOND / 2);
        assert_eq!(world.log.take(), [] as [&str; 0]);
        if time == SECOND {
            // Its deadline goes with it.
            world.network.run_for(SECOND * 4);
            assert_eq!(world.network.event_loop(world.host).time_to_next(), None);
        }
        world.network.run_for(SECOND * 10);
        assert_eq!(world.log.take(), expected);
        assert_eq!(world.queued(), 0);
        assert_eq!(world.network.event_loop(world.host).time_to_next(), None, "no timer is left");
    }
    let mut world = world(Limits::default(), idle);
    world.slow(SECOND * 60);
    fill(&mut world, 25);
    world.with(|transport| transport.abort());
    world.network.run_for(SECOND);
    assert_eq!(world.log.take(), [] as [&str; 0], "it was never made");
    assert_eq!(world.queued(), 0);
}

#[test]
fn u1_an_end_tells_how_many_datagrams_were_not_sent() {
    let late = "lost: the peer did not take the remaining output in time";
    for (end, expected) in [
        ("close", late),
        ("abort", "lost: aborted by us"),
        ("shutdown", "lost: the loop was shut down"),
        ("drop", "lost: the loop was shut down"),
    ] {
        let mut world = world(Limits::default().with_queue_bytes_max(50_000), idle);
        world.rest();
        world.slow(SECOND * 60);
        // More than the kernel takes, and more than the queue has room for.
        fill(&mut world, 100);
        let to = world.peer_address();
        match end {
            "close" => world.with(|transport| {
                transport.send_to(&[0; 70_000], &to);
                transport.close();
                transport.send_to(b"too late", &to);
            }),
            "abort" => world.with(|transport| transport.abort()),
            "shutdown" => world.network.context(world.host).shutdown(SECOND),
            _ => world.network.drop_loop(world.host),
        }
        world.network.run_for(SECOND * 10);
        // The kernel has taken 22, and one more was sent before the close.
        let missing = 78 + usize::from(end == "close");
        assert_eq!(world.log.take(), [&format!("error: {missing} datagrams dropped unsent"), expected], "{end}");
    }
}

#[test]
fn u1_what_went_wrong_while_it_closed_is_told_before_its_end() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.slow(SECOND);
    fill(&mut world, 25);
    let to = world.peer_address();
    world.with(|transport| {
        transport.send_to(&[0; 70_000], &to);
        transport.close();
    });
    let noted = world.rest();
    assert_eq!(noted.len(), 2, "{noted:?}");
    assert!(noted[0].starts_with("error: cannot send to "), "{noted:?}");
    assert_eq!(noted[1], "lost: closed by us");
}

#[test]
fn u1_a_callback_that_closes_on_the_first_error_is_told_of_the_others_too() {
    let mut world = world(Limits::default(), |event, transport| {
        if let Event::Error(_) = event {
            transport.close();
        }
    });
    world.rest();
    let to = world.peer_address();
    world.with(|transport| (0..3).for_each(|_| transport.send_to(&[0; 70_000], &to)));
    let noted = world.rest();
    assert_eq!(noted.iter().filter(|line| line.starts_with("error: cannot send to ")).count(), 3, "{noted:?}");
    assert_eq!(noted[3..], ["lost: closed by us"]);
}

#[test]
fn u1_a_panic_on_hearing_of_what_was_lost_changes_nothing_about_the_end() {
    let mut world = world(Limits::default(), |event, _| {
        if let Event::Error(_) = event {
            panic!("as the test wants it");
        }
    });
    world.network.event_loop(world.host).set_panic_policy(PanicPolicy::Isolate);
    world.rest();
    world.slow(SECOND * 60);
    fill(&mut world, 25);
    world.with(|transport| transport.abort());
    assert_eq!(world.rest(), ["error: 3 datagrams dropped unsent", "lost: aborted by us"]);
}

#[test]
fn u1_of_many_sends_that_fail_at_once_some_are_told_one_by_one_and_all_are_counted() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    let to = world.peer_address();
    let is_too_long = vec![0; 70_000];
    world.with(|transport| (0..100).for_each(|_| transport.send_to(&is_too_long, &to)));
    let noted = world.rest();
    let (told, counted) = noted.split_at(noted.len() - 1);
    assert!(told.iter().all(|line| line.starts_with(&format!("error: cannot send to {to}: "))), "{noted:?}");
    assert!((1..100).contains(&told.len()));
    assert_eq!(counted, [format!("error: {} datagrams dropped unsent", 100 - told.len())]);
}
