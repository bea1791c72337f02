//! Requests in a loop of their own.

use std::fmt;
use std::io;
use std::time::Duration;

use super::{Requests, Serving};
use switchboard::{Address, AnyId, Context, Ended, EventLoop, Handle, Listen, LoopLimits};

/// A [`Requests`] with a loop of its own: `socketserver`'s `TCPServer`, `UDPServer`, `UnixStreamServer` and
/// `UnixDatagramServer`.
pub struct SocketServer {
    event_loop: EventLoop,
    serving: Serving,
}

impl SocketServer {
    /// Serves connections: `TCPServer` and `UnixStreamServer`. See [`Listen`] for what can be listened on.
    ///
    /// # Errors
    ///
    /// As [`Context::listen`], and where no loop can be made.
    pub fn listen(at: impl Into<Listen>, requests: Requests) -> io::Result<SocketServer> {
        SocketServer::listen_with(LoopLimits::default(), at, requests)
    }

    /// Serves datagrams: `UDPServer` and `UnixDatagramServer`. Unix clients that are bound to nothing cannot be answered.
    ///
    /// # Errors
    ///
    /// As [`Context::bind_datagram`], and where no loop can be made.
    pub fn bind_datagram(address: impl Into<Address>, requests: Requests) -> io::Result<SocketServer> {
        SocketServer::bind_datagram_with(LoopLimits::default(), address, requests)
    }

    /// Like [`listen`](SocketServer::listen), in a loop that has these limits. Those in [`each`](LoopLimits::each) are the
    /// listener's, unless it has its own ([`Listen::limits`]).
    ///
    /// # Errors
    ///
    /// As [`listen`](SocketServer::listen).
    pub fn listen_with(
        limits: impl Into<LoopLimits>,
        at: impl Into<Listen>,
        requests: Requests,
    ) -> io::Result<SocketServer> {
        SocketServer::new(limits.into(), |context| requests.listen(context, at))
    }

    /// Like [`bind_datagram`](SocketServer::bind_datagram), in a loop that has these limits. Those in
    /// [`each`](LoopLimits::each) are the socket's.
    ///
    /// # Errors
    ///
    /// As [`bind_datagram`](SocketServer::bind_datagram).
    pub fn bind_datagram_with(
        limits: impl Into<LoopLimits>,
        address: impl Into<Address>,
        requests: Requests,
    ) -> io::Result<SocketServer> {
        SocketServer::new(limits.into(), |context| requests.bind_datagram(context, address))
    }

    fn new(
        limits: LoopLimits,
        begin: impl FnOnce(&mut Context<'_>) -> io::Result<Serving>,
    ) -> io::Result<SocketServer> {
        let mut event_loop = EventLoop::with_limits(limits)?;
        let serving = begin(&mut event_loop.context())?;
        Ok(SocketServer { event_loop, serving })
    }

    /// The address it serves, with the port that the system chose.
    pub fn local_addr(&self) -> &Address {
        self.serving.local_addr()
    }

    /// Returns the id of its listener or datagram socket, to reach that by its [`context`](SocketServer::context).
    pub fn id(&self) -> AnyId {
        self.serving.id()
    }

    /// Its loop, for whatever else it is to do.
    pub fn context(&mut self) -> Context<'_> {
        self.event_loop.context()
    }

    /// For other threads: [`stop`](Handle::stop) lets [`serve_forever`](SocketServer::serve_forever) and
    /// [`handle_request`](SocketServer::handle_request) return.
    pub fn handle(&mut self) -> Handle {
        self.event_loop.context().handle()
    }

    /// How many requests are being handled.
    pub fn in_progress(&self) -> usize {
        self.serving.in_progress()
    }

    /// Serves until it is stopped; what is in progress then goes on with the next call, or ends by
    /// [`shutdown`](SocketServer::shutdown).
    ///
    /// # Errors
    ///
    /// As [`EventLoop::run`].
    pub fn serve_forever(&mut self) -> io::Result<()> {
        self.admit(usize::MAX);
        let result = self.event_loop.run();
        self.admit(0);
        result
    }

    /// Serves one request and returns when it was answered, or its client refused; who else comes waits for the next call.
    /// Returns `false` where nobody came for `timeout` (`None`: it waits for ever), or where it was stopped.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::turn`].
    pub fn handle_request(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let ended = self.serving.shared.admission.ended() + 1;
        self.admit(1);
        let result = self.turn_until(timeout, |serving, is_late| {
            serving.shared.admission.ended() >= ended || (is_late && serving.in_progress() == 0)
        });
        self.admit(0);
        result?;
        // With it the connection has its end.
        self.event_loop.turn(Some(Duration::ZERO))?;
        Ok(self.serving.shared.admission.ended() >= ended)
    }

    /// Stops listening, blocks until what is in progress is done, for `grace` at most, and then ends what is left as far as that
    /// is possible: child processes are killed and waited for, their connections reset; a handler that does not return keeps
    /// its thread and its connection until the process ends. Returns [`Clean`](Ended::Clean) if all was answered and no thread is
    /// left.
    ///
    /// [`stop`](Handle::stop), or [`Context::stop`], ends the grace at once. So a program whose signal handlers stop the
    /// loop ends [`serve_forever`](SocketServer::serve_forever) with the first signal and this wait with the second.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::turn`].
    pub fn shutdown(mut self, grace: Duration) -> io::Result<Ended> {
        self.serving.close(&mut self.event_loop.context());
        let end = self.event_loop.context().now().checked_add(grace);
        let done = |serving: &Serving, is_late| is_late || serving.in_progress() == 0;
        let is_stopped = self.turn_until(Some(grace), done)?;
        let answered = self.serving.in_progress() == 0;
        let left = end.map_or(grace, |end| end.saturating_duration_since(self.event_loop.context().now()));
        self.end_connections(if is_stopped { Duration::ZERO } else { left })?;
        let ended = self.serving.shared.shutdown(LAST_GRACE);
        Ok(if answered && ended { Ended::Clean } else { Ended::CutOff })
    }

    /// Ends the connections whose requests were answered; one more stop ends them at once.
    fn end_connections(&mut self, grace: Duration) -> io::Result<()> {
        self.event_loop.context().shutdown(grace);
        while self.event_loop.context().is_draining() {
            if self.event_loop.take_stop() {
                self.event_loop.context().shutdown(Duration::ZERO);
            }
            self.event_loop.turn(None)?;
        }
        Ok(())
    }

    fn admit(&mut self, quota: usize) {
        self.serving.shared.admission.set_quota(&mut self.event_loop.context(), quota);
    }

    /// Turns until `done`, which is told whether `timeout` has passed, or until it is stopped. Returns whether it was.
    fn turn_until(
        &mut self,
        timeout: Option<Duration>,
        mut done: impl FnMut(&Serving, bool) -> bool,
    ) -> io::Result<bool> {
        let deadline = timeout.and_then(|timeout| self.event_loop.context().now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(self.event_loop.context().now()));
            let is_late = left == Some(Duration::ZERO);
            if done(&self.serving, is_late) {
                return Ok(false);
            }
            if self.event_loop.take_stop() {
                return Ok(true);
            }
            self.event_loop.turn(left.filter(|_| !is_late))?;
        }
    }
}

/// How long idle threads and killed children are waited for: they have nothing to do but end.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl fmt::Debug for SocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer").field("serving", &self.serving).finish_non_exhaustive()
    }
}
