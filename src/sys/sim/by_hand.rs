//! Sockets that a test operates by hand: what is queued for their kernel, and what the test is told.
//!
//! Such a socket has no poller and no timers, so it retries by itself what the kernel has refused.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use super::packet::Alarm;
use super::world::{SocketId, World};
use crate::sys::is_blocked;

/// How long a kernel stays out of buffers.
const NO_BUFFERS: Duration = Duration::from_millis(10);

/// How much of the queue is written in one call.
const FEED_BYTES: usize = 64 * 1024;

/// What a test wants to send and the kernel has not taken.
#[derive(Default)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    /// Some of it found no room.
    waits: bool,
    /// Its half ends after it.
    ends: bool,
    /// Why it was dropped, to be reported to the test.
    error: Option<io::Error>,
}

impl Queue {
    /// Returns whether the half ends after what is queued, rather than at once.
    pub(super) fn end_behind(&mut self) -> bool {
        self.ends |= !self.bytes.is_empty();
        self.ends
    }

    pub(super) fn clear(&mut self) {
        self.bytes = VecDeque::new();
        self.ends = false;
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn is_open(&self) -> bool {
        !self.ends && self.error.is_none()
    }
}

impl World {
    /// A call has found the kernel out of buffers; no event tells when it has some again. (A loop sets a timer.)
    pub(super) fn has_no_buffers(&mut self, id: SocketId) {
        if self.is_registered(id) {
            return;
        }
        if let Some(tcp) = self.tcp(id) {
            tcp.lacks_room();
        }
        self.set_alarm(NO_BUFFERS, Alarm::Buffers(id));
    }

    /// There may be room again in the kernel of a socket. For a socket operated by hand, the first free byte counts.
    pub(super) fn has_room(&mut self, id: SocketId) {
        if self.is_registered(id) {
            return;
        }
        match self.tcp(id) {
            Some(tcp) if !tcp.queue.bytes.is_empty() => self.to_feed.push_back(id),
            Some(tcp) if !tcp.got_room() => {}
            _ => self.wake(id),
        }
    }

    pub(super) fn queue(&mut self, id: SocketId, bytes: &[u8]) {
        let Some(tcp) = self.tcp(id).filter(|tcp| tcp.can_send() && tcp.queue.is_open()) else { return };
        tcp.queue.bytes.extend(bytes);
        self.to_feed.push_back(id);
        self.settle();
    }

    pub(super) fn is_queued(&self, id: SocketId, byte: u8) -> bool {
        self.is_tcp(id, |tcp| tcp.queue.bytes.contains(&byte))
    }

    pub(super) fn take_queued(&mut self, id: SocketId) -> Vec<u8> {
        self.settle();
        match self.tcp(id) {
            Some(tcp) if !tcp.queue.ends => std::mem::take(&mut tcp.queue.bytes).into(),
            _ => Vec::new(),
        }
    }

    pub(super) fn queued(&mut self, id: SocketId) -> usize {
        self.settle();
        self.tcp(id).map_or(0, |tcp| tcp.queue.bytes.len())
    }

    /// Has one kernel take some of what is queued. The calls that this makes settle the world, too. Returns whether
    /// there was anything to feed.
    pub(super) fn feed_next(&mut self) -> bool {
        if self.feeding {
            return false;
        }
        let Some(id) = self.to_feed.pop_front() else { return false };
        self.feeding = true;
        self.feed(id);
        self.feeding = false;
        true
    }

    /// Writes what is queued, as far as the kernel takes it now; after the last byte ends the half, if that was asked
    /// for.
    fn feed(&mut self, id: SocketId) {
        loop {
            let Some(tcp) = self.tcp(id) else { return };
            let bytes: Vec<u8> = tcp.queue.bytes.iter().copied().take(FEED_BYTES).collect();
            if bytes.is_empty() {
                return self.end_feeding(id);
            }
            let written = self.write(id, &[IoSlice::new(&bytes)]);
            let Some(tcp) = self.tcp(id) else { return };
            match written {
                Ok(count) => drop(tcp.queue.bytes.drain(..count.min(tcp.queue.bytes.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_blocked(&error).is_some() => {
                    tcp.queue.waits = true;
                    return;
                }
                Err(error) => {
                    tcp.queue.clear();
                    tcp.queue.error = Some(error);
                    return self.wake(id);
                }
            }
        }
    }

    /// The queue is empty. The test is told if it had to wait for that.
    fn end_feeding(&mut self, id: SocketId) {
        let Some(tcp) = self.tcp(id) else { return };
        let waited = std::mem::take(&mut tcp.queue.waits);
        if std::mem::take(&mut tcp.queue.ends) {
            // This fails if both halves are closed: then there is nothing to end.
            let _ = self.shutdown_write(id);
        }
        if waited {
            self.wake(id);
        }
    }
}
