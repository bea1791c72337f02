//! Shared by the tests.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use switchboard::{CloseReason, Context, EventLoop, Inner, ListenerId, PanicPolicy, Protocol, Transport};

/// Longer than anything takes on a working loop.
// Wine does in a minute what others do in seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(if cfg!(windows) { 60 } else { 10 });

/// A port of the system's choice.
pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A loop that propagates panics of callbacks, so that asserts in callbacks count.
pub(crate) fn event_loop() -> EventLoop {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    event_loop
}

/// Turns the loop until `done` returns true.
#[track_caller]
pub(crate) fn turn_until(event_loop: &mut EventLoop, mut done: impl FnMut(&mut Context<'_>) -> bool) {
    let start = Instant::now();
    while !done(&mut event_loop.context()) {
        assert!(start.elapsed() < PATIENCE, "waited for {PATIENCE:?} in vain");
        event_loop.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

/// Runs a client in a separate thread while the loop turns; returns the client's result.
#[track_caller]
pub(crate) fn serve_while<T: Send + 'static>(
    event_loop: &mut EventLoop,
    client: impl FnOnce() -> T + Send + 'static,
) -> T {
    let client = thread::spawn(client);
    turn_until(event_loop, |_| client.is_finished());
    join(client)
}

/// Returns a finished thread's result; its panic becomes the test's.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Repeats a call that a signal has interrupted: after a signal, or after the process was stopped, the kernel does not
/// resume a receive with a timeout (signal(7)).
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Connects, with bounds on how long reads and writes may take.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads to the end of the stream.
pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Listens on a port of the system's choice.
pub(crate) fn listen<P: Protocol>(event_loop: &mut EventLoop, mut factory: impl FnMut() -> P + 'static) -> SocketAddr {
    let mut context = event_loop.context();
    let listener = context.listen(any_port(), move |_, _| Some(factory())).unwrap();
    address_of(&mut context, listener)
}

pub(crate) fn address_of(context: &mut Context<'_>, listener: ListenerId) -> SocketAddr {
    context.listener(listener).unwrap().local_addr().unwrap().as_inet().unwrap()
}

/// Echoes.
pub(crate) struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// Why connections ended, in order.
pub(crate) type Ends = Rc<RefCell<Vec<String>>>;

/// A protocol that records its end, and passes everything else to another one.
pub(crate) struct NotingEnd<P> {
    pub(crate) inner: P,
    pub(crate) ends: Ends,
}

impl<P: Protocol> Protocol for NotingEnd<P> {
    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut self.inner)
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.inner.data_received(transport, data)
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.ends.borrow_mut().push(reason.to_string());
        self.inner.connection_lost(transport, reason);
    }
}

/// Bytes in which a shift, a loss or a repetition shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    // Eight bytes at a time: some tests compare many millions, in debug builds too.
    let mut bytes = Vec::with_capacity(length + 8);
    for n in 0..length.div_ceil(8) as u64 {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bytes.extend_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The program that runs these tests; without `/proc`, by the name with which it was started.
#[cfg(unix)]
pub(crate) fn this_program() -> std::path::PathBuf {
    let name = || std::env::args_os().next().map(std::path::PathBuf::from);
    std::env::current_exe().ok().or_else(name).unwrap()
}

/// Returns whether `/proc` exists; otherwise reports that the test is skipped.
#[cfg(target_os = "linux")]
pub(crate) fn has_proc() -> bool {
    let has = std::path::Path::new("/proc/self").exists();
    if !has {
        eprintln!("left out: there is no /proc");
    }
    has
}
