//! What an embedder can inspect, and moving connections from one loop to another.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use switchboard::{
    Address, BlockingStream, ConnectionStats, Context, Counters, Detached, DetachedParts, EventLoop, Health, Listen,
    LoopLimits, Losses, PostError, Protocol, Timeout, Transport, UnixAddress, remove_stale_socket,
};

/// Echoes up to a full stop, leaves what follows it, and detaches there.
struct HandsOver(Rc<RefCell<Option<Detached>>>);

impl Protocol for HandsOver {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Some(stop) = data.iter().position(|&byte| byte == b'.') else {
            transport.write(data);
            return data.len();
        };
        transport.write(&data[..stop]);
        let taken = self.0.clone();
        transport.detach(move |_: &mut Context<'_>, detached| *taken.borrow_mut() = Some(detached));
        stop + 1
    }
}

#[test]
fn a_connection_moves_from_one_loop_to_another() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let taken = Rc::new(RefCell::new(None));
    let mut first = EventLoop::new().unwrap();
    let id = first.context().attach(ours, HandsOver(taken.clone())).unwrap();
    theirs.write_all(b"one.two").unwrap();
    first.run_until_idle().unwrap();
    assert!(first.context().connection(id).is_none());
    let losses: Losses = first.context().counters().losses;
    assert_eq!(losses.detached, 1);
    let detached: Detached = taken.take().expect("handed over");
    assert_eq!((detached.unread(), detached.unsent()), (&b"two"[..], &b""[..]));
    assert_eq!(detached.peer_addr(), Some(&Address::Unix(UnixAddress::Unnamed)));
    // As a plain stream, and back.
    let plain: BlockingStream = detached.into_blocking(Some(Duration::from_secs(10))).unwrap();
    assert!(plain.peer_addr().is_some());
    let mut second = EventLoop::new().unwrap();
    second.context().attach(plain, HandsOver(taken.clone())).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    second.run_until_idle().unwrap();
    let mut back = String::new();
    theirs.read_to_string(&mut back).unwrap();
    assert_eq!(back, "onetwo");
}

#[test]
fn a_stream_keeps_what_was_read_of_it_until_it_is_taken_apart() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let detached = Detached::with_unread(Detached::with_unread(ours, b"re"), b"ad").into_tcp().unwrap_err();
    let parts: DetachedParts<UnixStream> = detached.into_unix().unwrap();
    assert_eq!((&parts.unread[..], parts.unsent.len()), (&b"read"[..], 0));
    assert!(parts.stream.peer_addr().is_ok());
}

/// Reports when it has waited for too long.
struct Patient(Rc<Cell<Option<Timeout>>>);

impl Protocol for Patient {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_timeout(Timeout::Idle, Some(Duration::from_millis(5)));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        self.0.set(Some(timeout));
        transport.close();
    }
}

#[test]
fn who_waits_for_too_long_is_told() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let told = Rc::new(Cell::new(None));
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.context().attach(ours, Patient(told.clone())).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(told.get(), Some(Timeout::Idle));
    drop(theirs);
}

#[test]
fn a_loop_tells_how_it_is() {
    let limits =
        LoopLimits::default().with_slow_callback_after(Some(Duration::from_secs(1))).with_times_callbacks(true);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let id = event_loop.context().attach(ours, HandsOver(Rc::default())).unwrap();
    theirs.write_all(b"hello").unwrap();
    while event_loop.context().counters().bytes_sent < 5 {
        event_loop.turn(Some(Duration::from_millis(10))).unwrap();
    }
    let mut context = event_loop.context();
    assert_eq!(context.connection_ids(), [id]);
    let stats: ConnectionStats = context.connection(id).unwrap().stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent, stats.queued_bytes), (5, 5, 0));
    let Counters { turns, polls, bytes_received, .. } = context.counters();
    assert!(turns > 0 && polls >= turns && bytes_received == 5);
    let health: Health = context.health();
    assert!(!health.longest_callback_name.is_empty() && health.lag_max >= health.longest_callback);
    assert!(!event_loop.take_stop());
}

#[test]
fn a_command_that_cannot_be_run_is_given_back() {
    let mut event_loop = EventLoop::with_limits(LoopLimits::default().with_commands_max(1)).unwrap();
    let handle = event_loop.context().handle();
    handle.post(|context| context.stop()).unwrap();
    let Err(full @ PostError::Full(_)) = handle.post(|_| {}) else { panic!("it was taken") };
    event_loop.run().unwrap();
    handle.post(full.into_inner()).unwrap();
    drop(event_loop);
    assert!(matches!(handle.post(|_| {}), Err(PostError::Gone(_))));
}

#[test]
fn what_a_crash_has_left_at_a_path_is_removed_and_what_listens_there_is_not() {
    let path = std::env::temp_dir().join(format!("switchboard-outsider-{}", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    assert!(remove_stale_socket(&path).unwrap());
    assert!(!remove_stale_socket(&path).unwrap(), "nothing is there any more");
    let mut event_loop = EventLoop::new().unwrap();
    event_loop
        .context()
        .listen(Listen::at(UnixAddress::Path(path.clone())).mode(0o600), |_, _| None::<HandsOver>)
        .unwrap();
    assert_eq!(remove_stale_socket(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(event_loop);
    assert!(!path.exists());
}
