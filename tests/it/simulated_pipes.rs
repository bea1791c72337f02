//! The test kit: pipes, and signals.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use switchboard::mio::Interest;
use switchboard::signals::{Signal, add_signal_handler, drain_on_signals};
use switchboard::testing::{Faults, HostId, Network, SimulatedPipe, seeds};
use switchboard::{SourceAction, SourceId};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);

/// Writes back what it reads from the pipe, as far as there is room, and removes itself at the end.
fn echo(network: &mut Network, host: HostId, pipe: SimulatedPipe) -> (SourceId, Rc<RefCell<Vec<String>>>) {
    let noted = Rc::<RefCell<Vec<String>>>::default();
    let of_handler = noted.clone();
    let mut waiting = Vec::new();
    let interest = Interest::READABLE | Interest::WRITABLE;
    let handler = move |_: &mut switchboard::Context<'_>, pipe: &mut SimulatedPipe, _| {
        let mut buffer = [0; 100];
        loop {
            if !waiting.is_empty() {
                match pipe.write(&waiting) {
                    Ok(count) => drop(waiting.drain(..count)),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return SourceAction::Wait,
                }
                continue;
            }
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    of_handler.borrow_mut().push("end".into());
                    return SourceAction::Remove;
                }
                Ok(count) => waiting.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Simulated kernels run out of buffers, and no event reports when they have some again.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return SourceAction::Wait,
                Err(error) => panic!("{error}"),
            }
        }
    };
    (network.context(host).register(pipe, interest, handler).unwrap(), noted)
}

#[test]
fn kit_a_pipe_is_a_source_of_a_simulated_loop_in_both_directions() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all().with_out_of_buffers_permille(0));
        let host = network.host();
        let (pipe, mut end) = network.pipe(host);
        let (_, noted) = echo(&mut network, host, pipe);
        let bytes = pattern((seed as usize * 97) % 5000);
        end.queue(&bytes);
        let mut got = Vec::new();
        network.run_until(|_| {
            got.extend(end.read());
            got.len() >= bytes.len()
        });
        assert!(got == bytes, "{} of {}\n{}", got.len(), bytes.len(), network.trace());
        assert!(noted.borrow().is_empty());
        end.end();
        network.run_until_rest();
        assert_eq!(*noted.borrow(), ["end"]);
        assert!(network.turns_without_progress_most() < 10);
    });
}

#[test]
fn kit_a_pipe_can_be_waited_for_anew_and_not_any_more() {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let (pipe, mut end) = network.pipe(host);
    let calls = Rc::new(RefCell::new(0));
    let count = calls.clone();
    let id = network.context(host).register(pipe, Interest::READABLE, move |_, _, _| {
        *count.borrow_mut() += 1;
        SourceAction::Wait
    });
    let id = id.unwrap();
    end.queue(b"x");
    network.run_until_rest();
    let once = calls.take();
    assert!(once > 0);
    // Existing readiness is reported again.
    network.context(host).reregister(id, Interest::READABLE).unwrap();
    network.run_until_rest();
    assert_eq!(calls.take(), 1);
    assert!(network.context(host).deregister(id));
    end.queue(b"y");
    network.run_until_rest();
    assert_eq!(calls.take(), 0);
    end.read();
    assert!(end.saw_end() || end.error().is_some());
}

#[test]
fn kit_a_signal_is_told_to_all_that_wait_for_it_once_for_each_kind() {
    let mut network = Network::new(0, Faults::none());
    let (host, other) = (network.host(), network.host());
    let noted = Rc::<RefCell<Vec<(u8, Signal)>>>::default();
    let mut ids = Vec::new();
    for (which, signals) in [(0, vec![Signal::HUP, Signal::USR1]), (1, vec![Signal::HUP])] {
        let of_handler = noted.clone();
        let handler = move |_: &mut switchboard::Context<'_>, signal| of_handler.borrow_mut().push((which, signal));
        ids.push(add_signal_handler(&mut network.context(host), signals, handler).unwrap());
    }
    for signal in [Signal::HUP, Signal::USR1, Signal::HUP] {
        assert!(network.raise(host, signal));
    }
    network.run_until_rest();
    let mut told = noted.take();
    told.sort_unstable();
    let mut expected = [(0, Signal::HUP), (0, Signal::USR1), (1, Signal::HUP)];
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(network.context(host).deregister(ids[1]));
    assert!(network.raise(host, Signal::HUP));
    network.run_until_rest();
    assert_eq!(noted.take(), [(0, Signal::HUP)]);
    // Ignored without a handler, and the other host has none.
    assert!(!network.raise(other, Signal::WINCH) && !network.raise(host, Signal::CHLD));
    let nothing = network.context(host).connection_count();
    assert_eq!(nothing, 0);
}

#[test]
fn kit_a_signal_is_told_however_often_reading_it_is_interrupted() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let host = network.host();
        let noted = Rc::<Cell<u32>>::default();
        let of_handler = noted.clone();
        let handler = move |_: &mut switchboard::Context<'_>, _| of_handler.set(of_handler.get() + 1);
        // The simulated system may refuse it, as it may refuse any other call.
        while add_signal_handler(&mut network.context(host), [Signal::HUP], handler.clone()).is_err() {}
        for count in 1..=10 {
            assert!(network.raise(host, Signal::HUP));
            network.run_until_rest();
            assert_eq!(noted.get(), count);
        }
    });
}

#[test]
fn kit_sigterm_drains_a_server_that_asked_for_it_and_ends_another_one() {
    for asks in [true, false] {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        let address = network.address(host, 7);
        network.context(host).listen(address, |_, _| Some(Echo)).unwrap();
        if asks {
            drain_on_signals(&mut network.context(host), 10 * SECOND).unwrap();
        }
        let mut peer = network.peer(address);
        peer.queue(b"hello");
        network.run_until_rest();
        assert_eq!(peer.read(), b"hello");
        assert_eq!(network.raise(host, Signal::TERM), asks);
        network.run_for(SECOND);
        peer.read();
        assert_eq!(peer.saw_end() || peer.error().is_some(), !asks);
        if asks {
            assert!(network.context(host).is_draining());
            let mut late = network.peer(address);
            network.run_for(SECOND);
            assert!(late.error().is_some(), "nobody listens any more");
            // The second one ends at once.
            assert!(network.raise(host, Signal::TERM));
            network.run_for(SECOND);
            peer.read();
            assert!(peer.saw_end() || peer.error().is_some());
        }
    }
}
