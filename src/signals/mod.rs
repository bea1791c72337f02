//! Signals as events of the loop (feature `signals`, Unix; rule [G2](crate::guide::rules#g2)).
//!
//! ```
//! use std::time::Duration;
//! use switchboard::EventLoop;
//! use switchboard::signals::{self, Signal};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut event_loop = EventLoop::new()?;
//! // Ctrl-C gives connections ten seconds to end by themselves; a second one ends at once.
//! signals::drain_on_signals(&mut event_loop.context(), Duration::from_secs(10))?;
//! signals::add_signal_handler(&mut event_loop.context(), [Signal::HUP], |_, signal| {
//!     println!("{signal}: reading the configuration again");
//! })?;
//! # event_loop.run_until_idle()
//! # }
//! ```
//!
//! - A handler is called from the loop like any other source's: it may do whatever a callback may. No code of the
//!   program's runs where the signal interrupts it.
//! - Signals of one kind that come before the loop looks are told once; none of a kind is lost.
//! - Any number of handlers and loops may want the same signal: all get it.
//! - Handlers are background: they do not keep [`run_until_idle`](crate::EventLoop::run_until_idle) waiting. They are
//!   removed by [`Context::deregister`], and with their loop.
//! - A loop that is stuck in a callback sees no signal. SIGQUIT (Ctrl-\\) ends the process then, where nobody asked for it.
//!
//! # When nobody wants a signal any more
//!
//! Once its last handler is gone it acts as by default: SIGTERM ends the process. What the disposition was before is not
//! put back, neither a handler of the program's nor that it was ignored: the crate `signal-hook`, on which this rests,
//! keeps a handler of its own for good. For the same reason the default action is taken even where the program has other
//! handlers by that crate.

mod signal;
mod wanted;

use std::io;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use signal_hook_mio::v1_0::Signals;

pub use self::signal::Signal;
use self::wanted::Wanted;
use switchboard::{Context, SourceAction, SourceId};

/// Has `handler` called when one of these signals comes.
///
/// A panic of it is caught, counted and logged, and does not remove it, unlike that of other sources' handlers: it is called
/// for the other signals and for this one again. Without it SIGTERM would end the process at once, in place of the handler.
/// One that panics at each SIGTERM therefore leaves a process that SIGTERM does not end.
///
/// # Errors
///
/// What the system says, such as having no descriptor left; `InvalidInput` for no signal at all, `NotConnected` while the
/// loop shuts down.
pub fn add_signal_handler(
    context: &mut Context<'_>,
    signals: impl IntoIterator<Item = Signal>,
    mut handler: impl FnMut(&mut Context<'_>, Signal) + 'static,
) -> io::Result<SourceId> {
    let signals: Vec<Signal> = signals.into_iter().collect();
    if signals.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no signal to wait for"));
    }
    let numbers: Vec<_> = signals.iter().map(|signal| signal.as_raw()).collect();
    let handler = Box::new(move |context: &mut Context<'_>, number| {
        if let Some(signal) = Signal::from_raw(number) {
            handler(context, signal);
        }
    });
    let id = match context.simulated_signals(&numbers, handler) {
        Ok(id) => id?,
        Err(mut handler) => {
            let source = SignalSource::new(signals)?;
            context.register(source, Interest::READABLE, move |context, source, _| match source.take() {
                // One at a time: the handler may remove itself.
                Some(signal) => {
                    handler(context, signal.as_raw());
                    SourceAction::Again
                }
                None => SourceAction::Wait,
            })?
        }
    };
    context.keep_after_panic(id);
    context.set_background(id, true);
    Ok(id)
}

/// The first SIGINT or SIGTERM [drains](Context::drain) the loop, the second ends all connections at once, so that
/// [`run`](crate::EventLoop::run) returns.
///
/// # Errors
///
/// As [`add_signal_handler`].
pub fn drain_on_signals(context: &mut Context<'_>, grace: Duration) -> io::Result<SourceId> {
    end_on_signals(context, move |context| context.drain(grace))
}

/// The first SIGINT or SIGTERM [shuts the loop down](Context::shutdown), the second ends all connections at once, so that
/// [`run`](crate::EventLoop::run) returns. For servers whose clients stay for long, and are due no answer.
///
/// # Errors
///
/// As [`add_signal_handler`].
pub fn shutdown_on_signals(context: &mut Context<'_>, grace: Duration) -> io::Result<SourceId> {
    end_on_signals(context, move |context| context.shutdown(grace))
}

fn end_on_signals(context: &mut Context<'_>, begin: impl Fn(&mut Context<'_>) + 'static) -> io::Result<SourceId> {
    let mut has_begun = false;
    add_signal_handler(context, [Signal::INT, Signal::TERM], move |context, signal| {
        // A loop that has ended may be run anew; one that drains for another reason has not been told to by a signal.
        has_begun &= context.is_draining();
        if has_begun {
            log::info!("{signal} once more: ending at once");
            context.shutdown(Duration::ZERO);
        } else {
            has_begun = true;
            log::info!("{signal}: ending");
            begin(context);
        }
    })
}

/// What wakes the loop, and what says that these signals are wanted. Dropped in the order of the fields: what comes
/// meanwhile acts. What came before and was not told goes with the loop.
struct SignalSource {
    _wanted: Vec<Wanted>,
    signals: Signals,
}

impl SignalSource {
    fn new(wanted: Vec<Signal>) -> io::Result<SignalSource> {
        // For lack of a descriptor it fails before anything has changed.
        let signals = Signals::new([0; 0])?;
        for signal in &wanted {
            wanted::act_by_default_unless_wanted(*signal)?;
            signals.add_signal(signal.as_raw())?;
        }
        Ok(SignalSource { _wanted: wanted.into_iter().map(Wanted::new).collect(), signals })
    }

    /// One that has come.
    fn take(&mut self) -> Option<Signal> {
        self.signals.pending().next().and_then(Signal::from_raw)
    }
}

impl Source for SignalSource {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.signals.register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.signals.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.signals.deregister(registry)
    }
}
