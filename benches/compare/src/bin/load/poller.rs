//! Waiting for sockets: epoll, edge-triggered, with the index of each connection in its list.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::result::{Doing, Result};
use crate::turn::Deadline;

const EVENTS_MAX: usize = 1_024;

pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).doing(|| "epoll_create".into())?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Registers a socket for reading. Closing a socket removes it.
    pub fn add(&self, socket: impl AsFd, place: usize) -> Result<()> {
        let interest = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(place as u64), interest).doing(|| "epoll_ctl".into())
    }

    /// From now on reports writability, too. Only for a socket whose send was blocked: a Unix socket has a writable
    /// edge at each read by its peer.
    pub fn also_writable(&self, socket: impl AsFd, place: usize) -> Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::modify(&self.epoll, socket, EventData::new_u64(place as u64), interest).doing(|| "epoll_ctl".into())
    }

    /// Waits, and returns how many are ready: see `place`. Fails when the deadline has passed.
    pub fn wait(&mut self, deadline: Deadline) -> Result<usize> {
        let left = deadline.left()?;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error).doing(|| "epoll_wait".into()),
        }
    }

    /// Returns the index of the nth ready connection, from 0.
    pub fn place(&self, nth: usize) -> usize {
        self.events[nth].data.u64() as usize
    }
}
