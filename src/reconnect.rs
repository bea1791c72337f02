//! A connection that is made anew whenever it ends (rule K5).

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::{Backoff, CloseReason, Connect, ConnectError, Context, Protocol, Timeout, Transport};

/// Makes the protocol of each try; `None` ends the trying.
type Factory = Box<dyn FnMut(&mut Context<'_>) -> Option<Box<dyn Protocol>>>;

/// Connects, and connects again after a while whenever that fails or the connection ends.
///
/// The delays are those of a [`Backoff`], which begins anew once a connection has stayed up for a while
/// ([`stable_after`](Reconnect::stable_after)): a server that accepts and closes at once is not called without end.
///
/// `factory` makes a protocol for each try, which gets the callbacks as ever. It goes on until `factory` answers `None`,
/// a connect is cancelled by its id, or the loop is shut down; also when `factory` panics, or when the protocol has put
/// another in its place ([`set_protocol`](Transport::set_protocol)).
///
/// ```
/// use std::time::Duration;
/// use switchboard::{Backoff, EventLoop, Protocol, Reconnect, Transport};
///
/// struct Subscriber;
///
/// impl Protocol for Subscriber {
///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
///         transport.write(b"SUBSCRIBE news\r\n");
///     }
///
///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
///         data.len()
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut event_loop = EventLoop::new()?;
/// let mut tries = 0..3;
/// let factory = move |_: &mut switchboard::Context<'_>| {
///     tries.next()?;
///     Some(Box::new(Subscriber) as Box<dyn Protocol>)
/// };
/// let server: std::net::SocketAddr = "127.0.0.1:1".parse().expect("it is an address");
/// Reconnect::new(server, Backoff::new(Duration::from_millis(1)), factory).start(&mut event_loop.context());
/// event_loop.run_until_idle()?; // returns when three tries have failed
/// # Ok(())
/// # }
/// ```
pub struct Reconnect {
    connect: Connect,
    backoff: Backoff,
    stable_after: Duration,
    factory: Factory,
}

impl Reconnect {
    /// What to connect to, how long to wait, and what makes the protocols.
    pub fn new<F>(connect: impl Into<Connect>, backoff: Backoff, factory: F) -> Reconnect
    where
        F: FnMut(&mut Context<'_>) -> Option<Box<dyn Protocol>> + 'static,
    {
        let stable_after = Duration::from_secs(10);
        Reconnect { connect: connect.into(), backoff, stable_after, factory: Box::new(factory) }
    }

    /// How long a connection must have stayed up for the delays to begin anew. Default 10 s.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Reconnect {
        self.stable_after = time;
        self
    }

    /// Begins, with the first try at once. What fails at once counts as a try that has failed; its protocol is dropped
    /// without a call.
    pub fn start(mut self, context: &mut Context<'_>) {
        let Some(inner) = (self.factory)(context) else { return };
        match context.connect(self.connect.clone(), Box::new(Nobody)) {
            // Nothing has been called yet: this is in time.
            Ok(id) => {
                if let Some(mut transport) = context.connection(id) {
                    transport.set_protocol(Box::new(Link { inner, plan: Some(self), made_at: None }));
                }
            }
            // The loop is being shut down.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => {
                log::debug!("a connect has failed at once: {error}");
                self.again(context);
            }
        }
    }

    fn again(mut self, context: &mut Context<'_>) {
        let delay = self.backoff.next_delay();
        context.call_later(delay, move |context| self.start(context));
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("connect", &self.connect)
            .field("backoff", &self.backoff)
            .field("stable_after", &self.stable_after)
            .finish_non_exhaustive()
    }
}

/// Holds the place of a protocol until it is known that the connect has begun.
struct Nobody;

impl Protocol for Nobody {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// The protocol of one try, with the plan for the next.
struct Link {
    inner: Box<dyn Protocol>,
    /// None once it has been passed on.
    plan: Option<Reconnect>,
    /// When it came to stand.
    made_at: Option<Instant>,
}

impl Link {
    /// Has the next try begin in time; before the protocol is told, which may panic.
    fn again(&mut self, transport: &mut Transport<'_>) {
        let Some(mut plan) = self.plan.take() else { return };
        let mut context = transport.context();
        let now = context.now();
        if self.made_at.is_some_and(|made_at| now.saturating_duration_since(made_at) >= plan.stable_after) {
            plan.backoff.reset();
        }
        plan.again(&mut context);
    }
}

impl Protocol for Link {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.made_at = Some(transport.context().now());
        self.inner.connection_made(transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.inner.data_received(transport, data)
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.inner.eof_received(transport, rest);
    }

    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        self.inner.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.inner.resume_writing(transport);
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        self.inner.timed_out(transport, timeout);
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        if !matches!(error, ConnectError::Cancelled(_)) {
            self.again(transport);
        }
        self.inner.connect_failed(transport, error);
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if !matches!(reason, CloseReason::Shutdown) {
            self.again(transport);
        }
        self.inner.connection_lost(transport, reason);
    }
}
