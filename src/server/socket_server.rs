//! Requests with a loop of their own.

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
    /// Those of [`Context::listen`], and those of creating a loop.
    pub fn listen(at: impl Into<Listen>, requests: Requests) -> io::Result<SocketServer> {
        SocketServer::listen_with(LoopLimits::default(), at, requests)
    }

    /// Serves datagrams: `UDPServer` and `UnixDatagramServer`. Unix clients that are not bound to an address cannot be
    /// answered.
    ///
    /// # Errors
    ///
    /// Those of [`Context::bind_datagram`], and those of creating a loop.
    pub fn bind_datagram(address: impl Into<Address>, requests: Requests) -> io::Result<SocketServer> {
        SocketServer::bind_datagram_with(LoopLimits::default(), address, requests)
    }

    /// Like [`listen`](SocketServer::listen), in a loop with these limits. Those in [`each`](LoopLimits::each) apply to
    /// the listener, unless it has its own ([`Listen::limits`]).
    ///
    /// # Errors
    ///
    /// Those of [`listen`](SocketServer::listen).
    pub fn listen_with(
        limits: impl Into<LoopLimits>,
        at: impl Into<Listen>,
        requests: Requests,
    ) -> io::Result<SocketServer> {
        SocketServer::new(limits.into(), |context| requests.listen(context, at))
    }

    /// Like [`bind_datagram`](SocketServer::bind_datagram), in a loop with these limits. Those in
    /// [`each`](LoopLimits::each) apply to the socket.
    ///
    /// # Errors
    ///
    /// Those of [`bind_datagram`](SocketServer::bind_datagram).
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

    /// Returns the address that it serves, with the port that the system chose.
    pub fn local_addr(&self) -> &Address {
        self.serving.local_addr()
    }

    /// Returns the id of its listener or datagram socket, for use with its [`context`](SocketServer::context).
    pub fn id(&self) -> AnyId {
        self.serving.id()
    }

    /// Returns the context of its loop, for anything else that the loop is to do.
    pub fn context(&mut self) -> Context<'_> {
        self.event_loop.context()
    }

    /// Returns a handle for other threads: [`stop`](Handle::stop) makes [`serve_forever`](SocketServer::serve_forever)
    /// and [`handle_request`](SocketServer::handle_request) return.
    pub fn handle(&mut self) -> Handle {
        self.event_loop.context().handle()
    }

    /// Returns how many requests are being handled.
    pub fn in_progress(&self) -> usize {
        self.serving.in_progress()
    }

    /// Serves until it is stopped. Requests in progress continue with the next call, or end by
    /// [`shutdown`](SocketServer::shutdown).
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::run`].
    pub fn serve_forever(&mut self) -> io::Result<()> {
        self.admit(usize::MAX);
        let result = self.event_loop.run();
        self.admit(0);
        result
    }

    /// Serves one request, and returns when it was answered or its client refused; other clients wait for the next
    /// call. Returns `false` if no client came for `timeout` (`None`: no limit), or if it was stopped.
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::turn`].
    pub fn handle_request(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let ended = self.serving.shared.admission.ended() + 1;
        self.admit(1);
        let result = self.turn_until(timeout, |serving, is_late| {
            serving.shared.admission.ended() >= ended || (is_late && serving.in_progress() == 0)
        });
        self.admit(0);
        result?;
        // This turn closes the connection, too.
        self.event_loop.turn(Some(Duration::ZERO))?;
        Ok(self.serving.shared.admission.ended() >= ended)
    }

    /// Stops listening, waits for the requests in progress, for at most `grace`, and then ends the others as far as
    /// possible: child processes are killed and waited for, and their connections reset; a handler that does not return
    /// keeps its thread and its connection until the process ends. Returns [`Clean`](Ended::Clean) if all requests were
    /// answered and no thread is left.
    ///
    /// [`stop`](Handle::stop) or [`Context::stop`] ends the grace at once. So if a program's signal handlers stop the
    /// loop, the first signal ends [`serve_forever`](SocketServer::serve_forever) and the second one this wait.
    ///
    /// # Errors
    ///
    /// Those of [`EventLoop::turn`].
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

    /// Ends the connections whose requests were answered; another stop ends them at once.
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

    /// Runs turns until `done`, which is told whether `timeout` has passed, or until it is stopped. Returns whether it
    /// was stopped.
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

/// How long idle threads and killed children are waited for: all that is left for them to do is to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

impl fmt::Debug for SocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer").field("serving", &self.serving).finish_non_exhaustive()
    }
}
