//! Rule G2: what a panicking signal handler affects, in loops on the real system.
//!
//! A signal goes to the whole process, so no other unit test uses these.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::signals::{Signal, add_signal_handler};
use crate::{EventLoop, PanicPolicy};

/// Raises a signal, which has been handled when this returns: it is sent to this very thread.
fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.as_raw()).unwrap();
}

/// A loop whose handler logs signals, and panics at the first one of `signals`.
fn panicking(policy: PanicPolicy, signals: [Signal; 2]) -> (EventLoop, Rc<RefCell<Vec<Signal>>>) {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_panic_policy(policy);
    let told = Rc::new(RefCell::new(Vec::new()));
    let noted = told.clone();
    add_signal_handler(&mut event_loop.context(), signals, move |_, signal| {
        noted.borrow_mut().push(signal);
        assert_ne!(signal, signals[0], "as the test wants it");
    })
    .unwrap();
    (event_loop, told)
}

/// Turns the loop, requires that `count` signals have been reported, and returns how many of the turns panicked.
#[track_caller]
fn turn_and_count_panics(event_loop: &mut EventLoop, told: &RefCell<Vec<Signal>>, count: usize) -> usize {
    let mut panics = 0;
    for _ in 0..10 {
        panics += usize::from(catch_unwind(AssertUnwindSafe(|| event_loop.turn(Some(Duration::ZERO)))).is_err());
    }
    assert_eq!(told.borrow().len(), count, "of {:?}", told.borrow());
    panics
}

#[test]
fn g2_a_handler_that_panics_hears_the_other_signals_and_its_own_again() {
    // By default neither signal does anything. Of pending signals the one with the lower number is reported first.
    let (bad, good) = (Signal::CONT, Signal::WINCH);
    for (policy, comes_out) in [(PanicPolicy::Isolate, 0), (PanicPolicy::Propagate, 1)] {
        let (mut event_loop, told) = panicking(policy, [bad, good]);
        // Both are pending when it panics.
        raise(bad);
        raise(good);
        assert_eq!(turn_and_count_panics(&mut event_loop, &told, 2), comes_out, "{policy:?}");
        assert_eq!(*told.borrow(), [bad, good]);
        for count in [3, 4] {
            raise(bad);
            assert_eq!(turn_and_count_panics(&mut event_loop, &told, count), comes_out, "{policy:?}");
        }
        raise(good);
        assert_eq!(turn_and_count_panics(&mut event_loop, &told, 5), 0, "{policy:?}");
        assert_eq!(event_loop.context().counters().panics, 3);
        assert_eq!(told.borrow()[2..], [bad, bad, good]);
    }
}
