//! The loop in another program: run, turned, woken, timed, with the program's own sources.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use switchboard::{
    AnyId, Completion, CompletionId, Context, Ended, EventLoop, Handle, LoopError, PanicPolicy, Protocol, TimerId,
};

#[test]
fn timers_are_called_in_order_and_cancelled() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut context = event_loop.context();
    let called = Rc::new(RefCell::new(Vec::new()));
    let note = |number: u32| {
        let called = called.clone();
        move |_: &mut Context<'_>| called.borrow_mut().push(number)
    };
    let start = context.now();
    context.call_later(Duration::from_millis(2), note(2));
    context.call_at(start, note(1));
    let cancelled: TimerId = context.call_later(Duration::ZERO, note(3));
    assert!(context.cancel_timer(cancelled));
    assert!(!context.cancel_timer(cancelled), "once is enough");
    let background = context.call_later(Duration::from_secs(3600), note(4));
    assert!(context.set_background(AnyId::Timer(background), true));
    event_loop.run_until_idle().unwrap();
    assert_eq!(*called.borrow(), [1, 2]);
    assert_eq!(event_loop.context().counters().timers_fired, 2);
    assert!(event_loop.context().now() >= start + Duration::from_millis(2));
}

#[test]
fn a_handle_stops_the_loop_from_another_thread() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle: Handle = event_loop.context().handle();
    let other = handle.clone();
    let thread = thread::spawn(move || {
        other.wake();
        other.stop();
    });
    event_loop.run().unwrap();
    thread.join().unwrap();
    handle.stop();
    event_loop.run().unwrap();
}

#[test]
fn another_thread_gives_what_a_call_waits_for() {
    let mut event_loop = EventLoop::new().unwrap();
    let answers = Rc::new(RefCell::new(Vec::new()));
    let wait = |context: &mut Context<'_>| -> Completion<u32> {
        let answers = answers.clone();
        context.completion(move |_, answer| answers.borrow_mut().push(answer)).unwrap()
    };
    let mut context = event_loop.context();
    let (given, dropped, cancelled) = (wait(&mut context), wait(&mut context), wait(&mut context));
    let id: CompletionId = cancelled.id();
    assert!(context.cancel_completion(id));
    thread::spawn(move || {
        given.complete(42).unwrap();
        drop(dropped);
        cancelled.complete(43).unwrap();
    });
    event_loop.run_until_idle().unwrap();
    assert_eq!(*answers.borrow(), [Some(42), None]);
}

#[test]
fn a_handle_ends_a_loop_that_tells_why_it_refuses() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.context().handle();
    assert!(handle.same_loop(&handle.clone()) && !handle.is_closed());
    handle.shutdown(Duration::ZERO);
    handle.drain(Duration::ZERO);
    event_loop.run().unwrap();
    event_loop.context().drain(Duration::ZERO);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let refused = event_loop.context().listen(address, |_, _| None::<Box<dyn Protocol>>).unwrap_err();
    assert_eq!(LoopError::of(&refused), Some(LoopError::Draining));
    drop(event_loop);
    assert!(handle.is_closed());
}

#[test]
fn a_loop_is_turned_by_hand() {
    let mut event_loop = EventLoop::new().unwrap();
    assert_eq!(event_loop.time_to_next(), None);
    event_loop.context().call_later(Duration::ZERO, |context| context.stop());
    assert_eq!(event_loop.time_to_next(), Some(Duration::ZERO));
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.time_to_next(), None);
    event_loop.run().unwrap();
    event_loop.context().drain(Duration::ZERO);
    assert!(event_loop.context().is_draining());
    assert_eq!(event_loop.drain(Duration::ZERO).unwrap(), Ended::Clean);
    assert!(event_loop.shutdown(Duration::ZERO).unwrap().is_clean());
    #[cfg(unix)]
    {
        use std::os::fd::{AsFd, AsRawFd};
        assert!(event_loop.as_fd().as_raw_fd() >= 0);
    }
}

#[test]
fn a_panic_comes_out_where_it_is_asked_to() {
    let mut event_loop = EventLoop::new().unwrap();
    for (policy, comes_out) in [(PanicPolicy::Isolate, false), (PanicPolicy::Propagate, true)] {
        event_loop.set_panic_policy(policy);
        event_loop.context().call_later(Duration::ZERO, |_| panic!("as the test wants it"));
        let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event_loop.run_until_idle()));
        assert_eq!(turned.is_err(), comes_out);
    }
    assert_eq!(event_loop.context().counters().panics, 2);
}

/// mio's pipes as sources: one is read to its end, one is removed again.
#[cfg(unix)]
#[test]
fn a_source_of_its_own_is_waited_for() {
    use std::cell::Cell;
    use std::io::{self, Read, Write};

    use mio::unix::pipe;
    use switchboard::mio::Interest;
    use switchboard::{Readiness, SourceAction, SourceId};

    fn read(receiver: &mut pipe::Receiver, received: &Cell<usize>) -> SourceAction {
        match receiver.read(&mut [0]) {
            Ok(0) => SourceAction::Remove,
            Ok(count) => {
                received.set(received.get() + count);
                SourceAction::Again
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SourceAction::Wait,
            Err(error) => panic!("{error}"),
        }
    }

    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    let mut context = event_loop.context();
    let received = Rc::new(Cell::new(0));
    let (mut sender, receiver) = pipe::new().unwrap();
    let count = received.clone();
    let handler = move |_: &mut Context<'_>, receiver: &mut pipe::Receiver, readiness: Readiness| {
        assert!(readiness.is_readable() || readiness.is_read_closed());
        read(receiver, &count)
    };
    let source: SourceId = context.register(receiver, Interest::READABLE, handler).unwrap();
    let (_open, idle) = pipe::new().unwrap();
    let other = context.register(idle, Interest::READABLE, |_, _, _| SourceAction::Wait).unwrap();
    assert!(context.set_background(source, true) && context.deregister(other) && !context.deregister(other));
    sender.write_all(b"three bytes").unwrap();
    while received.get() < 11 {
        event_loop.turn(Some(Duration::from_secs(10))).unwrap();
    }
    drop(sender);
    while event_loop.context().set_background(source, true) {
        event_loop.turn(Some(Duration::from_secs(10))).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_program_has_its_signals_by_name() {
    use switchboard::SourceId;
    use switchboard::signals::{Signal, add_signal_handler, drain_on_signals, shutdown_on_signals};

    let mut event_loop = EventLoop::new().unwrap();
    let mut context = event_loop.context();
    let handlers: [SourceId; 3] = [
        add_signal_handler(&mut context, [Signal::WINCH], |_, signal| println!("{signal}")).unwrap(),
        drain_on_signals(&mut context, Duration::ZERO).unwrap(),
        shutdown_on_signals(&mut context, Duration::ZERO).unwrap(),
    ];
    assert!(handlers.into_iter().all(|handler| context.deregister(handler)));
    // They are background.
    event_loop.run_until_idle().unwrap();
}
