//! A connection that belongs to no loop.

use std::fmt;
use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use crate::filter::chain::Chain;
use crate::sys::{Held, Stream};
use crate::{Address, Context};

/// A connection that belongs to no loop: [`Transport::detach`](crate::Transport::detach) returns one, and
/// [`Context::attach`] takes one. It can be made from any connected stream.
///
/// Besides the socket it holds the input that the protocol left unconsumed, the output that was written and not sent,
/// and its [filters](crate::filter) with the data between them. When it is attached again, to the same loop or another
/// one, all of these continue where they were. Dropping it closes the socket, with a reset if output is unsent or the
/// thread is panicking, so that no peer takes half an answer for the whole.
///
/// ```
/// use std::io::{Read, Write};
/// use std::thread;
/// use std::time::Duration;
/// use switchboard::{Protocol, Transport};
///
/// /// Leaves its connection to a thread once it is established.
/// struct Blocking;
///
/// impl Protocol for Blocking {
///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
///         transport.detach(|_, detached| {
///             thread::spawn(move || -> std::io::Result<()> {
///                 let mut stream = detached.into_blocking(Some(Duration::from_secs(60)))?;
///                 let mut text = String::new();
///                 stream.read_to_string(&mut text)?;
///                 stream.write_all(text.to_uppercase().as_bytes())
///             });
///         });
///     }
///
///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
///         data.len()
///     }
/// }
/// ```
#[must_use = "dropping it closes the socket"]
pub struct Detached {
    pub(crate) stream: Held,
    /// As `accept` returned it, if it did: asking later fails if the peer has reset.
    pub(crate) peer: Option<Address>,
    pub(crate) unread: Vec<u8>,
    pub(crate) unsent: Vec<u8>,
    /// Between the socket and the two above.
    pub(crate) chain: Option<Box<Chain>>,
}

/// The parts of a [`Detached`], for code that wants the plain stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct DetachedParts<S> {
    /// The socket; non-blocking if it comes from a loop.
    pub stream: S,
    /// Input that was read from the socket and not consumed.
    pub unread: Vec<u8>,
    /// Output that was written and not sent.
    pub unsent: Vec<u8>,
}

/// Called with a connection that was detached.
pub(crate) type Receiver = Box<dyn FnOnce(&mut Context<'_>, Detached)>;

impl Detached {
    #[inline(never)]
    pub(crate) fn new(stream: Stream, peer: Option<Address>, unread: Vec<u8>, unsent: Vec<u8>) -> Detached {
        Detached { stream: Held::new(stream, !unsent.is_empty()), peer, unread, unsent, chain: None }
    }

    /// Adds its filters; what they have made of the written data counts as unsent too.
    pub(crate) fn with_chain(mut self, chain: Option<Box<Chain>>) -> Detached {
        if chain.as_ref().is_some_and(|chain| chain.outward_bytes() > 0) {
            self.stream.set_short(true);
        }
        self.chain = chain;
        self
    }

    /// Returns a connected stream with input that was read from it elsewhere. That input is delivered first, after any
    /// that the `Detached` holds already.
    pub fn with_unread(stream: impl Into<Detached>, unread: &[u8]) -> Detached {
        let mut detached = stream.into();
        detached.unread.extend_from_slice(unread);
        detached
    }

    /// Gives its socket the options of every socket of a loop, and returns the peer's address.
    pub(crate) fn prepare(&mut self) -> io::Result<Address> {
        self.stream.get().prepare()?;
        self.stream.replace(Stream::classified);
        let stream = self.stream.get();
        match &self.peer {
            Some(peer) => Ok(peer.clone()),
            None => match stream.peer_addr() {
                // There may still be data to read from it.
                #[cfg(unix)]
                Err(error) if stream.is_unix() && stream.has_lost_peer(&error) => {
                    Ok(crate::UnixAddress::Unnamed.into())
                }
                found => found,
            },
        }
    }

    /// Returns the peer's address, as the loop knew it, or `None` for a stream that was never in a loop.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Returns the input that was read from the socket and not consumed. It comes before whatever is still in the
    /// socket.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Returns the output that was written and not sent. It comes before whatever is written from now on.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Returns whether there are [filters](crate::filter) between its socket and its user. They stay with it, and
    /// [`unread`](Detached::unread) and [`unsent`](Detached::unsent) are the data above them.
    pub fn has_filters(&self) -> bool {
        self.chain.is_some()
    }

    /// Closes the socket with a reset (Unix sockets have none and are just closed), so that the peer does not take what
    /// it has received for the whole. Unsent data is dropped. As with [`Transport::abort`](crate::Transport::abort), an
    /// open duplicate of the socket delays this.
    pub fn abort(self) {
        self.stream.reset();
    }

    /// Takes it apart, if it is a TCP stream.
    ///
    /// # Errors
    ///
    /// Returns it unchanged if it is not a TCP stream, or has [filters](crate::filter).
    pub fn into_tcp(self) -> Result<DetachedParts<TcpStream>, Detached> {
        if self.has_filters() {
            return Err(self);
        }
        let Detached { stream, peer, unread, unsent, .. } = self;
        match stream.take().try_into() {
            Ok(stream) => Ok(DetachedParts { stream, unread, unsent }),
            Err(stream) => Err(Detached::new(stream, peer, unread, unsent)),
        }
    }

    /// Takes it apart, if it is a Unix stream.
    ///
    /// # Errors
    ///
    /// Returns it unchanged if it is not a Unix stream, or has [filters](crate::filter).
    #[cfg(unix)]
    pub fn into_unix(self) -> Result<DetachedParts<UnixStream>, Detached> {
        if self.has_filters() {
            return Err(self);
        }
        let Detached { stream, peer, unread, unsent, .. } = self;
        match stream.take().try_into() {
            Ok(stream) => Ok(DetachedParts { stream, unread, unsent }),
            Err(stream) => Err(Detached::new(stream, peer, unread, unsent)),
        }
    }
}

impl From<TcpStream> for Detached {
    fn from(stream: TcpStream) -> Detached {
        Detached::new(stream.into(), None, Vec::new(), Vec::new())
    }
}

#[cfg(unix)]
impl From<UnixStream> for Detached {
    fn from(stream: UnixStream) -> Detached {
        Detached::new(stream.into(), None, Vec::new(), Vec::new())
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("peer", &self.peer)
            .field("unread_bytes", &self.unread.len())
            .field("unsent_bytes", &self.unsent.len())
            .field("has_filters", &self.has_filters())
            .finish_non_exhaustive()
    }
}
