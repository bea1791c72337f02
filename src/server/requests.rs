//! How requests are handled: on the loop's thread, in threads, or in processes.

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

/// How to handle requests, to be bound to a listener or a datagram socket; see the [module](super).
///
/// Each `Requests` handles a bounded number of requests at a time. At the bound, nothing is accepted: new clients wait
/// in the listener's backlog, or in the kernel's buffer of the datagram socket. Connections that were accepted before,
/// but whose filters become ready only then, wait in the loop, unread, and are handled next.
#[must_use = "does nothing until it is bound to a listener or a datagram socket"]
pub struct Requests {
    way: Way,
    parallel_max: usize,
    verify: Option<Verify>,
    on_error: Option<OnError>,
    timeout: Option<Duration>,
}

/// The default time for a request.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Requests {
    fn new(way: Way, parallel_max: usize) -> Requests {
        Requests { way, parallel_max, verify: None, on_error: None, timeout: Some(TIMEOUT) }
    }

    /// Handles one request after the other, on the loop's own thread, which does nothing else meanwhile: `socketserver`
    /// without a mix-in. For experiments, and if no other clients wait. `make` makes a handler for each request.
    ///
    /// While a handler waits for its client, the loop runs no timers, handles no signals and does not stop, for up to
    /// the [`request_timeout`](Requests::request_timeout). If the program must be able to end while a client is silent,
    /// use [`threads`](Requests::threads) with one thread instead.
    pub fn one_at_a_time<H: RequestHandler + 'static>(make: impl Fn() -> H + 'static) -> Requests {
        Requests::new(Way::Here(Rc::new(move || Box::new(make()) as Box<dyn RequestHandler>)), 1)
    }

    /// Handles at most `threads` requests at a time, each in a thread: `ThreadingMixIn`, with a bound. The threads
    /// serve only these requests, are started as they are needed, and are kept. `make` makes a handler for each
    /// request, on its thread.
    pub fn threads<H: RequestHandler + 'static>(
        threads: NonZeroUsize,
        make: impl Fn() -> H + Send + Sync + 'static,
    ) -> Requests {
        let make = Arc::new(move || Box::new(make()) as Box<dyn RequestHandler>);
        Requests::new(Way::Threads(WorkerPool::new(threads, 0), make), threads.get())
    }

    /// Handles at most `processes` requests at a time, each in a child process: `ForkingMixIn`, without fork. `command`
    /// returns the program to run for a client. The child gets the bare socket, so a connection that has
    /// [filters](crate::filter) is reset, and reported to [`on_error`](Requests::on_error).
    ///
    /// A connection is the child's standard input and output, as with inetd; for a datagram, the packet is its input
    /// and its output the answer, as [`Request`](super::Request) describes. `REMOTE_ADDR` and `REMOTE_PORT` are set to
    /// the client's Internet address. When its time is up, the child is killed; its own children are not, and keep the
    /// connection open if they have it. A thread waits for each child.
    ///
    /// | the child | the connection | the datagram |
    /// | --- | --- | --- |
    /// | exits, with whatever status | is closed in an orderly way | is answered |
    /// | is ended by a signal, or killed when its time is up | is reset | is not answered |
    /// | cannot be started or waited for | is reset | is not answered |
    ///
    /// An exit status other than success is reported to [`on_error`](Requests::on_error), but the output counts as
    /// complete: many programs exit with such a status after a complete answer, and Python's `socketserver` always
    /// closes in an orderly way. So a child that knows that its answer is incomplete, because of an error or a panic,
    /// should end by a signal ([`abort`](std::process::abort)): its client then sees a reset, as for a handler that
    /// fails.
    ///
    /// If this process has inherited that SIGCHLD is ignored, for example from `trap '' CHLD`, it could not wait for
    /// any child: a handler that does nothing is then installed, permanently.
    ///
    /// Each child leads its own process group, so an interrupt typed at the terminal (Ctrl-C) reaches only the server,
    /// and requests in progress can finish. If the server is killed, its children keep running until their input ends.
    #[cfg(unix)]
    pub fn processes(processes: NonZeroUsize, command: impl Fn(&Address) -> Command + 'static) -> Requests {
        let way = Way::Processes(WorkerPool::new(processes, 0), Box::new(command), Children::new());
        Requests::new(way, processes.get())
    }

    /// Calls `verify` for each client: if it returns `false`, the connection is closed or the datagram dropped.
    pub fn verify(self, verify: impl Fn(&Address) -> bool + 'static) -> Requests {
        Requests { verify: Some(Box::new(verify)), ..self }
    }

    /// Calls `hook` on the loop's thread for each request that failed. Failures are also logged, as a warning, or for
    /// debugging if the client is to blame.
    pub fn on_error(self, hook: impl Fn(&mut Context<'_>, &Address, &RequestError) + 'static) -> Requests {
        Requests { on_error: Some(Box::new(hook)), ..self }
    }

    /// Sets the total time for a request, from when it is accepted. Default 60 s; `None` for no limit. When the time is
    /// up, reading and writing fail, and a child is killed. A handler that neither reads nor writes is not stopped.
    pub fn request_timeout(self, timeout: Option<Duration>) -> Requests {
        Requests { timeout, ..self }
    }

    /// Serves connections, in a loop that may also do other things; see [`Context::listen`].
    ///
    /// # Errors
    ///
    /// Those of [`Context::listen`].
    pub fn listen(self, context: &mut Context<'_>, at: impl Into<Listen>) -> io::Result<Serving> {
        let shared = self.shared();
        let id = context.listen(at, Incoming::factory(shared.clone()))?;
        Serving::begin(context, shared, Gate::Listener(id))
    }

    /// Serves UDP or Unix datagrams; see [`Context::bind_datagram`]. A datagram longer than
    /// [`datagram_bytes_max`](crate::Limits::datagram_bytes_max) is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Context::bind_datagram`].
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

/// A [`Requests`] bound to a listener or a datagram socket in a loop. Dropping this ends nothing.
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

    /// Returns the address that it serves, with the port that the system chose.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Returns the id of its listener or datagram socket.
    pub fn id(&self) -> AnyId {
        match self.gate {
            Gate::Listener(id) => id.into(),
            Gate::Datagrams(id) => id.into(),
        }
    }

    /// Returns how many requests are being handled.
    pub fn in_progress(&self) -> usize {
        self.shared.admission.in_progress()
    }

    /// Accepts no more requests, beginning now: closes its listener, or stops its datagram socket from reading.
    /// Requests in progress continue, and are answered.
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
