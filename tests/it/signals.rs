//! Signals as events of the loop (rule G2).
//!
//! A signal affects the whole process, so each test here uses its own signals, and raises them only while they have a
//! handler. Signals that end a process are tested in a child.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use switchboard::signals::{Signal, add_signal_handler, drain_on_signals, shutdown_on_signals};
use switchboard::{EventLoop, PanicPolicy};

use crate::process::{Process, wait_until};
use crate::support::{Echo, PATIENCE, connect, event_loop, listen, turn_until};

/// It has been handled when this returns: it is sent to this very thread.
fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.as_raw()).unwrap();
}

/// A loop that notes which of these signals come.
fn noting(signals: impl IntoIterator<Item = Signal>) -> (EventLoop, Rc<RefCell<Vec<Signal>>>) {
    let mut event_loop = event_loop();
    let told = Rc::new(RefCell::new(Vec::new()));
    let noted = told.clone();
    add_signal_handler(&mut event_loop.context(), signals, move |_, signal| noted.borrow_mut().push(signal)).unwrap();
    (event_loop, told)
}

#[test]
fn g2_a_burst_is_told_once_and_none_of_a_kind_is_lost() {
    let (mut event_loop, told) = noting([Signal::HUP, Signal::ALRM]);
    for round in 1..=3 {
        for _ in 0..500 {
            raise(Signal::ALRM);
            raise(Signal::HUP);
        }
        turn_until(&mut event_loop, |_| told.borrow().len() == 2 * round);
        // Nothing more comes.
        event_loop.turn(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(told.borrow()[2 * round - 2..], [Signal::HUP, Signal::ALRM]);
    }
}

#[test]
fn g2_two_loops_that_want_the_same_signal_both_get_it() {
    let [(mut one, of_one), (mut other, of_other)] = [noting([Signal::USR2]), noting([Signal::USR2])];
    raise(Signal::USR2);
    turn_until(&mut one, |_| of_one.borrow().len() == 1);
    turn_until(&mut other, |_| of_other.borrow().len() == 1);
    // Still wanted, by one: it does not end the process.
    drop(one);
    raise(Signal::USR2);
    turn_until(&mut other, |_| of_other.borrow().len() == 2);
}

#[test]
fn g2_a_handler_that_removes_itself_is_not_called_again() {
    let mut event_loop = event_loop();
    let told = Rc::new(RefCell::new(Vec::new()));
    let noted = told.clone();
    let id = Rc::new(RefCell::new(None));
    let own = id.clone();
    // By default both are ignored, and nobody else sends them. One for SIGCHLD would stay in this process, and interrupt
    // what other tests wait for whenever a child of theirs ends.
    let signals = [Signal::WINCH, Signal::CONT];
    *id.borrow_mut() = add_signal_handler(&mut event_loop.context(), signals, move |context, signal| {
        noted.borrow_mut().push(signal);
        assert!(context.deregister(own.borrow_mut().take().unwrap()));
    })
    .ok();
    raise(Signal::CONT);
    raise(Signal::WINCH);
    turn_until(&mut event_loop, |_| !told.borrow().is_empty());
    for _ in 0..3 {
        event_loop.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(told.borrow().len(), 1);
}

#[test]
fn g2_handlers_are_background_and_refused_while_the_loop_shuts_down() {
    let (mut event_loop, _) = noting([Signal::WINCH]);
    event_loop.run_until_idle().unwrap();
    let refused = add_signal_handler(&mut event_loop.context(), [], |_, _| {}).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    event_loop.context().shutdown(Duration::ZERO);
    let refused = add_signal_handler(&mut event_loop.context(), [Signal::WINCH], |_, _| {}).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn signals_have_names_and_numbers() {
    assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    assert_eq!(Signal::from_raw(Signal::WINCH.as_raw()), Some(Signal::WINCH));
    for number in [-1, 0, 9, 11, 13, 1000] {
        assert_eq!(Signal::from_raw(number), None, "{number}");
    }
}

// In a process of its own.

const CHILD: &str = "SWITCHBOARD_TEST_SIGNALS_CHILD";

/// Signals that end a process by default.
const END_A_PROCESS: [Signal; 6] = [Signal::HUP, Signal::INT, Signal::USR1, Signal::USR2, Signal::ALRM, Signal::TERM];

/// Longer than any test waits: a process that ends earlier has not waited for it.
const GRACE: Duration = Duration::from_secs(1000);

fn start(scene: &str) -> Process {
    let mut command = Process::command("signals::the_child_of_g2");
    command.env(CHILD, scene);
    Process::start(command)
}

/// Waits until nobody listens there any more. Connections that are still accepted are dropped.
#[track_caller]
fn wait_until_refused(address: SocketAddr) {
    wait_until(|| TcpStream::connect(address).err());
}

/// What the child does, by the name of the scene.
#[test]
fn the_child_of_g2() {
    let Some(scene) = std::env::var_os(CHILD) else { return };
    let mut event_loop = event_loop();
    event_loop.set_panic_policy(PanicPolicy::Isolate);
    let mut context = event_loop.context();
    // Only a signal can end it now, in time.
    let wait = || thread::sleep(PATIENCE * 2);
    match scene.to_str().unwrap() {
        "drains" => {
            drain_on_signals(&mut context, GRACE).unwrap();
            serve(event_loop);
        }
        "shuts down" => {
            shutdown_on_signals(&mut context, GRACE).unwrap();
            serve(event_loop);
        }
        "dropped" => {
            drain_on_signals(&mut context, GRACE).unwrap();
            drop(event_loop);
            eprintln!("gone");
            wait();
        }
        "deregistered" => {
            let id = drain_on_signals(&mut context, GRACE).unwrap();
            context.deregister(id);
            event_loop.turn(Some(Duration::ZERO)).unwrap();
            eprintln!("gone");
            wait();
        }
        "again" => {
            drain_on_signals(&mut context, GRACE).unwrap();
            drop(event_loop);
            let (mut event_loop, told) = noting([Signal::TERM]);
            eprintln!("there");
            turn_until(&mut event_loop, |_| !told.borrow().is_empty());
            std::process::exit(7);
        }
        "ends again and again" => {
            for signal in END_A_PROCESS {
                let (mut event_loop, told) = noting([signal]);
                // Handled by a thread that may still be at it when the loop has been told, and is gone.
                let other = thread::spawn(move || raise(signal));
                turn_until(&mut event_loop, |_| !told.borrow().is_empty());
                drop(event_loop);
                other.join().unwrap();
            }
            std::process::exit(5);
        }
        "panics" => {
            panic_at_usr1_twice(&mut event_loop);
            serve(event_loop);
        }
        other => panic!("{other:?} is no scene"),
    }
}

/// What SIGTERM does is in the same handler.
fn panic_at_usr1_twice(event_loop: &mut EventLoop) {
    add_signal_handler(&mut event_loop.context(), [Signal::USR1, Signal::TERM], |context, signal| match signal {
        Signal::TERM => context.drain(GRACE),
        _ => panic!("as the test wants it"),
    })
    .unwrap();
    eprintln!("there");
    for panics in 1..=2 {
        turn_until(event_loop, |context| context.counters().panics == panics);
        eprintln!("goes on");
    }
}

fn serve(mut event_loop: EventLoop) {
    let address = listen(&mut event_loop, || Echo);
    eprintln!("{address}");
    event_loop.run().unwrap();
    assert_eq!(event_loop.context().connection_count(), 0);
    std::process::exit(3);
}

#[test]
fn g2_the_first_signal_drains() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut process = start("drains");
        let address = process.address();
        let mut client = connect(address);
        client.write_all(b"before").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        process.send(signal);
        wait_until_refused(address);
        client.write_all(b"after").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"after");
        drop(client);
        assert_eq!(process.end().code(), Some(3));
    }
}

#[test]
fn g2_the_second_signal_ends_at_once() {
    for (scene, second) in [("drains", Signal::TERM), ("drains", Signal::INT), ("shuts down", Signal::INT)] {
        let mut process = start(scene);
        let address = process.address();
        let mut client = connect(address);
        // More than both sockets hold, and never read: it cannot be flushed either.
        client.set_nonblocking(true).unwrap();
        while !matches!(client.write(&[b'x'; 65536]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {}
        process.send(Signal::TERM);
        wait_until_refused(address);
        process.send(second);
        assert_eq!(process.end().code(), Some(3), "{scene}");
    }
}

#[test]
fn g2_when_nobody_wants_it_any_more_a_signal_acts_as_by_default() {
    for scene in ["dropped", "deregistered"] {
        let mut process = start(scene);
        assert_eq!(process.line(), "gone");
        process.send(Signal::TERM);
        assert_eq!(process.end().signal(), Some(Signal::TERM.as_raw()), "{scene}");
    }
}

/// A panic in one signal's handler removes neither it nor the others: SIGTERM still drains, and does not kill.
#[test]
fn g2_a_handler_that_panics_stays() {
    let mut process = start("panics");
    assert_eq!(process.line(), "there");
    for _ in 0..2 {
        process.send(Signal::USR1);
        // Behind what the panic itself prints.
        while process.line_or_end().expect("it was ended by the second one") != "goes on" {}
    }
    let address = process.address();
    let mut client = connect(address);
    process.send(Signal::TERM);
    wait_until_refused(address);
    client.write_all(b"after").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    drop(client);
    assert_eq!(process.end().code(), Some(3));
}

#[test]
fn g2_a_signal_can_be_wanted_again() {
    let mut process = start("again");
    assert_eq!(process.line(), "there");
    process.send(Signal::TERM);
    assert_eq!(process.end().code(), Some(7));
}

#[test]
fn g2_a_signal_that_was_told_does_not_act_as_by_default_too() {
    // Without that, one of them would in about every second process.
    for _ in 0..20 {
        assert_eq!(start("ends again and again").end().code(), Some(5));
    }
}
