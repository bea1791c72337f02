//! An adapter of another crate: every callback that it does not override reaches the protocol that it wraps.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use switchboard::{
    CloseReason, ConnectError, ConnectionId, EventLoop, Inner, NotReached, Protocol, Timeout, Transport,
};

/// The callbacks that were called, in order.
type Notes = Rc<RefCell<Vec<&'static str>>>;

/// Records each callback, without its default action.
struct Noting(Notes);

impl Noting {
    fn note(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }
}

impl Protocol for Noting {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        self.note("made");
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.note("data");
        transport.write_owned(vec![0; 1 << 20]);
        data.len()
    }

    fn eof_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
        self.note("end");
    }

    fn pause_writing(&mut self, _: &mut Transport<'_>) {
        self.note("pause");
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.note("resume");
        transport.start_producing();
        transport.set_timeout(Timeout::Total, Some(Duration::from_millis(1)));
    }

    fn produce(&mut self, _: &mut Transport<'_>) {
        self.note("produce");
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, _: Timeout) {
        self.note("timed out");
        transport.set_timer(7, Duration::from_millis(1));
    }

    fn timer(&mut self, _: &mut Transport<'_>, key: u16) {
        self.note(if key == 7 { "timer" } else { "another timer" });
    }

    fn draining(&mut self, _: &mut Transport<'_>) {
        self.note("draining");
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, _: ConnectError) {
        self.note("failed");
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        self.note("lost");
    }
}

/// Changes nothing.
struct Adapter(Box<dyn Protocol>);

impl Protocol for Adapter {
    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut *self.0)
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.data_received(transport, data)
    }
}

/// One adapter around another one.
fn adapted(notes: &Notes) -> Adapter {
    Adapter(Box::new(Adapter(Box::new(Noting(notes.clone())))))
}

fn close(event_loop: &mut EventLoop, id: ConnectionId) {
    event_loop.context().connection(id).expect("it lives on").close();
}

#[test]
fn adapters_pass_on_what_they_do_not_change() {
    let (mut event_loop, notes) = (EventLoop::new().unwrap(), Notes::default());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let id = event_loop.context().attach(ours, adapted(&notes)).unwrap();
    let began = Instant::now();
    let until = |event_loop: &mut EventLoop, theirs: &mut UnixStream, last: &str| {
        while notes.borrow().last() != Some(&last) {
            assert!(began.elapsed() < Duration::from_secs(10), "{last} is not told: {notes:?}");
            event_loop.turn(Some(Duration::from_millis(10))).unwrap();
            if notes.borrow().contains(&"pause") {
                _ = theirs.read(&mut [0; 65536]);
            }
        }
    };
    theirs.write_all(b"x").unwrap();
    until(&mut event_loop, &mut theirs, "timer");
    event_loop.context().drain(Duration::from_secs(10));
    until(&mut event_loop, &mut theirs, "draining");
    theirs.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, &mut theirs, "end");
    close(&mut event_loop, id);
    until(&mut event_loop, &mut theirs, "lost");
    let all = ["made", "data", "pause", "resume", "produce", "timed out", "timer", "draining", "end", "lost"];
    assert_eq!(*notes.borrow(), all);
}

#[test]
fn adapters_pass_on_that_a_connect_has_failed() {
    let (mut event_loop, notes) = (EventLoop::new().unwrap(), Notes::default());
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let id = event_loop.context().connect(server.local_addr().unwrap(), adapted(&notes)).unwrap();
    close(&mut event_loop, id);
    event_loop.run_until_idle().unwrap();
    assert_eq!(*notes.borrow(), ["failed"]);
}

/// Wraps a handler that is not a protocol.
struct Counting(usize);

impl Protocol for Counting {
    fn inner(&mut self) -> Inner<'_> {
        Inner::Handler(&mut self.0)
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0 += 1;
        data.len()
    }
}

#[test]
fn adapters_show_what_they_wrap() {
    let (mut event_loop, notes) = (EventLoop::new().unwrap(), Notes::default());
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let id = event_loop.context().attach(ours, adapted(&notes)).unwrap();
    let mut context = event_loop.context();
    let note = |noting: &mut Noting, transport: &mut Transport<'_>| {
        noting.note("reached");
        assert_eq!(transport.with_protocol(id, |_: &mut Noting, _| ()), Err(NotReached::Busy));
        assert!(transport.connection(id).is_some());
    };
    assert_eq!(context.with_protocol(id, note), Ok(()));
    assert_eq!(*notes.borrow(), ["reached"]);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let counting = context.attach(ours, Counting(6)).unwrap();
    let add = |count: &mut usize, _: &mut Transport<'_>| *count += 1;
    assert_eq!(context.with_protocol(counting, add), Ok(()));
    assert_eq!(context.with_protocol(counting, |counting: &mut Counting, _| counting.0), Ok(7));
    let other = context.with_protocol(counting, |_: &mut Noting, _| ());
    assert_eq!(other.unwrap_err().to_string(), "the protocol has another type");
}
