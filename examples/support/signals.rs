// SIGINT and SIGTERM, for the examples.
//
// With the feature `signals` they are that feature's. `cargo run --example select_server` has no features but the default
// ones, and ends cleanly on Ctrl-C all the same: a package cannot turn on a feature of its own for its examples. So there
// the examples wait for signals as for any other source, by a crate of theirs.

use std::io;
#[cfg(unix)]
use std::time::Duration;

use switchboard::{Context, EventLoop};

/// How long connections have to take what was written to them.
#[cfg(unix)]
#[allow(dead_code)] // Some examples drain.
const GRACE: Duration = Duration::from_secs(5);

/// Ends the loop cleanly on the first SIGINT or SIGTERM, giving connections a few seconds to take what was written to
/// them, and at once on the second.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    switchboard::signals::shutdown_on_signals(&mut event_loop.context(), GRACE)?;
    Ok(())
}

/// Has `handler` called with the name of each SIGINT and SIGTERM.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Few examples do anything else than to shut down.
pub(crate) fn on_signals(
    context: &mut Context<'_>,
    mut handler: impl FnMut(&mut Context<'_>, &str) + 'static,
) -> io::Result<()> {
    use switchboard::signals::{Signal, add_signal_handler};
    let handle = move |context: &mut Context<'_>, signal: Signal| handler(context, &signal.to_string());
    add_signal_handler(context, [Signal::INT, Signal::TERM], handle)?;
    Ok(())
}

/// The same by hand.
#[cfg(all(unix, not(feature = "signals")))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    let mut grace = GRACE;
    on_signals(&mut event_loop.context(), move |context, _| context.shutdown(std::mem::take(&mut grace)))
}

/// The same by hand.
#[cfg(all(unix, not(feature = "signals")))]
pub(crate) fn on_signals(
    context: &mut Context<'_>,
    mut handler: impl FnMut(&mut Context<'_>, &str) + 'static,
) -> io::Result<()> {
    use switchboard::SourceAction;
    let signals = signal_hook_mio::v1_0::Signals::new([libc::SIGINT, libc::SIGTERM])?;
    let source = context.register(signals, mio::Interest::READABLE, move |context, signals, _| {
        for signal in signals.pending() {
            handler(context, if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" });
        }
        SourceAction::Wait
    })?;
    // It keeps no loop waiting that has nothing else to do.
    context.set_background(source, true);
    Ok(())
}

/// Elsewhere the system ends the process.
#[cfg(not(unix))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(_: &mut EventLoop) -> io::Result<()> {
    Ok(())
}

/// The same.
#[cfg(not(unix))]
#[allow(dead_code)] // Few examples do anything else than to shut down.
pub(crate) fn on_signals(_: &mut Context<'_>, _: impl FnMut(&mut Context<'_>, &str) + 'static) -> io::Result<()> {
    Ok(())
}
