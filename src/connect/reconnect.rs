//! A connection that is made anew whenever it ends (rule K5).

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use switchboard::{Backoff, Connect, ConnectionEnd, ConnectionId, Context, Followed, IntoProtocol};
use switchboard::{LoopError, Protocol, TimerId};

/// Makes the protocol of each try; `None` ends the trying.
type Factory = Box<dyn FnMut(&mut Context<'_>) -> Option<Box<dyn Protocol>>>;

/// Connects, and connects again after a while whenever that fails or the connection ends.
///
/// The delays are those of a [`Backoff`], which begins anew once a connection has stayed up for a while
/// ([`stable_after`](Reconnect::stable_after)): a server that accepts and closes at once is not called without end.
///
/// `factory` makes a protocol for each try, which gets the callbacks as ever. It is the connection that is watched, and not
/// that protocol: one that puts another in its place ([`set_protocol`](crate::Transport::set_protocol),
/// [`start_protocol`](crate::Transport::start_protocol)) changes nothing. It ends
///
/// - when `factory` returns `None`, or panics,
/// - when a connect is cancelled: closed or aborted by its id before it is established,
/// - when the connection is [detached](crate::Transport::detach): it lives on, outside of the loop,
/// - when the loop is shut down, between two tries as well.
///
/// Closing or aborting a connection that is established ends that connection alone. During a
/// [drain](Context::drain) it goes on, since an answer may need it; `factory` may ask
/// [`is_draining`](Context::is_draining) and return `None`.
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
///     Some(Subscriber)
/// };
/// let server: std::net::SocketAddr = "127.0.0.1:1".parse().expect("it is an address");
/// Reconnect::new(server, Backoff::new(Duration::from_millis(1)), factory).start(&mut event_loop.context());
/// event_loop.run_until_idle()?; // returns when three tries have failed
/// # Ok(())
/// # }
/// ```
#[must_use = "does nothing until it is started"]
pub struct Reconnect {
    connect: Connect,
    backoff: Backoff,
    stable_after: Duration,
    factory: Factory,
}

impl Reconnect {
    /// What to connect to, how long to wait, and what makes the protocols.
    pub fn new<F, P>(connect: impl Into<Connect>, backoff: Backoff, mut factory: F) -> Reconnect
    where
        F: FnMut(&mut Context<'_>) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let stable_after = Duration::from_secs(10);
        let factory: Factory = Box::new(move |context| factory(context).map(P::into_protocol));
        Reconnect { connect: connect.into(), backoff, stable_after, factory }
    }

    /// How long a connection must have stayed up for the delays to begin anew. Default 10 s.
    ///
    /// It has if the loop, having looked for its end after that time, has found none: a loop that was busy meanwhile takes no
    /// connection for one that stayed up. While reading is [paused](crate::Transport::pause_reading), no end is seen.
    pub fn stable_after(mut self, time: Duration) -> Reconnect {
        self.stable_after = time;
        self
    }

    /// Begins, with the first try at once. What fails at once counts as a try that has failed; its protocol is dropped
    /// without a call.
    pub fn start(mut self, context: &mut Context<'_>) {
        let Some(protocol) = (self.factory)(context) else { return };
        let shutdowns = context.shutdowns();
        match context.connect(self.connect.clone(), protocol) {
            Ok(id) => self.follow(context, id),
            Err(error) if LoopError::of(&error) == Some(LoopError::ShuttingDown) => {}
            Err(error) => {
                log::debug!("a connect has failed at once: {error}");
                self.again(context, shutdowns);
            }
        }
    }

    /// Has what becomes of a connection decide whether there is a next one.
    fn follow(self, context: &mut Context<'_>, id: ConnectionId) {
        let shutdowns = context.shutdowns();
        let (stable_after, has_stayed_up) = (self.stable_after, Rc::new(Cell::new(false)));
        let (mut plan, mut timer) = (Some(self), None);
        context.follow(id, move |context, what| match what {
            Followed::Made => timer = Some(note_whether_up(context, id, stable_after, has_stayed_up.clone())),
            Followed::Ended(end) => {
                timer.take().map(|timer| context.cancel_timer(timer));
                let Some(mut plan) = plan.take() else { return };
                if has_stayed_up.get() {
                    plan.backoff.reset();
                }
                match end {
                    ConnectionEnd::Failed | ConnectionEnd::Lost => plan.again(context, shutdowns),
                    ConnectionEnd::Cancelled | ConnectionEnd::Detached | ConnectionEnd::ShutDown => {}
                }
            }
        });
    }

    /// Has the next try begin in time, unless the loop was shut down since there were so many shutdowns.
    fn again(mut self, context: &mut Context<'_>, shutdowns: u64) {
        if context.shutdowns() != shutdowns {
            return;
        }
        let delay = self.backoff.next_delay();
        context.call_later(delay, move |context| {
            if context.shutdowns() == shutdowns {
                self.start(context);
            }
        });
    }
}

/// Notes after a while whether a connection is still up. The timers are in the background.
fn note_whether_up(context: &mut Context<'_>, id: ConnectionId, after: Duration, is_up: Rc<Cell<bool>>) -> TimerId {
    let timer = context.call_later(after, move |context| {
        // Its end may have come while the loop was busy. It is looked for before the timers of the next turn.
        let timer = context.call_later(Duration::ZERO, move |context| is_up.set(context.connection(id).is_some()));
        context.set_background(timer, true);
    });
    context.set_background(timer, true);
    timer
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
