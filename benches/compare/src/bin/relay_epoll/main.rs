//! The yardstick of relays: a loop by hand on epoll that connects each client to one target and passes everything on,
//! both ways, and does nothing else: no ids, no timers, no limits, no callbacks.
//!
//! - Both sockets are registered once, edge-triggered, for all events. After a short read a socket is not read again,
//!   unless the event said that its stream has ended: new data raises a new edge.
//! - One buffer of 64 KiB for all reads. What is read is sent from there at once; only what the kernel does not take is
//!   copied, and nothing is read for a side with unsent data: a pair needs at most one read's worth in each direction.
//! - Four reads a direction, and the others have their turn.
//! - With `--splice` nothing is copied to user space: `splice` moves it from one socket through a pipe to the other.

#![forbid(unsafe_code)]

mod way;

use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, connect, shutdown, socket_with, sockopt,
};
use slab::Slab;
use switchboard_compare::{Address, EVENTS_MAX, Listener, READS_PER_TURN_MAX, is_out_of_descriptors, listener, refuse};

use way::{Moved, Way};

/// The token of the listener's events; those of a socket carry the index of its pair, and which of the two it is.
const LISTENER: u64 = u64::MAX;

const WRONG: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
const ENDED: EventFlags = EventFlags::RDHUP.union(WRONG);
const READABLE: EventFlags = EventFlags::IN.union(ENDED);
const ALL_EDGES: EventFlags = EventFlags::ET.union(EventFlags::IN).union(EventFlags::OUT).union(EventFlags::RDHUP);

/// What one side sends to the other.
struct Direction {
    way: Way,
    /// There may be more to read, without another edge.
    is_readable: bool,
    /// An event has said that the stream has ended: it is read up to there.
    has_end: bool,
    /// It was read up to its end, and that was passed on.
    is_over: bool,
}

impl Direction {
    fn new(is_spliced: bool) -> Result<Self, Errno> {
        Ok(Self { way: Way::new(is_spliced)?, is_readable: false, has_end: false, is_over: false })
    }

    /// Moves what there is. Returns whether there may be more that nothing will report.
    fn pass_on(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> Result<bool, Errno> {
        if !self.way.flush(to)? {
            return Ok(false);
        }
        for _ in 0..READS_PER_TURN_MAX {
            if self.is_over || !self.is_readable {
                return Ok(false);
            }
            match self.way.pass_on(from, to, buffer)? {
                Moved::Nothing => self.is_readable = false,
                Moved::Blocked => return Ok(false),
                Moved::Short => self.is_readable = self.has_end,
                Moved::Full => {}
                Moved::End => {
                    self.is_over = true;
                    shutdown(to, Shutdown::Write)?;
                }
            }
        }
        Ok(!self.is_over && self.is_readable)
    }
}

struct Pair {
    /// The client, and the target.
    sides: [OwnedFd; 2],
    /// From each of them to the other.
    directions: [Direction; 2],
}

impl Pair {
    /// Passes on what this side has sent. Returns whether there may be more that nothing will report.
    fn pass_on(&mut self, side: usize, buffer: &mut [u8]) -> Result<bool, Errno> {
        self.directions[side].pass_on(&self.sides[side], &self.sides[1 - side], buffer)
    }

    fn is_over(&self) -> bool {
        self.directions.iter().all(|direction| direction.is_over)
    }
}

struct Relay {
    target: SocketAddr,
    is_spliced: bool,
    epoll: OwnedFd,
    listener: TcpListener,
    /// No descriptor was left: the next pair that ends makes room.
    is_full: bool,
    pairs: Slab<Pair>,
    /// Sides that had read enough for one turn.
    again: Vec<(usize, usize)>,
}

impl Relay {
    fn run(&mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; switchboard_compare::READ_BYTES];
        let no_wait = Default::default();
        loop {
            events.clear();
            let timeout = if self.again.is_empty() { None } else { Some(&no_wait) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let again = mem::take(&mut self.again);
            for &Event { flags, data } in &events {
                match data.u64() {
                    LISTENER => self.accept()?,
                    token => self.serve((token / 2) as usize, (token % 2) as usize, flags, &mut buffer)?,
                }
            }
            for (key, side) in again {
                self.pass_on(key, side, &mut buffer)?;
            }
        }
    }

    fn accept(&mut self) -> Result<(), Errno> {
        loop {
            let client = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(client) => client,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return self.wait_for_room(error),
            };
            if let Err(error) = self.connect(client) {
                self.wait_for_room(error)?;
            }
        }
    }

    /// A lack of descriptors ends with the next pair that does; any other error ends the program.
    fn wait_for_room(&mut self, error: Errno) -> Result<(), Errno> {
        self.is_full = is_out_of_descriptors(&error.into());
        if self.is_full { Ok(()) } else { Err(error) }
    }

    /// Connects a client to the target. Until that is established, its socket takes nothing.
    fn connect(&mut self, client: OwnedFd) -> Result<(), Errno> {
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let onward = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        sockopt::set_tcp_nodelay(&onward, true)?;
        match connect(&onward, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let directions = [Direction::new(self.is_spliced)?, Direction::new(self.is_spliced)?];
        let entry = self.pairs.vacant_entry();
        for (side, socket) in [&client, &onward].into_iter().enumerate() {
            let token = EventData::new_u64((2 * entry.key() + side) as u64);
            epoll::add(&self.epoll, socket, token, ALL_EDGES)?;
        }
        entry.insert(Pair { sides: [client, onward], directions });
        Ok(())
    }

    /// Handles an event: what this side has sent can be passed on, and what the other side has sent.
    fn serve(&mut self, key: usize, side: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(pair) = self.pairs.get_mut(key) else { return Ok(()) };
        if flags.intersects(READABLE) {
            let direction = &mut pair.directions[side];
            direction.is_readable = true;
            direction.has_end |= flags.intersects(ENDED);
            self.pass_on(key, side, buffer)?;
        }
        // The other direction, if something waits for this socket to take it.
        let waits = |pair: &Pair| pair.directions[1 - side].way.is_blocked();
        if flags.contains(EventFlags::OUT) && self.pairs.get(key).is_some_and(waits) {
            self.pass_on(key, 1 - side, buffer)?;
        }
        Ok(())
    }

    fn pass_on(&mut self, key: usize, side: usize, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(pair) = self.pairs.get_mut(key) else { return Ok(()) };
        match pair.pass_on(side, buffer) {
            Ok(true) => self.again.push((key, side)),
            Ok(false) if !pair.is_over() => {}
            // Over, in order or by an error of either socket.
            _ => {
                self.pairs.remove(key);
                if mem::take(&mut self.is_full) {
                    self.accept()?;
                }
            }
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (target, address, is_spliced) = match &arguments[..] {
        [target, address] => (target, address, false),
        [target, address, flag] if flag == "--splice" => (target, address, true),
        _ => refuse("usage: relay_epoll TARGET ADDRESS [--splice]"),
    };
    let (Ok(target), Ok(address)) = (target.parse(), address.parse()) else { refuse("two addresses, IP:PORT") };
    let listening = listener(&Address::Inet(address))?;
    listening.announce()?;
    let Listener::Inet(listener) = listening else { unreachable!("an address of the internet has no other listener") };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    let (pairs, again) = (Slab::new(), Vec::new());
    Ok(Relay { target, is_spliced, epoll, listener, is_full: false, pairs, again }.run()?)
}
