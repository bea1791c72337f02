//! Runs the steps of a script on one backend.
//!
//! | step | what |
//! | --- | --- |
//! | `listen L [n]` | listens, with a backlog of n |
//! | `connect a L`, `connect a b`, `connect a nobody`, `connect a self` | begins to connect: to a listener, to where another socket is or was, to a port that nobody listens on, to its own address |
//! | `accept L b` | accepts |
//! | `write a text`, `urgent a x`, `fill a` | writes text; writes one urgent byte; writes until it would block |
//! | `read a n`, `drain a` | reads up to n bytes; reads until it would block or the stream ends |
//! | `shutdown a`, `close a`, `reset a` | ends a stream |
//! | `error a`, `peer a`, `local a` | asks for the error or an address |
//! | `poll` | everything that the poller has reported since the last time, per socket |
//! | `bind u`, `bind u nameless`, `join u v`, `send u text`, `sendto u v text`, `big u n`, `recv u n` | datagrams |
//! | `flood u v`, `empty u` | sends to v until that fails; receives everything |
//! | `await u`, `await u not` | asks to be told of room, or not any more |
//! | `leave v` | leaves a path without a socket behind |

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use crate::Address;
#[cfg(unix)]
use crate::UnixAddress;
use crate::sys::sim;
use crate::sys::{Clock, Datagram, Events, Listener, Poller, Readiness, Stream, Wait};

pub(super) struct Machine {
    poller: Poller,
    clock: Clock,
    events: Events,
    sockets: BTreeMap<String, Socket>,
    /// Where sockets are, or were.
    addresses: BTreeMap<String, Address>,
    family: Family,
    /// Names by token.
    names: Vec<String>,
    /// The sockets that have shut their write half.
    shut: BTreeSet<String>,
    bound: Vec<socket2::Socket>,
}

/// What kind streams and their listeners are.
pub(super) enum Family {
    Tcp,
    /// Unix sockets, at paths in a folder of their own.
    #[cfg(unix)]
    Unix(PathBuf),
    /// Unix sockets, with abstract names that begin with this.
    Abstract(String),
}

enum Socket {
    Listener(Listener),
    Stream(Stream),
    Datagram(Datagram),
}

const PATIENCE: Duration = Duration::from_secs(5);

impl Machine {
    pub(super) fn new(poller: Poller, clock: Clock, family: Family) -> Machine {
        let events = poller.events();
        let (sockets, addresses) = (BTreeMap::new(), BTreeMap::new());
        Machine {
            poller,
            clock,
            events,
            sockets,
            addresses,
            family,
            names: Vec::new(),
            shut: BTreeSet::new(),
            bound: Vec::new(),
        }
    }

    /// Like [`run`](Machine::run), but again and again until the result is the expected one: the kernel may take its
    /// time.
    pub(super) fn run_until(&mut self, words: &[&str], expected: &str) -> String {
        let end = self.clock.now() + PATIENCE;
        let mut told = BTreeMap::new();
        loop {
            let outcome = match words {
                ["poll"] => self.poll(&mut told, Some(expected)),
                _ => self.run(words),
            };
            let may_change = words == ["poll"] || outcome == "WouldBlock" || outcome == "drained 0";
            if outcome == expected || !may_change || self.clock.now() > end {
                return outcome;
            }
        }
    }

    /// Runs one step, and returns its result.
    pub(super) fn run(&mut self, words: &[&str]) -> String {
        match self.step(words) {
            Ok(outcome) => outcome,
            Err(error) => format!("{:?}", error.kind()),
        }
    }

    fn step(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["listen", name] => self.listen(name, 128),
            ["listen", name, backlog] => self.listen(name, backlog.parse().unwrap()),
            ["connect", name, to] => self.connect(name, to),
            ["accept", name, new] => {
                let (stream, peer) = self.listener(name).accept().map_err(|(_, error)| error)?;
                self.addresses.insert(new.to_owned(), self.addresses[name].clone());
                self.register(new, Socket::Stream(stream))?;
                Ok(format!("from {}", self.name_of(&peer)))
            }
            ["write", name, text] => Ok(self.stream(name).write(text.as_bytes())?.to_string()),
            ["urgent", name, byte] => self.urgent(name, byte.as_bytes()[0]),
            ["fill", name] => self.fill(name),
            ["read", name, most] => self.read(name, most.parse().unwrap()),
            ["drain", name] => self.drain(name),
            ["shutdown", name] => {
                self.stream(name).shutdown_write()?;
                self.shut.insert(name.to_owned());
                Ok("shut".into())
            }
            ["close", name] => Ok(self.sockets.remove(name).map_or("not there", |_| "closed").into()),
            ["reset", name] => match self.sockets.remove(name) {
                Some(Socket::Stream(stream)) => {
                    stream.reset();
                    Ok("reset".into())
                }
                _ => panic!("{name} is no stream"),
            },
            ["error", name] => {
                let error = match &self.sockets[name] {
                    Socket::Datagram(socket) => socket.take_error()?,
                    _ => self.stream(name).take_error()?,
                };
                Ok(error.map_or("none".into(), |error| format!("{:?}", error.kind())))
            }
            ["peer", name] => {
                let peer = self.stream(name).peer_addr()?;
                Ok(format!("is {}", self.name_of(&peer)))
            }
            ["local", name] => {
                let local = self.stream(name).local_addr()?;
                Ok(format!("is {}", self.name_of(&local)))
            }
            ["poll"] => Ok(self.poll(&mut BTreeMap::new(), None)),
            _ => self.datagram_step(words),
        }
    }

    fn datagram_step(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["bind", name] => self.bind(name, false),
            ["bind", name, "nameless"] => self.bind(name, true),
            ["leave", name] => self.leave(name),
            ["await", name] => self.await_room(name, true),
            ["await", name, "not"] => self.await_room(name, false),
            ["flood", name, to] => self.flood(name, to),
            ["empty", name] => self.empty(name),
            ["join", name, to] => {
                let to = self.address_of(to);
                self.datagram(name).connect(&to).map(|()| "joined".into())
            }
            ["send", name, text] => Ok(self.datagram(name).send(text.trim_matches('_').as_bytes())?.to_string()),
            ["big", name, length] => Ok(self.datagram(name).send(&vec![7; length.parse().unwrap()])?.to_string()),
            ["sendto", name, to, text] => {
                let to = self.address_of(to);
                Ok(self.datagram(name).send_to(text.trim_matches('_').as_bytes(), &to)?.to_string())
            }
            ["recv", name, most] => {
                let mut buffer = vec![0; most.parse().unwrap()];
                let received = self.datagram(name).recv_from(&mut buffer)?;
                let text = String::from_utf8_lossy(&buffer[..received.count.min(20)]).into_owned();
                let cut = if received.count == buffer.len() { ", perhaps cut" } else { "" };
                Ok(format!("{} from {}: {text}{cut}", received.count, self.name_of(&received.from)))
            }
            _ => panic!("no such step: {words:?}"),
        }
    }

    // Making sockets.

    fn register(&mut self, name: &str, mut socket: Socket) -> io::Result<()> {
        let token = self.names.len();
        match &mut socket {
            Socket::Listener(listener) => listener.register(&self.poller, token)?,
            Socket::Stream(stream) => stream.register(&self.poller, token)?,
            Socket::Datagram(datagram) => datagram.register(&self.poller, token)?,
        }
        self.names.push(name.to_owned());
        self.sockets.insert(name.to_owned(), socket);
        Ok(())
    }

    fn listen(&mut self, name: &str, backlog: u32) -> io::Result<String> {
        let listener = match &self.family {
            Family::Tcp => Listener::bind(&self.poller, ([127, 0, 0, 1], 0).into(), backlog, false)?,
            #[cfg(unix)]
            _ => match self.address_of(name) {
                Address::Unix(address) => Listener::bind_unix(&self.poller, &address, None, backlog)?,
                Address::Inet(_) => unreachable!("its family is another one"),
            },
        };
        let address = listener.local_addr()?;
        self.addresses.insert(name.to_owned(), address);
        self.register(name, Socket::Listener(listener))?;
        Ok("listens".into())
    }

    /// Returns a port that nobody listens on: a socket is bound to it so that nobody else takes it meanwhile.
    fn unanswered_address(&mut self) -> io::Result<SocketAddr> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        if self.poller.is_in_memory() {
            return Listener::bind(&self.poller, any, 1, false)?.local_addr().map(|address| address.as_inet().unwrap());
        }
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&any.into())?;
        let address = socket.local_addr()?.as_socket().unwrap();
        self.bound.push(socket);
        Ok(address)
    }

    fn connect_to_itself(&mut self) -> io::Result<Stream> {
        loop {
            let listener = Listener::bind(&self.poller, ([127, 0, 0, 1], 0).into(), 1, false)?;
            let address = listener.local_addr()?.as_inet().unwrap();
            drop(listener);
            match Stream::connect(&self.poller, address, Some(address)) {
                // Another test was faster.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
    }

    fn connect(&mut self, name: &str, to: &str) -> io::Result<String> {
        let stream = match (to, &self.family) {
            ("nobody", Family::Tcp) => {
                let nobody = self.unanswered_address()?;
                Stream::connect(&self.poller, nobody, None)?
            }
            ("self", _) => self.connect_to_itself()?,
            (name, _) => match self.address_of(name) {
                Address::Inet(address) => Stream::connect(&self.poller, address, None)?,
                #[cfg(unix)]
                Address::Unix(address) => Stream::connect_unix(&self.poller, &address)?,
            },
        };
        let address = stream.local_addr()?;
        self.addresses.insert(name.to_owned(), address);
        self.register(name, Socket::Stream(stream))?;
        Ok("begun".into())
    }

    /// Returns where a socket of this name is, or would be.
    fn address_of(&self, name: &str) -> Address {
        match (&self.family, self.addresses.get(name)) {
            (_, Some(known)) => known.clone(),
            (Family::Tcp, None) => panic!("{name} was nowhere"),
            #[cfg(unix)]
            (Family::Unix(folder), None) => UnixAddress::path(folder.join(name)).into(),
            (Family::Abstract(prefix), None) => UnixAddress::abstract_name(format!("{prefix} {name}")).into(),
        }
    }

    fn bind(&mut self, name: &str, nameless: bool) -> io::Result<String> {
        let at = match &self.family {
            Family::Tcp => SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            #[cfg(unix)]
            _ if nameless => UnixAddress::Unnamed.into(),
            #[cfg(unix)]
            _ => self.address_of(name),
        };
        let socket = Datagram::bind(&self.poller, &at)?;
        self.addresses.insert(name.to_owned(), socket.local_addr()?);
        self.register(name, Socket::Datagram(socket))?;
        Ok("bound".into())
    }

    /// Leaves a path behind, as a program does that ends without removing it.
    fn leave(&mut self, name: &str) -> io::Result<String> {
        let at = self.address_of(name);
        #[cfg(unix)]
        match (&self.poller, &at) {
            (Poller::Memory(poller), _) => {
                let poller: &sim::Poller = poller.as_any().and_then(|poller| poller.downcast_ref()).unwrap();
                drop(poller.bind_named_datagram(&at, true)?);
            }
            (_, Address::Unix(UnixAddress::Path(path))) => drop(std::os::unix::net::UnixDatagram::bind(path)?),
            _ => panic!("{at} leaves nothing behind"),
        }
        self.addresses.insert(name.to_owned(), at);
        Ok("left".into())
    }

    fn await_room(&mut self, name: &str, awaits: bool) -> io::Result<String> {
        let token = self.names.iter().rposition(|of| of == name).unwrap();
        match self.sockets.get_mut(name) {
            Some(Socket::Datagram(datagram)) => datagram.await_writable(&self.poller, token, awaits)?,
            _ => panic!("{name} is no datagram socket"),
        }
        Ok("awaits".into())
    }

    fn listener(&mut self, name: &str) -> &mut Listener {
        match self.sockets.get_mut(name) {
            Some(Socket::Listener(listener)) => listener,
            _ => panic!("{name} is no listener"),
        }
    }

    fn stream(&mut self, name: &str) -> &mut Stream {
        match self.sockets.get_mut(name) {
            Some(Socket::Stream(stream)) => stream,
            _ => panic!("{name} is no stream"),
        }
    }

    fn datagram(&mut self, name: &str) -> &mut Datagram {
        match self.sockets.get_mut(name) {
            Some(Socket::Datagram(datagram)) => datagram,
            _ => panic!("{name} is no datagram socket"),
        }
    }

    fn name_of(&self, address: &Address) -> &str {
        #[cfg(unix)]
        if *address == Address::Unix(UnixAddress::Unnamed) {
            return "nameless";
        }
        let found = self.addresses.iter().find(|&(_, of)| of == address);
        found.map_or("somebody", |(name, _)| name)
    }

    // Reading and writing.

    fn read(&mut self, name: &str, most: usize) -> io::Result<String> {
        let mut buffer = vec![0; most];
        let count = self.stream(name).read(&mut buffer)?;
        match count {
            0 => Ok("end".into()),
            _ => Ok(format!("{:?}", String::from_utf8_lossy(&buffer[..count]))),
        }
    }

    /// Returns what a large read ends with; its length is up to the kernel.
    fn drain(&mut self, name: &str) -> io::Result<String> {
        let mut buffer = vec![0; 64 * 1024];
        let mut any = 0;
        loop {
            match self.stream(name).read(&mut buffer) {
                Ok(0) => return Ok("drained to the end".into()),
                Ok(_) => any = 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(format!("drained {any}")),
                Err(error) => return Ok(format!("drained, then {:?}", error.kind())),
            }
        }
    }

    fn fill(&mut self, name: &str) -> io::Result<String> {
        let bytes = vec![7; 64 * 1024];
        loop {
            match self.stream(name).write(&bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok("full".into()),
                result => result?,
            };
        }
    }

    /// How many are taken is up to the kernel.
    fn flood(&mut self, name: &str, to: &str) -> io::Result<String> {
        let to = self.address_of(to);
        loop {
            match self.datagram(name).send_to(b"x", &to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok("full".into()),
                result => result?,
            };
        }
    }

    fn empty(&mut self, name: &str) -> io::Result<String> {
        let (mut buffer, mut any) = ([0; 9], "nothing");
        loop {
            match self.datagram(name).recv_from(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(format!("{any} was there")),
                result => result?,
            };
            any = "something";
        }
    }

    fn urgent(&mut self, name: &str, byte: u8) -> io::Result<String> {
        match self.stream(name) {
            Stream::Memory(stream) => stream.write_urgent(byte)?,
            stream => {
                let descriptor = stream.as_fd().unwrap();
                socket2::SockRef::from(&descriptor).send_out_of_band(&[byte])?;
            }
        }
        Ok("sent".into())
    }

    // Readiness.

    fn poll(&mut self, told: &mut BTreeMap<String, Readiness>, expected: Option<&str>) -> String {
        self.poller.wait(&mut self.events, Wait::Not, &self.clock, &mut 0).unwrap();
        for (token, readiness) in self.events.iter() {
            let name = &self.names[token];
            // The kernel reports an end once more when the peer's kernel has acknowledged it, which may be in a later
            // poll.
            let is_told_again = self.shut.contains(name)
                && readiness == Readiness::WRITABLE
                && expected.is_some_and(|all| !all.split(", ").any(|of| of.starts_with(&format!("{name} "))));
            if self.sockets.contains_key(name) && !is_told_again {
                let so_far = told.entry(name.clone()).or_default();
                *so_far = *so_far | readiness;
            }
        }
        let shown: Vec<_> = told.iter().map(|(name, readiness)| format!("{name} {readiness:?}")).collect();
        shown.join(", ")
    }
}
