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
    /// A socket of another protocol in a TCP stream's type, such as an MPTCP one.
    NotTcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(super::unix_stream::UnixStream),
    Memory(memory::Boxed<dyn memory::Stream>),
}

impl Stream {
    /// Gives a stream that was made elsewhere the options of every stream of a loop. Until then it is only held.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                let socket = SockRef::from(stream);
                socket.set_nonblocking(true)?;
                // A close that waits would block the loop.
                if_supported(socket.set_linger(None))?;
                set_tcp_options(&socket)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.prepare(),
            Stream::Memory(_) => Ok(()),
        }
    }

    /// Returns whether it is in memory, so that it belongs to the loop that made it.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self, Stream::Memory(_))
    }

    /// Makes it blocking. Streams in a loop never are.
    pub(crate) fn set_blocking(&self) -> io::Result<()> {
        self.socket()?.set_nonblocking(false)
    }

    /// Sets how long each read, and each write, blocks at most; `None` is forever.
    pub(crate) fn set_timeouts(&self, [read, write]: [Option<Duration>; 2]) -> io::Result<()> {
        let socket = self.socket()?;
        socket.set_read_timeout(read)?;
        socket.set_write_timeout(write)
    }

    /// Returns the timeouts as they were set. Streams in memory never block.
    pub(crate) fn timeouts(&self) -> io::Result<[Option<Duration>; 2]> {
        match self.is_in_memory() {
            true => Ok([None; 2]),
            false => Ok([self.socket()?.read_timeout()?, self.socket()?.write_timeout()?]),
        }
    }

    /// Writes what the kernel takes at once, even if the stream is blocking.
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

    /// Finds out whether a stream in TCP's type that was made elsewhere is a TCP stream.
    pub(crate) fn classified(self) -> Stream {
        match self {
            Stream::Tcp(stream) if !is_tcp(&SockRef::from(&stream)) => Stream::NotTcp(stream),
            other => other,
        }
    }

    /// Begins to connect, from a local address if one is given. The first writable event tells whether it is
    /// established (rule K1).
    pub(crate) fn connect(poller: &Poller, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        match poller {
            Poller::Mio(_) => Stream::connect_tcp(address, local),
            Poller::Memory(poller) => poller.connect(address, local).map(Stream::Memory),
        }
    }

    /// Connects to a Unix socket. On most systems that succeeds or fails at once; no event reports success.
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
        // The system may be configured to make MPTCP sockets in place of TCP ones.
        Ok(Stream::Tcp(stream).classified())
    }

    /// Returns a socket to connect with. Its options are set before: macOS takes none for a connection that ends at
    /// once.
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
        // On Linux it has inherited the listener's options. On other systems they are set again; an error here concerns
        // only this connection, whose first read or write reports it.
        if !HERE.accepted_inherits_options {
            let _ = set_tcp_options(&SockRef::from(&stream));
        }
        Stream::Tcp(stream)
    }

    /// Takes a stream that `accept` returned from a listener that did not have our options or is not a TCP one.
    pub(super) fn from_unknown(stream: mio::net::TcpStream) -> Stream {
        let socket = SockRef::from(&stream);
        let _ = set_tcp_options(&socket);
        let _ = socket.set_linger(None);
        Stream::Tcp(stream).classified()
    }

    /// Registers it with the poller. Inlined for TCP, which saves 7 instructions per connection.
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

    /// Asks for an event when a connect is complete or a blocked send can continue, or stops asking if `awaits` is
    /// `false`. Where that costs nothing, TCP streams are registered for it all the time.
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
            // Would-block is reliable for these, even while a signal is pending.
            #[cfg(unix)]
            Stream::Unix(_) => Ok(()),
            Stream::Memory(stream) => {
                stream.tell_again();
                Ok(())
            }
        }
    }

    /// Returns whether it is a Unix stream.
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

    /// Returns whether a hang-up means that the peer has closed both halves, and not only its own: true for Unix
    /// sockets (rule H3).
    pub(crate) fn hang_up_is_both_halves(&self) -> bool {
        self.is_unix()
    }

    /// Returns whether that hang-up is reported only to those that have asked for writable events.
    pub(crate) fn hangs_up_by_writing(&self) -> bool {
        self.habits().hang_up_by_writing && self.is_unix()
    }

    /// Returns whether this error, from asking for its peer's address, means that the peer has come and gone. In that
    /// case only the unread data, or the socket's error, tells what happened.
    pub(crate) fn has_lost_peer(&self, error: &io::Error) -> bool {
        let habits = self.habits();
        match error.kind() {
            io::ErrorKind::InvalidInput => habits.invalid_once_over,
            // A Unix stream is connected at once, or never.
            io::ErrorKind::NotConnected => habits.forgets_unix_peer && self.is_unix(),
            _ => false,
        }
    }

    /// Returns whether a short read, without a hint of anything special, has emptied the socket.
    ///
    /// This saves a system call per message. It is true only for TCP on Linux: on other systems, and for other sockets,
    /// only would-block tells. (Of three messages that have arrived on an MPTCP socket, a read returns the first.)
    pub(crate) fn short_read_empties(&self) -> bool {
        match self {
            Stream::Tcp(_) => HERE.short_read_empties_tcp,
            Stream::NotTcp(_) => false,
            #[cfg(unix)]
            Stream::Unix(_) => false,
            Stream::Memory(stream) => stream.short_read_empties(),
        }
    }

    /// Defers the read that would tell whether a short one has left something. Returns the previous state, or `None` if
    /// the read must be done now.
    pub(crate) fn put_off_reading(&mut self) -> Option<PutOff> {
        match self {
            Stream::Tcp(_) | Stream::NotTcp(_) => None,
            #[cfg(unix)]
            Stream::Unix(stream) => stream.put_off_reading(),
            Stream::Memory(stream) => stream.put_off_reading(),
        }
    }

    /// The delay of a deferred read is over. Returns the previous state.
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

    /// Returns the TCP stream, which most are: a single check that it exists and is of this kind.
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

    /// Writes several pieces in one call. The standard library's call can raise SIGPIPE (rule W7).
    pub(crate) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            // `try_io`, because on Windows a call that does not go through mio would leave the socket without its next
            // event.
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                let stream = &*stream;
                stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(pieces, SEND_FLAGS))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => stream.write_vectored(pieces),
            Stream::Memory(stream) => stream.write_vectored(pieces),
        }
    }

    /// Shuts down our half: the peer reads the end of the stream after all written data.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.shutdown_write(),
            Stream::Memory(stream) => stream.shutdown_write(),
        }
    }

    /// Closes with a reset: unsent data is dropped, and the peer gets an error instead of an end (rule X2).
    pub(crate) fn reset(self) {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => {
                // If the option cannot be set, nothing is left that a reset could be sent to.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            // Unix sockets have no reset: they are just closed.
            #[cfg(unix)]
            Stream::Unix(stream) => drop(stream),
            Stream::Memory(stream) => stream.reset(),
        }
    }

    /// Limits how long the kernel keeps unsent data after this is closed, while the peer takes none of it (TCP on
    /// Linux). On other systems a peer that never reads keeps it there forever.
    pub(crate) fn limit_orphan(&self, timeout: Duration) {
        if let Stream::Tcp(stream) = self {
            limit_orphan(&SockRef::from(stream), timeout);
        }
    }

    /// Takes the socket's pending error, which no call has reported yet.
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

    /// Returns the peer's address, from the kernel; fails if the peer has already reset.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => stream.peer_addr().map(Address::of_socket),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.peer_addr(),
            Stream::Memory(stream) => stream.peer_addr(),
        }
    }

    /// Returns `None` for a stream in memory.
    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Stream::Tcp(stream) | Stream::NotTcp(stream) => Some(std::os::fd::AsFd::as_fd(stream)),
            Stream::Unix(stream) => Some(stream.as_fd()),
            Stream::Memory(_) => None,
        }
    }

    /// Returns `None` for a stream in memory.
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

/// Converts it back to the standard library's stream, still non-blocking.
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

/// Converts it back to the standard library's stream, still non-blocking.
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

/// Returns what a TCP stream is registered for. On most systems that is both directions, once: no further call is
/// needed to begin or stop writing (edge-triggered).
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

    /// Returns a Unix socket in a TCP stream's type: every kernel has it, and it does not support most TCP options.
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
