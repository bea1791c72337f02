//! Failing receives: tried again at once if each error is reported once, and later if the error persists (rule U1).

use std::io;

use super::*;

impl World {
    fn fail_receives(&mut self, count: usize, error: impl Fn() -> io::Error) {
        (0..count).for_each(|_| self.network.fail_receive(self.address, error()).unwrap());
    }

    /// Runs for this long; returns how many turns that took, and what the protocol has logged.
    fn run(&mut self, time: Duration) -> (u64, Vec<String>) {
        let before = self.network.turns();
        self.network.run_for(time);
        (self.network.turns() - before, self.log.take())
    }

    fn has_timer(&mut self) -> bool {
        self.network.event_loop(self.host).time_to_next().is_some()
    }
}

/// Makes receives fail from now on.
fn failing() -> Faults {
    Faults::none().with_failing_receives_permille(1000)
}

fn errors(noted: &[String]) -> usize {
    noted.iter().filter(|line| line.starts_with("error: socket error: ")).count()
}

#[test]
fn u1_a_receive_that_goes_on_failing_backs_off_from_10_ms_to_1_s() {
    let mut world = world(Limits::default(), echo);
    world.rest();
    for _ in 0..2 {
        world.network.set_faults(failing());
        world.send(b"hello");
        let mut told = Vec::new();
        let begin = world.network.now();
        while told.len() < 10 {
            let (turns, noted) = world.run(MS);
            assert!(turns < 4, "{turns} turns in a millisecond");
            assert_eq!(errors(&noted), noted.len(), "{noted:?}");
            told.extend(noted.iter().map(|_| (world.network.now() - begin).as_millis() as u64));
        }
        assert_eq!(told, [1, 10, 30, 70, 150, 310, 630, 1270, 2270, 3270], "by the end of which millisecond");
        // Once receives work, everything is received, and the next failure starts from the beginning.
        world.network.set_faults(Faults::none());
        assert_eq!(world.run(SECOND).1, ["got hello"]);
        assert_eq!(world.received(), [b"hello"]);
        assert!(!world.has_timer());
    }
}

#[test]
fn u1_a_failing_receive_keeps_nothing_from_being_sent() {
    let mut world = world(Limits::default(), echo);
    world.rest();
    world.network.set_faults(failing());
    world.send(b"hello");
    world.run(SECOND);
    let to = world.peer_address();
    world.with(|transport| transport.send_to(b"all the same", &to));
    world.run(MS);
    assert_eq!(world.received(), [b"all the same"]);
}

#[test]
fn u1_errors_that_are_told_once_each_are_read_on_at_once() {
    let mut world = world(Limits::default().with_datagrams_per_turn_max(2), idle);
    world.rest();
    world.fail_receives(10, || io::ErrorKind::ConnectionRefused.into());
    world.send(b"behind them");
    let noted = world.rest();
    assert_eq!(world.network.now(), Duration::ZERO);
    assert_eq!((errors(&noted), noted.last().map(String::as_str)), (10, Some("got behind them")), "{noted:?}");
    // A datagram in between resets the count.
    for _ in 0..10 {
        world.fail_receives(10, || io::ErrorKind::ConnectionRefused.into());
        world.send(b"behind them");
        assert_eq!(world.rest().len(), 11);
    }
    assert_eq!(world.network.now(), Duration::ZERO);
}

#[test]
fn u1_errors_without_an_end_are_not_read_on_without_an_end() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.fail_receives(100_000, || io::ErrorKind::ConnectionRefused.into());
    let (turns, noted) = world.run(SECOND * 10);
    assert!((10..50).contains(&errors(&noted)) && turns < 100, "{} errors in {turns} turns", noted.len());
}

#[test]
fn u1_who_has_paused_a_socket_hears_nothing_of_it_though_its_receives_fail() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.network.set_faults(failing());
    world.send(b"hello");
    assert_eq!(errors(&world.run(MS).1), 1);
    world.with(|transport| transport.pause_reading());
    let (turns, noted) = world.run(SECOND * 10);
    assert!(noted.is_empty() && turns < 5, "{noted:?} in {turns} turns");
    assert!(!world.has_timer());
    // Resuming triggers a try, which fails, and another one later.
    world.with(|transport| transport.resume_reading());
    assert_eq!(errors(&world.run(MS).1), 1);
    world.with(|transport| {
        transport.pause_reading();
        transport.resume_reading();
    });
    assert_eq!(world.run(MS).1, [""; 0], "it has not waited for long enough");
    world.network.set_faults(Faults::none());
    assert_eq!(world.run(SECOND).1, ["got hello"]);
}

#[test]
fn u1_a_socket_that_ends_while_its_receives_fail_leaves_no_timer() {
    for end in ["close", "abort", "shutdown", "drop"] {
        let mut world = world(Limits::default(), idle);
        world.rest();
        world.network.set_faults(failing());
        world.send(b"hello");
        // Late enough for the wait to be long.
        assert!(errors(&world.run(SECOND).1) > 5);
        match end {
            "close" => world.with(|transport| transport.close()),
            "abort" => world.with(|transport| transport.abort()),
            "shutdown" => world.network.context(world.host).shutdown(SECOND),
            _ => {
                world.network.drop_loop(world.host);
                assert_eq!(world.log.take(), ["lost: the loop was shut down"]);
                continue;
            }
        }
        let (_, noted) = world.run(MS);
        assert!(noted.len() == 1 && noted[0].starts_with("lost: "), "{end}: {noted:?}");
        assert!(!world.has_timer(), "{end}");
    }
}

#[test]
fn u1_a_socket_says_whether_it_reads_and_what_it_was_set_to() {
    let mut world = world(Limits::default().with_queue_bytes_high(100).with_queue_bytes_low(10), echo);
    world.rest();
    world.with(|transport| {
        assert!(transport.is_reading() && !transport.is_closing());
        assert_eq!(transport.write_marks(), (100, 10));
        transport.pause_reading();
        transport.set_write_marks(50, 70);
        transport.set_datagram_bytes_max(9);
        assert!(!transport.is_reading() && !transport.is_closing());
        assert_eq!((transport.write_marks(), transport.limits().datagram_bytes_max), ((50, 50), 9));
        transport.resume_reading();
        assert!(transport.is_reading());
        transport.close();
        assert!(!transport.is_reading() && transport.is_closing());
    });
}

#[test]
fn u1_an_error_that_says_that_there_is_no_socket_ends_it_at_once() {
    let mut world = world(Limits::default(), idle);
    world.rest();
    world.fail_receives(1, || io::Error::from_raw_os_error(errno::EINVAL));
    world.send(b"behind it");
    let noted = world.rest();
    assert!(noted.len() == 1 && noted[0].starts_with("lost: "), "{noted:?}");
    assert!(world.network.context(world.host).datagram(world.id).is_none());
}
