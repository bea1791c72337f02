//! A listener without a socket: its backlog is a queue that other threads put connections into.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Held, Stream};
use crate::Address;

/// The loop's end of the queue.
pub(crate) struct FedListener {
    queue: Receiver<Fed>,
    shared: Arc<Shared>,
    address: Address,
    /// What came with the connection that was accepted last.
    rest: Option<Rest>,
}

/// The other end.
#[derive(Clone)]
pub(crate) struct Queue {
    queue: Sender<Fed>,
    shared: Arc<Shared>,
}

struct Shared {
    waiting: AtomicUsize,
    waiting_max: usize,
    /// How many connections the listener has, as it tells.
    connections: AtomicUsize,
    /// Whether the loop was told, and has not looked since.
    told: AtomicBool,
}

/// Input that was read and not consumed, and output that has not gone out.
pub(crate) type Rest = (Vec<u8>, Vec<u8>);

/// A connection on its way: a stream of the system's, which any thread may hold.
pub(crate) struct Fed {
    stream: Held<AnyStream>,
    peer: Address,
    rest: Rest,
}

enum AnyStream {
    Tcp(mio::net::TcpStream),
    Odd(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(super::unix_stream::UnixStream),
}

/// Why a connection was not queued, and the connection.
pub(crate) enum NotFed {
    Full(Stream, Address, Rest),
    Gone(Stream, Address, Rest),
}

impl FedListener {
    pub(crate) fn new(address: Address, waiting_max: usize) -> (FedListener, Queue) {
        let (sender, receiver) = channel();
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            waiting_max,
            connections: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        });
        let queue = Queue { queue: sender, shared: shared.clone() };
        (FedListener { queue: receiver, shared, address, rest: None }, queue)
    }

    /// Whoever feeds from here on tells the loop again; what was fed before is in the queue.
    pub(super) fn will_look(&self) {
        self.shared.told.swap(false, Ordering::AcqRel);
    }

    pub(super) fn accept(&mut self) -> io::Result<(Stream, Address)> {
        let Ok(Fed { stream, peer, rest }) = self.queue.try_recv() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.rest = Some(rest).filter(|(unread, unsent)| !unread.is_empty() || !unsent.is_empty());
        Ok((stream.take().into(), peer))
    }

    pub(super) fn take_rest(&mut self) -> Option<Rest> {
        self.rest.take()
    }

    pub(super) fn publish(&self, connections: usize) {
        self.shared.connections.store(connections, Ordering::Relaxed);
    }

    pub(super) fn local_addr(&self) -> Address {
        self.address.clone()
    }
}

impl Queue {
    /// Queues a connection. Answers whether the loop is to be told; it was not, since it last looked.
    pub(crate) fn push(&self, stream: Stream, peer: Address, rest: Rest) -> Result<bool, NotFed> {
        let has_room = |waiting: usize| (waiting < self.shared.waiting_max).then_some(waiting + 1);
        if self.shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).is_err() {
            return Err(NotFed::Full(stream, peer, rest));
        }
        let stream = match AnyStream::try_from(stream) {
            Ok(stream) => stream,
            // One in memory belongs to the loop that made it.
            Err(stream) => return Err(self.give_back(stream, peer, rest)),
        };
        let stream = Held::new(stream, !rest.1.is_empty());
        match self.queue.send(Fed { stream, peer, rest }) {
            Ok(()) => Ok(!self.shared.told.swap(true, Ordering::AcqRel)),
            Err(error) => {
                let Fed { stream, peer, rest } = error.0;
                Err(self.give_back(stream.take().into(), peer, rest))
            }
        }
    }

    fn give_back(&self, stream: Stream, peer: Address, rest: Rest) -> NotFed {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        NotFed::Gone(stream, peer, rest)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl TryFrom<Stream> for AnyStream {
    type Error = Stream;

    fn try_from(stream: Stream) -> Result<AnyStream, Stream> {
        match stream {
            Stream::Tcp(stream) => Ok(AnyStream::Tcp(stream)),
            Stream::Odd(stream) => Ok(AnyStream::Odd(stream)),
            #[cfg(unix)]
            Stream::Unix(stream) => Ok(AnyStream::Unix(stream)),
            #[cfg(any(test, feature = "testing"))]
            other => Err(other),
        }
    }
}

impl From<AnyStream> for Stream {
    fn from(stream: AnyStream) -> Stream {
        match stream {
            AnyStream::Tcp(stream) => Stream::Tcp(stream),
            AnyStream::Odd(stream) => Stream::Odd(stream),
            #[cfg(unix)]
            AnyStream::Unix(stream) => Stream::Unix(stream),
        }
    }
}
