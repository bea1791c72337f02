//! What is done with requests, and where: on the loop's thread, in threads, in processes.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
#[cfg(unix)]
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Gate};
#[cfg(unix)]
use super::children::Children;
use super::datagrams::Datagrams;
use super::handling::{Handling, OnError, Verify, Way};
use super::streams::Incoming;
use super::{RequestError, RequestHandler};
use switchboard::workers::WorkerPool;
use switchboard::{Address, AnyId, Context, Listen};

/// How requests are handled, before it is known where they come from; see the [module](super).
///
/// Each handles a bounded number at a time. While it is at the bound, nothing is accepted: who comes waits in the
/// listener's backlog, or in the system's buffer of the datagram socket. Connections with filters that were accepted before and
/// are ready only then wait in the loop, unread, and are the next to be handled.
#[must_use = "does nothing until it is bound to a listener or a datagram socket"]
pub struct Requests {
    way: Way,
    parallel_max: usize,
    verify: Option<Verify>,
    on_error: Option<OnError>,
    timeout: Option<Duration>,
}

/// How long a request may take, unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Requests {
    fn new(way: Way, parallel_max: usize) -> Requests {
        Requests { way, parallel_max, verify: None, on_error: None, timeout: Some(TIMEOUT) }
    }

    /// One request after the other, on the loop's own thread, which does nothing else meanwhile: `socketserver` without a
    /// mix-in. For trying things out, and where nobody else waits. `make` makes a handler for each request.
    ///
    /// While a handler waits for its client the loop runs no timer, hears no signal and does not stop, for as long as
    /// [`request_timeout`](Requests::request_timeout). A program that is to end while a client is silent has one request
    /// at a time handled by [`threads`](Requests::threads), with one thread.
    pub fn one_at_a_time<H: RequestHandler + 'static>(make: impl Fn() -> H + 'static) -> Requests {
        Requests::new(Way::Here(Rc::new(move || Box::new(make()) as Box<dyn RequestHandler>)), 1)
    }

    /// At most `threads` requests at a time, each in a thread: `ThreadingMixIn`, with a bound. The threads are their
    /// own, are started as they are needed and stay. `make` makes a handler for each request, in its thread.
    pub fn threads<H: RequestHandler + 'static>(
        threads: NonZeroUsize,
        make: impl Fn() -> H + Send + Sync + 'static,
    ) -> Requests {
        let make = Arc::new(move || Box::new(make()) as Box<dyn RequestHandler>);
        Requests::new(Way::Threads(WorkerPool::new(threads, 0), make), threads.get())
    }

    /// At most `processes` requests at a time, each in a child process: `ForkingMixIn`, without fork. `command` says which
    /// program, for a client. It is given the bare socket, so a connection that has [filters](crate::filter) is reset, and
    /// [`on_error`](Requests::on_error) told.
    ///
    /// A connection is the child's standard input and output, as inetd does it; of a datagram, the packet is its input,
    /// and its output the answer, as [`Request`](super::Request) says. `REMOTE_ADDR` and `REMOTE_PORT` tell it the
    /// client's Internet address. Once its time is up it is killed; its own children are not, and keep the connection
    /// open if they have it. Each is waited for by a thread.
    /// | the child | the connection | the datagram |
    /// | --- | --- | --- |
    /// | exits, with whatever status | is closed in an orderly way | is answered |
    /// | is ended by a signal, or killed when its time is up | is reset | is not answered |
    /// | cannot be started or waited for | is reset | is not answered |
    ///
    /// A status other than success is an error for [`on_error`](Requests::on_error), but its output counts as whole: many
    /// programs exit with one behind a complete answer, and Python's `socketserver` closes in order whatever happens. So a
    /// child that knows that its answer is cut, by an error or a panic, ends by a signal
    /// ([`abort`](std::process::abort)), and its client is told by the reset, as a failing handler's is.
    ///
    /// If this process has inherited that SIGCHLD is ignored, as behind `trap '' CHLD`, no child could be waited for: a
    /// handler that does nothing is set then, for good.
    ///
    /// Each child leads a process group of its own, so an interrupt typed at the terminal (Ctrl-C) reaches the server alone,
    /// and requests under way can finish. A server that is killed leaves its children behind: they end with their input.
    #[cfg(unix)]
    pub fn processes(processes: NonZeroUsize, command: impl Fn(&Address) -> Command + 'static) -> Requests {
        let way = Way::Processes(WorkerPool::new(processes, 0), Box::new(command), Children::new());
        Requests::new(way, processes.get())
    }

    /// Asks `verify` about each client: where it answers `false` the connection is closed, the datagram dropped.
    pub fn verify(self, verify: impl Fn(&Address) -> bool + 'static) -> Requests {
        Requests { verify: Some(Box::new(verify)), ..self }
    }

    /// Has `hook` called, on the loop's thread, for each request that went wrong. It is logged in any case, as a warning;
    /// where the client is to blame, for debugging.
    pub fn on_error(self, hook: impl Fn(&mut Context<'_>, &Address, &RequestError) + 'static) -> Requests {
        Requests { on_error: Some(Box::new(hook)), ..self }
    }

    /// How long a request may take in all, from when it is accepted; 60 s unless it is said here, `None` for ever. Then
    /// reading and writing fail, and a child is killed. A handler that does neither is not stopped.
    pub fn request_timeout(self, timeout: Option<Duration>) -> Requests {
        Requests { timeout, ..self }
    }

    /// Serves connections, in a loop that may do other things too; see [`Context::listen`].
    ///
    /// # Errors
    ///
    /// As [`Context::listen`].
    pub fn listen(self, context: &mut Context<'_>, at: impl Into<Listen>) -> io::Result<Serving> {
        let shared = self.shared();
        let id = context.listen(at, Incoming::factory(shared.clone()))?;
        Serving::begin(context, shared, Gate::Listener(id))
    }

    /// Serves datagrams: UDP, or Unix ones; see [`Context::bind_datagram`]. One that is longer than
    /// [`datagram_bytes_max`](crate::Limits::datagram_bytes_max) is dropped.
    ///
    /// # Errors
    ///
    /// As [`Context::bind_datagram`].
    pub fn bind_datagram(self, context: &mut Context<'_>, address: impl Into<Address>) -> io::Result<Serving> {
        let shared = self.shared();
        let id = context.bind_datagram(address, Datagrams::new(shared.clone()))?;
        Serving::begin(context, shared, Gate::Datagrams(id))
    }

    fn shared(self) -> Rc<Handling> {
        let Requests { way, parallel_max, verify, on_error, timeout } = self;
        Rc::new(Handling { way, admission: Admission::new(parallel_max), verify, on_error, timeout })
    }
}

/// A [`Requests`] that has a listener or a datagram socket in a loop. Dropping this ends nothing.
pub struct Serving {
    pub(super) shared: Rc<Handling>,
    gate: Gate,
    address: Address,
}

impl Serving {
    fn begin(context: &mut Context<'_>, shared: Rc<Handling>, gate: Gate) -> io::Result<Serving> {
        shared.admission.set_gate(gate);
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let address = match gate {
            Gate::Listener(id) => context.listener(id).ok_or_else(gone)?.local_addr()?,
            Gate::Datagrams(id) => context.datagram(id).ok_or_else(gone)?.local_addr()?,
        };
        Ok(Serving { shared, gate, address })
    }

    /// The address it serves, with the port that the system chose.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// The id of its listener or datagram socket.
    pub fn id(&self) -> AnyId {
        match self.gate {
            Gate::Listener(id) => id.into(),
            Gate::Datagrams(id) => id.into(),
        }
    }

    /// How many requests are being handled.
    pub fn in_progress(&self) -> usize {
        self.shared.admission.in_progress()
    }

    /// Lets nobody in any more, beginning now: closes its listener, and lets its datagram socket hear nothing. What is in
    /// progress goes on, and is answered.
    pub fn close(&self, context: &mut Context<'_>) {
        self.shared.admission.set_quota(context, 0);
        self.shared.admission.turn_away(context);
        if let Gate::Listener(id) = self.gate {
            if let Some(mut listener) = context.listener(id) {
                listener.close();
            }
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("parallel_max", &self.parallel_max).finish_non_exhaustive()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("address", &self.address)
            .field("in_progress", &self.in_progress())
            .finish_non_exhaustive()
    }
}
