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
//! - A handler is called by the loop like that of any other source: it may do whatever a callback may. No code of the
//!   program runs in the context of the signal.
//! - Signals of one kind that arrive before the loop looks are delivered once; none of a kind is lost.
//! - Any number of handlers and loops may wait for the same signal: all of them get it.
//! - Handlers are background: they do not keep [`run_until_idle`](crate::EventLoop::run_until_idle) waiting. They are
//!   removed by [`Context::deregister`], and with their loop.
//! - A loop that is stuck in a callback sees no signal. SIGQUIT (Ctrl-\\) then ends the process, unless a handler waits
//!   for it.
//!
//! # When nobody wants a signal any more
//!
//! Once its last handler is gone, a signal has its default action: SIGTERM ends the process. Its previous disposition
//! is not restored, whether that was a handler of the program's or to ignore it: the crate `signal-hook`, on which this
//! is built, keeps a handler of its own installed for good. For the same reason, the default action is taken even if
//! the program has other handlers through that crate.

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

/// Makes the loop call `handler` when one of these signals arrives.
///
/// A panic in it is caught, counted and logged, and does not remove it, unlike with the handlers of other sources: it
/// is called for the other signals, and for this one again. If it were removed, SIGTERM would end the process at once
/// instead of calling the handler. So a handler that panics at each SIGTERM leaves a process that SIGTERM does not end.
///
/// # Errors
///
/// The system's error, such as having no descriptor left; `InvalidInput` for an empty list of signals, `NotConnected`
/// while the loop shuts down.
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

/// Makes the first SIGINT or SIGTERM [drain](Context::drain) the loop, and the second end all connections at once, so
/// that [`run`](crate::EventLoop::run) returns.
///
/// # Errors
///
/// The same as for [`add_signal_handler`].
pub fn drain_on_signals(context: &mut Context<'_>, grace: Duration) -> io::Result<SourceId> {
    end_on_signals(context, move |context| context.drain(grace))
}

/// Makes the first SIGINT or SIGTERM [shut the loop down](Context::shutdown), and the second end all connections at
/// once, so that [`run`](crate::EventLoop::run) returns. For servers whose clients stay for long, and are not waiting
/// for an answer.
///
/// # Errors
///
/// The same as for [`add_signal_handler`].
pub fn shutdown_on_signals(context: &mut Context<'_>, grace: Duration) -> io::Result<SourceId> {
    end_on_signals(context, move |context| context.shutdown(grace))
}

fn end_on_signals(context: &mut Context<'_>, begin: impl Fn(&mut Context<'_>) + 'static) -> io::Result<SourceId> {
    let mut has_begun = false;
    add_signal_handler(context, [Signal::INT, Signal::TERM], move |context, signal| {
        // A loop that has ended may be run again; one that drains for another reason was not told to by a signal.
        has_begun &= context.is_draining();
        if has_begun {
            log::info!("{signal} again: exiting immediately");
            context.shutdown(Duration::ZERO);
        } else {
            has_begun = true;
            log::info!("{signal}: ending");
            begin(context);
        }
    })
}

/// What wakes the loop, and what marks these signals as wanted. Fields are dropped in order: signals that arrive in
/// between take their default action. Signals that arrived before and were not delivered are lost with the loop.
struct SignalSource {
    _wanted: Vec<Wanted>,
    signals: Signals,
}

impl SignalSource {
    fn new(wanted: Vec<Signal>) -> io::Result<SignalSource> {
        // If there is no descriptor left, this fails before anything has changed.
        let signals = Signals::new([0; 0])?;
        for signal in &wanted {
            wanted::act_by_default_unless_wanted(*signal)?;
            signals.add_signal(signal.as_raw())?;
        }
        Ok(SignalSource { _wanted: wanted.into_iter().map(Wanted::new).collect(), signals })
    }

    /// Takes a signal that has arrived.
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
