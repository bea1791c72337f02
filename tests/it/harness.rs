//! The test kit: one protocol in a harness.

use std::cell::RefCell;
use std::rc::Rc;

use switchboard::testing::{Harness, every_cut};
use switchboard::{CloseReason, Protocol, Transport};

use crate::support::{Echo, pattern};

#[test]
fn a_harness_shows_what_a_protocol_does() {
    let mut harness = Harness::new(Echo);
    harness.feed(b"hello");
    assert_eq!(harness.take_written(), b"hello");
    harness.end();
    assert!(matches!(harness.lost(), Some(CloseReason::PeerClosed)));
    assert!(harness.saw_end() && !harness.saw_reset());
}

#[test]
fn a_harness_tells_resets_both_ways() {
    let mut harness = Harness::new(Echo);
    harness.reset();
    assert!(matches!(harness.lost(), Some(CloseReason::Reset)));
    let mut harness = Harness::new(Echo);
    harness.transport().unwrap().abort();
    harness.settle();
    assert!(matches!(harness.lost(), Some(CloseReason::Aborted)));
    assert!(harness.saw_reset() && !harness.saw_end());
}

#[test]
fn a_harness_takes_more_than_the_buffers_hold() {
    let mut harness = Harness::new(Echo);
    harness.set_reading(false);
    harness.feed(&pattern(3_000_000));
    assert!(harness.transport().unwrap().queued_bytes() > 0);
    assert_eq!(harness.take_written(), b"");
    harness.set_reading(true);
    assert!(harness.take_written() == pattern(3_000_000));
}

#[test]
fn kit_the_end_comes_behind_all_that_was_fed_though_some_of_it_has_to_wait() {
    struct Pauses(Rc<RefCell<Vec<String>>>);

    impl Protocol for Pauses {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.pause_reading();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            self.0.borrow_mut().push(data.len().to_string());
            data.len()
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
            self.0.borrow_mut().push("eof".into());
            transport.close();
        }
    }

    let came = Rc::<RefCell<Vec<String>>>::default();
    let mut harness = Harness::new(Pauses(came.clone()));
    harness.feed(&pattern(3_000_000));
    harness.end();
    assert!(came.borrow().is_empty());
    harness.transport().unwrap().resume_reading();
    harness.settle();
    let came = came.take();
    assert_eq!(came.last().map(String::as_str), Some("eof"));
    assert_eq!(came.iter().filter_map(|count| count.parse::<usize>().ok()).sum::<usize>(), 3_000_000);
}

#[test]
fn every_cut_of_an_input_comes_back_the_same() {
    every_cut(b"cut me up\r\n", |pieces| {
        let mut harness = Harness::new(Echo);
        for piece in pieces {
            harness.feed(piece);
        }
        assert_eq!(harness.take_written(), b"cut me up\r\n");
    });
}

#[test]
#[should_panic(expected = "in a callback")]
fn an_assertion_in_a_callback_fails_the_test() {
    struct Fails;
    impl Protocol for Fails {
        fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
            panic!("in a callback");
        }
    }
    Harness::new(Fails).feed(b"x");
}
