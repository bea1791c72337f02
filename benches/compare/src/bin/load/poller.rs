//! Waiting for sockets: epoll, edge-triggered, by the place of each connection in its list.

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

    /// Tells of what comes in. A socket leaves by being closed.
    pub fn add(&self, socket: impl AsFd, place: usize) -> Result<()> {
        let interest = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(place as u64), interest).doing(|| "epoll_ctl".into())
    }

    /// From now on tells of room for what goes out, too. Only for who has seen none: a Unix socket has a writable edge
    /// at each read of its peer.
    pub fn also_writable(&self, socket: impl AsFd, place: usize) -> Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::modify(&self.epoll, socket, EventData::new_u64(place as u64), interest).doing(|| "epoll_ctl".into())
    }

    /// Waits, and says how many are ready: see `place`. Fails when the deadline has passed.
    pub fn wait(&mut self, deadline: Deadline) -> Result<usize> {
        let left = deadline.left()?;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error).doing(|| "epoll_wait".into()),
        }
    }

    /// The place of a connection that was ready, by its number from 0.
    pub fn place(&self, nth: usize) -> usize {
        self.events[nth].data.u64() as usize
    }
}
