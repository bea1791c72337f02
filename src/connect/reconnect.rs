//! A connection that is made again whenever it ends, until it is cancelled (rule K5).

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use switchboard::{Backoff, Connect, ConnectionEnd, ConnectionId, Context, Followed, IntoProtocol};
use switchboard::{LoopError, Protocol, TimerId};

/// Makes the protocol of each try; `None` ends the reconnecting.
type Factory = Box<dyn FnMut(&mut Context<'_>) -> Option<Box<dyn Protocol>>>;

/// Connects, and connects again after a delay whenever that fails or the connection ends.
///
/// The delays are those of a [`Backoff`], which starts over once a connection has stayed up for a while
/// ([`stable_after`](Reconnect::stable_after)), so that a server that accepts and closes at once is not called without
/// delay for ever.
///
/// `factory` makes a protocol for each try, which gets its callbacks as usual. What is watched is the connection and
/// not that protocol: putting another protocol in its place ([`set_protocol`](crate::Transport::set_protocol),
/// [`start_protocol`](crate::Transport::start_protocol)) changes nothing. Reconnecting ends
///
/// - when `factory` returns `None`, or panics,
/// - when it is [cancelled](Reconnecting::cancel),
/// - when a connect is cancelled: closed or aborted by its id before it is established,
/// - when the connection is [detached](crate::Transport::detach): it lives on outside the loop,
/// - when the loop is shut down, also between two tries.
///
/// Closing or aborting an established connection ends only that connection. During a [drain](Context::drain)
/// reconnecting continues, since an answer that is under way may need it; `factory` may check
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
    /// Sets what to connect to, how long to wait, and what makes the protocols.
    pub fn new<F, P>(connect: impl Into<Connect>, backoff: Backoff, mut factory: F) -> Reconnect
    where
        F: FnMut(&mut Context<'_>) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let stable_after = Duration::from_secs(10);
        let factory: Factory = Box::new(move |context| factory(context).map(P::into_protocol));
        Reconnect { connect: connect.into(), backoff, stable_after, factory }
    }

    /// Sets how long a connection must have stayed up for the delays to start over. Default 10 s.
    ///
    /// A connection has stayed up if the loop has looked for its end after that time and found none: a loop that was
    /// busy meanwhile does not take an ended connection for one that stayed up. While reading is
    /// [paused](crate::Transport::pause_reading), no end is seen.
    pub fn stable_after(mut self, time: Duration) -> Reconnect {
        self.stable_after = time;
        self
    }

    /// Starts connecting, with the first try at once. A connect that fails at once counts as a failed try; its protocol
    /// is dropped without a callback.
    ///
    /// The returned [`Reconnecting`] gives access to the current connection, and cancels the reconnecting; dropping it
    /// changes nothing.
    pub fn start(self, context: &mut Context<'_>) -> Reconnecting {
        let reconnecting = Reconnecting(Rc::new(Cell::new(Step::Tries)));
        Plan { reconnect: self, state: reconnecting.clone() }.attempt(context);
        reconnecting
    }
}

/// The reconnecting that [`Reconnect::start`] has started, for code on the loop's thread: gives access to the current
/// connection, and ends the reconnecting. Clones refer to the same one.
///
/// ```
/// # use std::time::Duration;
/// # use switchboard::{Backoff, EventLoop, Protocol, Reconnect, Transport};
/// # struct Subscriber;
/// # impl Protocol for Subscriber {
/// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         data.len()
/// #     }
/// # }
/// # let mut event_loop = EventLoop::new()?;
/// # let mut context = event_loop.context();
/// let server = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
/// let link = Reconnect::new(server, Backoff::new(Duration::from_secs(1)), |_| Some(Subscriber)).start(&mut context);
/// if let Some(mut transport) = link.current().and_then(|id| context.connection(id)) {
///     transport.write(b"UNSUBSCRIBE news\r\n");
///     transport.close();
/// }
/// link.cancel(&mut context); // before the connection has ended, so there is no next one
/// event_loop.run_until_idle()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Reconnecting(Rc<Cell<Step>>);

/// How far reconnecting has got.
#[derive(Clone, Copy)]
enum Step {
    /// The factory is making a protocol, or connecting begins.
    Tries,
    Connects(ConnectionId),
    Stands(ConnectionId),
    /// Waiting for the next try, with this timer.
    Waits(TimerId),
    Over,
}

impl Reconnecting {
    /// Returns the current connection, which may not be established yet: what is written to it before that is sent once
    /// it is. `None` between two tries, and once the reconnecting is over.
    pub fn current(&self) -> Option<ConnectionId> {
        match self.0.get() {
            Step::Connects(id) | Step::Stands(id) => Some(id),
            Step::Tries | Step::Waits(_) | Step::Over => None,
        }
    }

    /// Returns whether it was cancelled, or has ended for one of the reasons listed at [`Reconnect`].
    pub fn is_over(&self) -> bool {
        matches!(self.0.get(), Step::Over)
    }

    /// Ends the reconnecting: a connect under way is [aborted](crate::Transport::abort), and its protocol is told; an
    /// established connection stays, but is not made again when it ends. Returns `false` if it was over already.
    pub fn cancel(&self, context: &mut Context<'_>) -> bool {
        match self.0.replace(Step::Over) {
            Step::Over => return false,
            Step::Waits(timer) => _ = context.cancel_timer(timer),
            Step::Connects(id) => {
                if let Some(mut transport) = context.connection(id) {
                    transport.abort();
                }
            }
            Step::Tries | Step::Stands(_) => {}
        }
        true
    }

    /// Moves on to another step, unless it is over.
    fn step(&self, step: Step) {
        if !self.is_over() {
            self.0.set(step);
        }
    }
}

/// A [`Reconnect`] that was started. Reconnecting is over when this is dropped, for whatever reason.
struct Plan {
    reconnect: Reconnect,
    state: Reconnecting,
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.state.0.set(Step::Over);
    }
}

impl Plan {
    fn attempt(mut self, context: &mut Context<'_>) {
        self.state.step(Step::Tries);
        let Some(protocol) = (self.reconnect.factory)(context) else { return };
        // The factory may have cancelled it.
        if self.state.is_over() {
            return;
        }
        let shutdowns = context.shutdowns();
        match context.connect(self.reconnect.connect.clone(), protocol) {
            Ok(id) => self.follow(context, id),
            Err(error) if LoopError::of(&error) == Some(LoopError::ShuttingDown) => {}
            Err(error) => {
                log::debug!("connect failed immediately: {error}");
                self.again(context, shutdowns);
            }
        }
    }

    /// Lets the end of a connection decide whether there is a next one.
    fn follow(self, context: &mut Context<'_>, id: ConnectionId) {
        let (shutdowns, state) = (context.shutdowns(), self.state.clone());
        let (stable_after, has_stayed_up) = (self.reconnect.stable_after, Rc::new(Cell::new(false)));
        state.step(Step::Connects(id));
        let (mut plan, mut timer) = (Some(self), None);
        context.follow(id, move |context, what| match what {
            Followed::Made => {
                state.step(Step::Stands(id));
                timer = Some(note_whether_up(context, id, stable_after, has_stayed_up.clone()));
            }
            Followed::Ended(end) => {
                timer.take().map(|timer| context.cancel_timer(timer));
                let Some(mut plan) = plan.take() else { return };
                if has_stayed_up.get() {
                    plan.reconnect.backoff.reset();
                }
                match end {
                    ConnectionEnd::Failed | ConnectionEnd::Lost => plan.again(context, shutdowns),
                    ConnectionEnd::Cancelled | ConnectionEnd::Detached | ConnectionEnd::ShutDown => {}
                }
            }
        });
    }

    /// Schedules the next try, unless it was cancelled, or the loop was shut down since it had counted `shutdowns` of
    /// them.
    fn again(mut self, context: &mut Context<'_>, shutdowns: u64) {
        if context.shutdowns() != shutdowns || self.state.is_over() {
            return;
        }
        let (delay, state) = (self.reconnect.backoff.next_delay(), self.state.clone());
        let timer = context.call_later(delay, move |context| {
            if context.shutdowns() == shutdowns {
                self.attempt(context);
            }
        });
        state.step(Step::Waits(timer));
    }
}

/// Notes after a while whether a connection is still up. The timers are in the background.
fn note_whether_up(context: &mut Context<'_>, id: ConnectionId, after: Duration, is_up: Rc<Cell<bool>>) -> TimerId {
    let timer = context.call_later(after, move |context| {
        // Its end may have come while the loop was busy. The loop looks for it before the timers of the next turn.
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

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting").field("current", &self.current()).field("is_over", &self.is_over()).finish()
    }
}
