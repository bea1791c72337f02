//! A connected stream socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::Interest;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::errors::is_begun;
use super::habits::{HERE, Habits};
use super::options::{SEND_FLAGS, if_supported, is_tcp, limit_orphan, set_tcp_options, with_urgent_data};
use super::{Poller, PutOff, memory};
use crate::Address;
#[cfg(unix)]
use crate::UnixAddress;

pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    /// A socket of another protocol in a TCP stream's type, such as one of MPTCP.
    NotTcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(super::unix_stream::UnixStream),
    Memory(memory::Boxed<dyn memory::Stream>),
}

impl Stream {
    /// Gives a stream that was made elsewhere the options that every stream of a loop has. Until then it is only held.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                let socket = SockRef::from(stream);
                socket.set_nonblocking(true)?;
                // A close that waits would hold up the loop.
                if_supported(socket.set_linger(None))?;
                set_tcp_options(&socket)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.prepare(),
            Stream::Memory(_) => Ok(()),
        }
    }

    /// Whether it is in memory, so that it belongs to the loop that made it.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self, Stream::Memory(_))
    }

    /// Makes it block. No stream of a loop does.
    pub(crate) fn set_blocking(&self) -> io::Result<()> {
        self.socket()?.set_nonblocking(false)
    }

    /// How long each read, and each write, blocks at most; `None`: for ever.
    pub(crate) fn set_timeouts(&self, [read, write]: [Option<Duration>; 2]) -> io::Result<()> {
        let socket = self.socket()?;
        socket.set_read_timeout(read)?;
        socket.set_write_timeout(write)
    }

    /// As it was set. What is in memory never blocks.
    pub(crate) fn timeouts(&self) -> io::Result<[Option<Duration>; 2]> {
        match self.is_in_memory() {
            true => Ok([None; 2]),
            false => Ok([self.socket()?.read_timeout()?, self.socket()?.write_timeout()?]),
        }
    }

    /// Writes what the kernel takes at once, though the stream blocks.
    pub(crate) fn write_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_in_memory() {
            return self.write(bytes);
        }
        self.socket()?.set_nonblocking(true)?;
        let result = self.write(bytes);
        self.set_blocking()?;
        result
    }

    fn socket(&self) -> io::Result<SockRef<'_>> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Ok(SockRef::from(stream)),
            #[cfg(unix)]
            Stream::Unix(stream) => Ok(stream.socket()),
            Stream::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Finds out whether a stream in TCP's type that was made elsewhere is one of TCP.
    pub(crate) fn classified(self) -> Stream {
        match self {
            Stream::Tcp(stream) if !is_tcp(&SockRef::from(&stream)) => Stream::NotTcp(stream),
            other => other,
        }
    }

    /// Begins to connect, from a local address if one is given. The first writable event tells whether it is established
    /// (rule K1).
    pub(crate) fn connect(poller: &Poller, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        match poller {
            Poller::Mio(_) => Stream::connect_tcp(address, local),
            Poller::Memory(poller) => poller.connect(address, local).map(Stream::Memory),
        }
    }

    /// Connects to a Unix socket. On most systems that succeeds or fails at once; no event tells that it has succeeded.
    #[cfg(unix)]
    pub(crate) fn connect_unix(poller: &Poller, address: &UnixAddress) -> io::Result<Stream> {
        if let Poller::Memory(poller) = poller {
            super::unix_address::check(address, poller.habits())?;
            let (own, name) = (UnixAddress::Unnamed.into(), address.clone().into());
            return poller.connect_named(own, &name).map(Stream::Memory);
        }
        super::unix_stream::UnixStream::connect(address).map(Stream::Unix)
    }

    fn connect_tcp(address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        let socket = Stream::unconnected(address, local)?;
        match socket.connect(&address.into()) {
            Err(error) if !is_begun(&error) => return Err(error),
            _ => {}
        }
        let stream = mio::net::TcpStream::from_std(socket.into());
        // The system may be set up to make MPTCP sockets in place of TCP's.
        Ok(Stream::Tcp(stream).classified())
    }

    /// A socket to connect with. It has its options before: of a connection that is over at once, macOS takes none.
    fn unconnected(address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(local) = local {
            socket.bind(&local.into())?;
        }
        set_tcp_options(&SockRef::from(&socket))?;
        Ok(socket)
    }

    /// Takes a stream that `accept` returned.
    pub(super) fn from_accepted(stream: mio::net::TcpStream) -> Stream {
        // On Linux it has inherited the listener's options. Elsewhere they are set again; an error here is the
        // connection's own: its first read or write reports it.
        if !HERE.accepted_inherits_options {
            let _ = set_tcp_options(&SockRef::from(&stream));
        }
        Stream::Tcp(stream)
    }

    /// Takes a stream that `accept` returned, of a listener that did not have our options or is not one of TCP.
    pub(super) fn from_unknown(stream: mio::net::TcpStream) -> Stream {
        let socket = SockRef::from(&stream);
        let _ = set_tcp_options(&socket);
        let _ = socket.set_linger(None);
        Stream::Tcp(stream).classified()
    }

    /// Registers it with the poller. For TCP this is inlined, which saves 7 instructions a connection.
    #[inline]
    pub(crate) fn register(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                poller.registry()?.register(stream, mio::Token(token), stream_interest(&HERE, false))
            }
            other => other.register_other(poller, token),
        }
    }

    #[inline(never)]
    fn register_other(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                poller.register(stream, token, stream_interest(&HERE, false))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.register(poller, token),
            Stream::Memory(stream) => stream.register(poller.memory()?, token),
        }
    }

    /// Deregisters it from the poller. Its socket stays open.
    pub(crate) fn deregister(&mut self, poller: &Poller) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => poller.deregister(stream),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.deregister(poller),
            Stream::Memory(stream) => stream.deregister(),
        }
    }

    /// Asks for an event when a connect is over or a blocked send can go on or, with `false`, stops asking. Where that costs
    /// nothing, TCP streams are registered for it all the time.
    #[inline]
    pub(crate) fn await_writable(&mut self, poller: &Poller, token: usize, awaits: bool) -> io::Result<()> {
        match self {
            Stream::Tcp(_) if !HERE.rearms_all => Ok(()),
            other => other.await_writable_by_interest(poller, token, awaits),
        }
    }

    fn await_writable_by_interest(&mut self, poller: &Poller, token: usize, awaits: bool) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Stream::Unix(stream) => stream.await_writable(poller, token, awaits),
            Stream::Memory(stream) => {
                stream.await_writable(awaits);
                Ok(())
            }
            Stream::Tcp(stream) | Stream::NotTcp(stream) if HERE.rearms_all => {
                poller.reregister(stream, token, stream_interest(&HERE, awaits))
            }
            Stream::Tcp(_) | Stream::NotTcp(_) => Ok(()),
        }
    }

    /// Makes the poller report again what the stream is ready for, without a new edge.
    pub(crate) fn tell_again(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                poller.reregister(stream, token, stream_interest(&HERE, true))
            }
            // Would-block is reliable there, even while a signal is pending.
            #[cfg(unix)]
            Stream::Unix(_) => Ok(()),
            Stream::Memory(stream) => {
                stream.tell_again();
                Ok(())
            }
        }
    }

    /// Whether it is one of a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        match self {
            #[cfg(unix)]
            Stream::Unix(_) => true,
            Stream::Memory(stream) => stream.is_unix(),
            _ => false,
        }
    }

    fn habits(&self) -> &'static Habits {
        match self {
            Stream::Memory(stream) => stream.habits(),
            _ => &HERE,
        }
    }

    /// Whether a hang-up means that the peer has closed both halves, and not only its own: true of Unix sockets (rule
    /// H3).
    pub(crate) fn hang_up_is_both_halves(&self) -> bool {
        self.is_unix()
    }

    /// Whether nobody is told of that hang-up who has not asked for an event when a send can go on.
    pub(crate) fn hangs_up_by_writing(&self) -> bool {
        self.habits().hang_up_by_writing && self.is_unix()
    }

    /// Whether this error, of asking for its peer's address, says that its peer has come and gone. Then only what it
    /// still has to be read, or its error, tells what has become of it.
    pub(crate) fn has_lost_peer(&self, error: &io::Error) -> bool {
        let habits = self.habits();
        match error.kind() {
            io::ErrorKind::InvalidInput => habits.invalid_once_over,
            // A Unix stream is connected at once, or never.
            io::ErrorKind::NotConnected => habits.forgets_unix_peer && self.is_unix(),
            _ => false,
        }
    }

    /// Whether a read that stops short, without a hint of anything special, has emptied the socket.
    ///
    /// That saves a system call a message. It is true of TCP on Linux only: elsewhere, and for other sockets, only
    /// would-block tells. (Of three messages that have arrived on an MPTCP socket a read returns the first.)
    pub(crate) fn short_read_empties(&self) -> bool {
        match self {
            Stream::Tcp(_) => HERE.short_read_empties_tcp,
            Stream::NotTcp(_) => false,
            #[cfg(unix)]
            Stream::Unix(_) => false,
            Stream::Memory(stream) => stream.short_read_empties(),
        }
    }

    /// Puts off the read that would tell whether a short one has left something. Returns the state before; `None` if
    /// the read must be done now.
    pub(crate) fn put_off_reading(&mut self) -> Option<PutOff> {
        match self {
            Stream::Tcp(_) | Stream::NotTcp(_) => None,
            #[cfg(unix)]
            Stream::Unix(stream) => stream.put_off_reading(),
            Stream::Memory(stream) => stream.put_off_reading(),
        }
    }

    /// The moment is over for which a read was put off. Returns the state before.
    pub(crate) fn pass_put_off(&mut self) -> PutOff {
        match self {
            #[cfg(unix)]
            Stream::Unix(stream) => stream.pass_put_off(),
            Stream::Memory(stream) => stream.pass_put_off(),
            Stream::Tcp(_) | Stream::NotTcp(_) => PutOff::No,
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Memory(stream) => stream.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Memory(stream) => stream.write(bytes),
        }
    }

    /// The TCP stream, as most are: a single check that it is there and of this kind.
    #[inline]
    pub(crate) fn tcp_mut(stream: &mut Option<Stream>) -> Option<&mut mio::net::TcpStream> {
        match stream {
            Some(Stream::Tcp(stream)) => Some(stream),
            _ => None,
        }
    }

    /// Like [`short_read_empties`](Stream::short_read_empties), with a single check for a TCP stream.
    #[inline]
    pub(crate) fn short_read_empties_open(stream: &Option<Stream>) -> bool {
        match stream {
            Some(Stream::Tcp(_)) => HERE.short_read_empties_tcp,
            Some(other) => other.short_read_empties(),
            None => false,
        }
    }

    /// Writes several pieces in one call. Not std's, which can raise SIGPIPE (rule W7).
    pub(crate) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            // `try_io`, since on Windows a call that is not mio's own would leave the socket without its next event.
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                let stream = &*stream;
                stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(pieces, SEND_FLAGS))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.write_vectored(pieces),
            Stream::Memory(stream) => stream.write_vectored(pieces),
        }
    }

    /// Shuts down our half: the peer reads the end of the stream after all that was written.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.shutdown_write(),
            Stream::Memory(stream) => stream.shutdown_write(),
        }
    }

    /// Closes with a reset: what is unsent is dropped, and the peer gets an error in place of an end (rule X2).
    pub(crate) fn reset(self) {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                // If the option cannot be set there is nothing left that a reset could be sent to.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            // Unix sockets have no reset: they are only closed.
            #[cfg(unix)]
            Stream::Unix(stream) => drop(stream),
            Stream::Memory(stream) => stream.reset(),
        }
    }

    /// Limits how long the kernel keeps unsent data when this is closed, while the peer takes nothing of it (TCP on
    /// Linux). Elsewhere a peer that never reads keeps it for ever.
    pub(crate) fn limit_orphan(&self, timeout: Duration) {
        if let Stream::Tcp(stream) = self {
            limit_orphan(&SockRef::from(stream), timeout);
        }
    }

    /// The socket's pending error, which no call has reported yet.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.take_error(),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.take_error(),
            Stream::Memory(stream) => Ok(stream.take_error()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.local_addr().map(Address::of_socket),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.local_addr(),
            Stream::Memory(stream) => stream.local_addr(),
        }
    }

    /// The peer's address, from the kernel; fails if the peer has reset already.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.peer_addr().map(Address::of_socket),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.peer_addr(),
            Stream::Memory(stream) => stream.peer_addr(),
        }
    }

    /// `None` for a stream in memory.
    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Some(std::os::fd::AsFd::as_fd(stream)),
            Stream::Unix(stream) => Some(stream.as_fd()),
            Stream::Memory(_) => None,
        }
    }

    /// `None` for a stream in memory.
    #[cfg(windows)]
    pub(crate) fn as_socket(&self) -> Option<std::os::windows::io::BorrowedSocket<'_>> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Some(std::os::windows::io::AsSocket::as_socket(stream)),
            Stream::Memory(_) => None,
        }
    }
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Stream {
        Stream::Tcp(mio::net::TcpStream::from_std(stream))
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Stream {
        Stream::Unix(super::unix_stream::UnixStream::from_std(stream))
    }
}

/// The standard library's stream again, non-blocking as it is.
impl TryFrom<Stream> for std::net::TcpStream {
    type Error = Stream;

    fn try_from(stream: Stream) -> Result<std::net::TcpStream, Stream> {
        match stream {
            #[cfg(unix)]
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Ok(std::os::fd::OwnedFd::from(stream).into()),
            #[cfg(windows)]
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Ok(std::os::windows::io::OwnedSocket::from(stream).into()),
            other => Err(other),
        }
    }
}

/// The standard library's stream again, non-blocking as it is.
#[cfg(unix)]
impl TryFrom<Stream> for std::os::unix::net::UnixStream {
    type Error = Stream;

    fn try_from(stream: Stream) -> Result<std::os::unix::net::UnixStream, Stream> {
        match stream {
            Stream::Unix(stream) => Ok(stream.into_std()),
            other => Err(other),
        }
    }
}

/// What a TCP stream is registered for. On most systems that is for both, once: no further call is needed to write or to stop
/// (edge-triggered).
#[inline]
fn stream_interest(habits: &Habits, awaits_writable: bool) -> Interest {
    let is_for_writing = awaits_writable || !habits.rearms_all;
    let interest = if is_for_writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    // Urgent data raises no readable edge of its own, and a read stops short at its mark (rule R6).
    with_urgent_data(interest)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener, UnixStream};

    use super::super::{Fed, Listener};
    use super::*;

    /// A Unix socket in the type of a TCP one: any kernel has it, and it does not support most options of TCP.
    fn odd() -> TcpStream {
        OwnedFd::from(UnixStream::pair().unwrap().0).into()
    }

    #[test]
    fn k1_where_each_would_block_arms_all_a_stream_is_registered_for_writing_only_while_it_waits_for_that() {
        for (habits, awaits, for_writing) in [
            (Habits::LINUX, false, true),
            (Habits::LINUX, true, true),
            (Habits::APPLE, false, true),
            (Habits::WINDOWS, false, false),
            (Habits::WINDOWS, true, true),
        ] {
            let interest = stream_interest(&habits, awaits);
            assert_eq!((interest.is_readable(), interest.is_writable()), (true, for_writing), "{habits:?}");
        }
    }

    fn prepared(stream: impl Into<Stream>) -> Stream {
        let stream = stream.into();
        stream.prepare().unwrap();
        stream.classified()
    }

    #[test]
    fn r6_whether_a_short_read_empties_a_socket_goes_by_what_it_is_and_not_by_its_type() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = prepared(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        assert!(matches!(plain, Stream::Tcp(_)) && plain.short_read_empties());
        let odd = prepared(odd());
        assert!(matches!(odd, Stream::NotTcp(_)) && !odd.short_read_empties());
        assert!(!Stream::short_read_empties_open(&Some(odd)));
    }

    #[test]
    fn r6_a_stream_that_is_not_of_tcp_is_none_behind_a_queue_either() {
        let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let Ok(fed) = Fed::new(prepared(odd()), address, (Vec::new(), Vec::new())) else {
            panic!("it is the system's")
        };
        let (stream, ..) = fed.into_parts();
        assert!(matches!(stream, Stream::NotTcp(_)));
    }

    #[test]
    fn k1_a_socket_has_its_options_before_it_connects() {
        let tcp = Stream::unconnected(([127, 0, 0, 1], 1).into(), None).unwrap();
        assert!(tcp.tcp_nodelay().unwrap() && tcp.out_of_band_inline().unwrap() && tcp.peer_addr().is_err());
        let unix = super::super::unix_stream::unconnected().unwrap();
        assert!(unix.out_of_band_inline().unwrap() && unix.nonblocking().unwrap() && unix.peer_addr().is_err());
    }

    #[test]
    fn r6_a_listener_that_is_not_of_tcp_is_taken() {
        let name = format!("switchboard odd {}", std::process::id());
        let odd = UnixListener::bind_addr(&UnixSocketAddr::from_abstract_name(name).unwrap()).unwrap();
        Listener::from_std(&Poller::new().unwrap(), OwnedFd::from(odd).into()).unwrap();
    }
}
