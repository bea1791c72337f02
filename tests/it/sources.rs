//! Sources of other kinds, with a pipe as the example.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use mio::Interest;
use mio::unix::pipe;
use switchboard::{EventLoop, SourceAction};

use crate::support::{event_loop, turn_until};

/// Reads one byte a call, and answers whether there may be more.
fn read_one(receiver: &mut pipe::Receiver, into: &RefCell<Vec<u8>>) -> SourceAction {
    let mut byte = [0];
    match receiver.read(&mut byte) {
        Ok(0) => SourceAction::Remove,
        Ok(_) => {
            into.borrow_mut().push(byte[0]);
            SourceAction::Again
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => SourceAction::Wait,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_handler_waits_is_called_again_and_is_removed_as_it_answers() {
    let mut event_loop = event_loop();
    let (mut sender, receiver) = pipe::new().unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    event_loop
        .context()
        .register(receiver, Interest::READABLE, move |_, receiver, _| read_one(receiver, &into))
        .unwrap();
    for part in [&b"one byte a call, "[..], b"and again with the next event"] {
        sender.write_all(part).unwrap();
        let so_far = received.borrow().len();
        turn_until(&mut event_loop, |_| received.borrow().len() == so_far + part.len());
    }
    assert_eq!(*received.borrow(), b"one byte a call, and again with the next event");
    drop(sender);
    // With the source removed nothing is left to wait for.
    event_loop.run_until_idle().unwrap();
}

#[test]
fn e1_a_handler_that_panics_is_removed_and_the_loop_goes_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut bad_sender, bad) = pipe::new().unwrap();
    let (mut good_sender, good) = pipe::new().unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    let mut context = event_loop.context();
    let panics = context.register(bad, Interest::READABLE, |_, _, _| panic!("as the test wants it")).unwrap();
    context.register(good, Interest::READABLE, move |_, receiver, _| read_one(receiver, &into)).unwrap();
    bad_sender.write_all(b"x").unwrap();
    good_sender.write_all(b"fine").unwrap();
    turn_until(&mut event_loop, |context| context.counters().panics == 1 && received.borrow().len() == 4);
    assert!(!event_loop.context().deregister(panics), "it is gone");
    assert_eq!(bad_sender.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "and its descriptor closed");
}

#[test]
fn a_source_can_be_deregistered_by_anybody_and_by_its_own_handler() {
    let mut event_loop = event_loop();
    let (mut sender, receiver) = pipe::new().unwrap();
    let own_id = Rc::new(std::cell::Cell::new(None));
    let id = own_id.clone();
    let source = event_loop
        .context()
        .register(receiver, Interest::READABLE, move |context, _, _| {
            assert!(context.deregister(id.take().unwrap()));
            SourceAction::Wait
        })
        .unwrap();
    own_id.set(Some(source));
    sender.write_all(b"x").unwrap();
    event_loop.run_until_idle().unwrap();
    let (_sender, receiver) = pipe::new().unwrap();
    let other = event_loop.context().register(receiver, Interest::READABLE, |_, _, _| unreachable!()).unwrap();
    assert!(event_loop.context().deregister(other));
    assert!(!event_loop.context().deregister(other));
    event_loop.run_until_idle().unwrap();
}
