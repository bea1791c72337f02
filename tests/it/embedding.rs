//! The loop inside other programs: stopped from another thread, driven from another poll.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::support::{Echo, connect, event_loop, join, listen};

#[test]
fn l4_stop_from_another_thread_wakes_a_loop_that_sleeps() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    for _ in 0..100 {
        let handle = event_loop.context().handle();
        let client = thread::spawn(move || {
            let mut client = connect(address);
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            handle.stop();
            client
        });
        event_loop.run().unwrap();
        drop(join(client));
    }
    // A stop from before the run applies to it, two count as one, and the next run goes on.
    let handle = event_loop.context().handle();
    let stops = handle.clone();
    join(thread::spawn(move || {
        stops.stop();
        stops.stop();
    }));
    event_loop.run().unwrap();
    event_loop.context().call_later(Duration::ZERO, |context| context.stop());
    event_loop.run().unwrap();
    assert_eq!(event_loop.context().counters().timers_fired, 1, "it did not return before");
    drop(event_loop);
    // A handle outlives its loop, harmlessly.
    handle.stop();
}

/// The loop's descriptor in another poll: it becomes readable when the loop has something to do, and `time_to_next`
/// tells of the rest.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[test]
fn l5_a_loop_can_be_driven_from_another_one() {
    use std::os::fd::{AsFd, AsRawFd};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let mut outer = Poll::new().unwrap();
    let descriptor = event_loop.as_fd().as_raw_fd();
    outer.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
    let fired = std::rc::Rc::new(std::cell::Cell::new(false));
    let noted = fired.clone();
    event_loop.context().call_later(Duration::from_millis(30), move |_| noted.set(true));
    let client = thread::spawn(move || {
        let mut client = connect(address);
        for n in 0..100 {
            client.write_all(&[n]).unwrap();
            let mut back = [0];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, [n]);
        }
    });
    let mut events = Events::with_capacity(4);
    while !(client.is_finished() && fired.get()) {
        let patience = if client.is_finished() { Duration::from_secs(1) } else { crate::support::PATIENCE };
        let wait = event_loop.time_to_next().unwrap_or(patience).min(patience);
        outer.poll(&mut events, Some(wait)).unwrap();
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    join(client);
}

/// Carried-over work raises no event: only `time_to_next` tells that the loop needs another turn.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[test]
fn l5_work_that_is_carried_over_is_told_by_the_time() {
    use std::os::fd::{AsFd, AsRawFd};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use switchboard::{EventLoop, Limits};

    let mut event_loop = EventLoop::with_limits(Limits::default().with_read_bytes_per_turn_max(1)).unwrap();
    let address = listen(&mut event_loop, || Echo);
    let mut outer = Poll::new().unwrap();
    let descriptor = event_loop.as_fd().as_raw_fd();
    outer.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
    let client = thread::spawn(move || {
        let mut client = connect(address);
        client.write_all(&[7; 100]).unwrap();
        let mut back = [0; 100];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [7; 100]);
    });
    let mut events = Events::with_capacity(4);
    let mut waits_without_event = 0;
    let start = std::time::Instant::now();
    while event_loop.context().counters().connections_lost == 0 {
        let wait = event_loop.time_to_next().unwrap_or(crate::support::PATIENCE);
        outer.poll(&mut events, Some(wait)).unwrap();
        assert!(start.elapsed() < crate::support::PATIENCE, "it has work, and does not say so");
        waits_without_event += u32::from(events.is_empty());
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    join(client);
    assert!(waits_without_event >= 90, "a byte a turn, and an event for the first one only: {waits_without_event}");
}
