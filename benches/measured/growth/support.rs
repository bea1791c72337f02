//! A loop with one connection whose other end is played by hand, and whose protocol counts what it is handed.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use switchboard::framing::{FrameHandler, LineHandler};
use switchboard::{ConnectionId, EventLoop, IntoProtocol, Limits, LoopLimits, Transport};

/// More than any subject needs.
const BYTES_MAX: usize = 64 << 20;

/// How many turns without progress are too many.
const TURNS_MAX: usize = 100_000;

/// A loop whose limits no subject reaches.
pub(crate) fn event_loop() -> EventLoop {
    let each = Limits::default().with_input_bytes_max(BYTES_MAX).with_queue_bytes_max(BYTES_MAX);
    let limits = LoopLimits::from(each.with_pause_reading_over_high(false));
    EventLoop::with_limits(limits.with_commands_max(BYTES_MAX)).expect("a loop")
}

pub(crate) fn turn(event_loop: &mut EventLoop) {
    event_loop.turn(Some(Duration::ZERO)).expect("a turn");
}

/// Turns until this is true.
pub(crate) fn turn_until(event_loop: &mut EventLoop, mut done: impl FnMut(&mut EventLoop) -> bool) {
    for _ in 0..TURNS_MAX {
        if done(event_loop) {
            return;
        }
        turn(event_loop);
    }
    panic!("it does not come to an end");
}

/// Counts what it is handed.
#[derive(Clone, Default)]
pub(crate) struct Tally(Rc<Cell<usize>>);

impl Tally {
    pub(crate) fn add(&self) {
        self.0.set(self.0.get() + 1);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }
}

impl LineHandler for Tally {
    fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
        self.add();
    }

    /// What is skipped ends nothing.
    fn line_too_long(&mut self, _: &mut Transport<'_>) {}
}

impl FrameHandler for Tally {
    fn frame_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
        self.add();
    }
}

/// A loop, its connection, and the other end of that.
pub(crate) struct Pair {
    pub(crate) event_loop: EventLoop,
    pub(crate) id: ConnectionId,
    pub(crate) peer: UnixStream,
}

impl Pair {
    pub(crate) fn new(protocol: impl IntoProtocol) -> Pair {
        let (ours, peer) = UnixStream::pair().expect("a pair");
        peer.set_nonblocking(true).expect("non-blocking");
        let mut event_loop = event_loop();
        let id = event_loop.context().attach(ours, protocol).expect("attached");
        turn(&mut event_loop);
        Pair { event_loop, id, peer }
    }

    /// Sends all, as much at a time as fits into the kernel's buffer, with a turn behind each part.
    pub(crate) fn send(&mut self, mut data: &[u8]) {
        for _ in 0..TURNS_MAX {
            if data.is_empty() {
                return;
            }
            match self.peer.write(data) {
                Ok(count) => data = &data[count..],
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            turn(&mut self.event_loop);
        }
        panic!("it is not taken");
    }

    /// Reads what has been written, until that many bytes have come.
    pub(crate) fn receive(&mut self, bytes: usize) {
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        for _ in 0..TURNS_MAX {
            if received >= bytes {
                return;
            }
            received += self.peer.read(&mut buffer).unwrap_or(0);
            turn(&mut self.event_loop);
        }
        panic!("{received} of {bytes} bytes came");
    }
}
