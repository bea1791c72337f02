//! Sockets, pollers and clocks in memory: those of the simulator, and the scripted ones of the crate's own tests.
//!
//! The enums of `sys` have one variant for both, which holds a trait object: neither has to be fast.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::habits::Habits;
use super::names::Answer;
use super::{PutOff, Readiness};
use crate::Address;

#[cfg(not(any(test, feature = "testing")))]
pub(crate) use absent::{InMemory, iter};
#[cfg(any(test, feature = "testing"))]
pub(crate) use present::{InMemory, Shared, iter, lock, shared};

pub(crate) type Boxed<T> = InMemory<Box<T>>;

/// A batch of events, by token.
pub(crate) type Batch = Vec<(usize, Readiness)>;

pub(crate) trait Clock: fmt::Debug {
    fn now(&self) -> Instant;
}

#[cfg_attr(not(unix), allow(dead_code))] // Signals and Unix sockets.
pub(crate) trait Poller {
    /// Returns the habits of the system that it stands for.
    fn habits(&self) -> &'static Habits {
        &Habits::LINUX
    }

    /// Returns a number for its loop, which is the same in each run.
    fn loop_number(&self) -> u64 {
        0
    }

    fn waker(&self) -> InMemory<Arc<dyn Waker>>;

    /// Returns a batch for [`poll`](Poller::poll) to fill.
    fn events(&self) -> InMemory<Batch>;

    /// Waits until something is ready, until woken, or until `timeout` has passed; `None` waits forever.
    fn poll(&mut self, events: &mut Batch, timeout: Option<Duration>) -> io::Result<()>;

    fn connect(&self, address: SocketAddr, local: Option<SocketAddr>) -> io::Result<Boxed<dyn Stream>>;

    fn listen(&self, _address: SocketAddr, _backlog: u32) -> io::Result<Boxed<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bind_datagram(&self, _address: &Address) -> io::Result<Boxed<dyn Datagram>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Looks up a name among those that are known in memory.
    fn look_up(&self, _name: &str, _port: u16, answer: Answer) {
        answer(Err(io::Error::new(io::ErrorKind::Unsupported, "no resolver was set")));
    }

    /// Picks how much time some work of a pool takes.
    fn pick_work_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Registers a source of the user's, if it is a simulated one.
    fn register_source(&self, _source: &mut dyn Any, _token: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reregister_source(&self, _source: &mut dyn Any) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn deregister_source(&self, _source: &mut dyn Any) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns what signals of these kinds arrive by.
    fn signals(&self, _signals: &[i32], _nameless: &Address) -> io::Result<Box<dyn Any>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Listens on a Unix socket.
    fn listen_named(&self, _name: &Address, _backlog: u32) -> io::Result<Boxed<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Connects to a Unix socket, from a new one that is named `own`.
    fn connect_named(&self, _own: Address, _name: &Address) -> io::Result<Boxed<dyn Stream>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// For sockets of the simulator, which only register with a poller of their own network.
    #[cfg(feature = "testing")]
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Records why a connection has ended.
    #[cfg(feature = "testing")]
    fn note_loss(&self, _token: usize, _reason: crate::CloseReason) {}
}

/// Has the bounds of [`Handle`](crate::Handle), which holds one.
pub(crate) trait Waker: fmt::Debug + Send + Sync + UnwindSafe + RefUnwindSafe {
    fn wake(&self) -> io::Result<()>;
}

/// Has the bounds that real sockets have. A [`Detached`](crate::Detached), which holds one, is `Send`.
pub(crate) trait Stream: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Returns the habits of the system that it stands for.
    fn habits(&self) -> &'static Habits {
        &Habits::LINUX
    }

    /// Returns whether it stands for a Unix stream.
    fn is_unix(&self) -> bool {
        false
    }

    fn register(&mut self, poller: &dyn Poller, token: usize) -> io::Result<()>;

    fn deregister(&mut self) -> io::Result<()>;

    /// Sets whether a Unix stream reports room.
    fn await_writable(&mut self, _awaits: bool) {}

    fn tell_again(&mut self);

    fn short_read_empties(&self) -> bool;

    fn put_off_reading(&mut self) -> Option<PutOff> {
        None
    }

    fn pass_put_off(&mut self) -> PutOff {
        PutOff::No
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends one urgent byte.
    #[cfg(feature = "testing")]
    fn write_urgent(&mut self, _byte: u8) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&self) -> io::Result<()>;

    /// Closes with a reset; dropping it afterwards does nothing more.
    fn reset(&self);

    fn take_error(&self) -> Option<io::Error>;

    fn local_addr(&self) -> io::Result<Address>;

    fn peer_addr(&self) -> io::Result<Address>;
}

pub(crate) trait Listener {
    /// Returns the habits of the system that it stands for.
    fn habits(&self) -> &'static Habits {
        &Habits::LINUX
    }

    fn register(&mut self, poller: &dyn Poller, token: usize) -> io::Result<()>;

    fn accept(&mut self) -> io::Result<(Boxed<dyn Stream>, Address)>;

    /// Sets whether the path of a Unix socket is removed on close.
    fn set_unlinks(&mut self, _unlinks: bool) {}

    fn local_addr(&self) -> io::Result<Address>;
}

pub(crate) trait Datagram {
    /// Returns whether it stands for a Unix socket on a system where sends to a receiver without room fail for lack of
    /// buffers.
    fn full_receiver_lacks_buffers(&self) -> bool {
        false
    }

    fn register(&mut self, poller: &dyn Poller, token: usize) -> io::Result<()>;

    fn await_writable(&mut self, awaits: bool);

    fn tells_when_writable(&self) -> bool {
        true
    }

    /// Returns the longest datagram that can arrive.
    fn bytes_max(&self) -> usize {
        65_535
    }

    fn connect(&self, address: &Address) -> io::Result<()>;

    fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<usize>;

    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)>;

    #[cfg(all(test, feature = "testing", target_os = "linux"))]
    fn take_error(&self) -> Option<io::Error> {
        None
    }

    fn local_addr(&self) -> io::Result<Address>;
}

#[cfg(any(test, feature = "testing"))]
mod present {
    use std::slice::Iter;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// An object in memory.
    pub(crate) type InMemory<T> = T;

    pub(crate) fn iter<T>(batch: &[T]) -> Iter<'_, T> {
        batch.iter()
    }

    /// State shared by the loop's end of something and the test's end. Only one thread uses it, but it is locked
    /// anyway: a detached connection is `Send`, whatever features are on.
    pub(crate) type Shared<T> = Arc<Mutex<T>>;

    pub(crate) fn shared<T>(what: T) -> Shared<T> {
        Arc::new(Mutex::new(what))
    }

    pub(crate) fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
        // No user code runs under the lock; after a bug of ours, a destructor must not hide it with another panic.
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Other builds have nothing in memory.
#[cfg(not(any(test, feature = "testing")))]
mod absent {
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};
    use std::slice::Iter;

    /// An object in memory. None exists, so the match arms for one compile to nothing.
    #[derive(Clone, Debug)]
    pub(crate) struct InMemory<T>(Infallible, PhantomData<fn() -> T>);

    impl<T> Deref for InMemory<T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self.0 {}
        }
    }

    impl<T> DerefMut for InMemory<T> {
        fn deref_mut(&mut self) -> &mut T {
            match self.0 {}
        }
    }

    pub(crate) fn iter<T>(batch: &InMemory<Vec<T>>) -> InMemory<Iter<'_, T>> {
        match batch.0 {}
    }
}
