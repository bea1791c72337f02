//! A connection that no loop has.

use std::fmt;
use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use crate::filter::chain::Chain;
use crate::sys::{Held, Stream};
use crate::{Address, Context};

/// A connection that no loop has: what [`Transport::detach`](crate::Transport::detach) gives, and what
/// [`Context::attach`] takes, made from any connected stream.
///
/// Beside the socket it holds what the protocol had left unconsumed, and what was written and had not gone out, and its
/// [filters](crate::filter) with what is between them. Attached again, to the same loop or another one, all of these go on
/// where they were. Dropping it closes the socket: by a reset while
/// output is unsent, or while the thread panics, since no peer must take half an answer for the whole.
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
    /// As `accept` gave it, if it did: asking later fails where the peer has reset.
    pub(crate) peer: Option<Address>,
    pub(crate) unread: Vec<u8>,
    pub(crate) unsent: Vec<u8>,
    /// Between the socket and both of these.
    pub(crate) chain: Option<Box<Chain>>,
}

/// What a [`Detached`] is made of, for code that wants the plain stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct DetachedParts<S> {
    /// The socket; non-blocking if it comes from a loop.
    pub stream: S,
    /// Input that was read from the socket and not consumed.
    pub unread: Vec<u8>,
    /// Output that was written and has not gone out.
    pub unsent: Vec<u8>,
}

/// What is called with a connection that was detached.
pub(crate) type Receiver = Box<dyn FnOnce(&mut Context<'_>, Detached)>;

impl Detached {
    #[inline(never)]
    pub(crate) fn new(stream: Stream, peer: Option<Address>, unread: Vec<u8>, unsent: Vec<u8>) -> Detached {
        Detached { stream: Held::new(stream, !unsent.is_empty()), peer, unread, unsent, chain: None }
    }

    /// Its filters come with it, and what they have made of what was written is unsent as well.
    pub(crate) fn with_chain(mut self, chain: Option<Box<Chain>>) -> Detached {
        if chain.as_ref().is_some_and(|chain| chain.outward_bytes() > 0) {
            self.stream.set_short(true);
        }
        self.chain = chain;
        self
    }

    /// A connected stream, with input that was read from it elsewhere: that comes first, behind what a `Detached` holds
    /// already.
    pub fn with_unread(stream: impl Into<Detached>, unread: &[u8]) -> Detached {
        let mut detached = stream.into();
        detached.unread.extend_from_slice(unread);
        detached
    }

    /// Makes its socket what every socket of a loop is, and tells the peer's address.
    pub(crate) fn prepare(&mut self) -> io::Result<Address> {
        self.stream.get().prepare()?;
        self.stream.replace(Stream::classified);
        let stream = self.stream.get();
        match &self.peer {
            Some(peer) => Ok(peer.clone()),
            None => match stream.peer_addr() {
                // What that has sent is still to be read.
                #[cfg(unix)]
                Err(error) if stream.is_unix() && stream.has_lost_peer(&error) => {
                    Ok(crate::UnixAddress::Unnamed.into())
                }
                found => found,
            },
        }
    }

    /// The peer's address, as the loop knew it; `None` for a stream that no loop has had.
    pub fn peer_addr(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Input that was read from the socket and not consumed. It comes before what is still in the socket.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Output that was written and has not gone out. It comes before whatever is written from here on.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Returns whether there are [filters](crate::filter) between its socket and who reads and writes it: they go with it, and
    /// [`unread`](Detached::unread) and [`unsent`](Detached::unsent) are what is above them.
    pub fn has_filters(&self) -> bool {
        self.chain.is_some()
    }

    /// Closes the socket by a reset (Unix sockets: plainly), for a peer that must not take what it has got for the
    /// whole. What is unsent is dropped. As with [`Transport::abort`](crate::Transport::abort), a duplicate that is
    /// open puts it off.
    pub fn abort(self) {
        self.stream.reset();
    }

    /// Takes it apart, where it is a TCP stream.
    ///
    /// # Errors
    ///
    /// Gives it back where it is no TCP stream, or has [filters](crate::filter).
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

    /// Takes it apart, where it is a Unix stream.
    ///
    /// # Errors
    ///
    /// Gives it back where it is no Unix stream, or has [filters](crate::filter).
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
