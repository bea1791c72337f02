// SIGINT and SIGTERM, for the examples.
//
// With the feature `signals` the examples use it. But `cargo run --example select_server` has only the default
// features, as a package cannot turn on its own features for its examples, and must end cleanly on Ctrl-C all the same.
// So without the feature the examples register a source from the crate `signal-hook-mio`.

use std::io;
#[cfg(unix)]
use std::time::Duration;

use switchboard::{Context, EventLoop};

/// How long connections have to send their queued data.
#[cfg(unix)]
#[allow(dead_code)] // Some examples drain.
const GRACE: Duration = Duration::from_secs(5);

/// Ends the loop cleanly on the first SIGINT or SIGTERM, giving connections a few seconds to send their queued data,
/// and at once on the second.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    switchboard::signals::shutdown_on_signals(&mut event_loop.context(), GRACE)?;
    Ok(())
}

/// Calls `handler` with the signal's name on each SIGINT and SIGTERM.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Most examples only shut down.
pub(crate) fn on_signals(
    context: &mut Context<'_>,
    mut handler: impl FnMut(&mut Context<'_>, &str) + 'static,
) -> io::Result<()> {
    use switchboard::signals::{Signal, add_signal_handler};
    let handle = move |context: &mut Context<'_>, signal: Signal| handler(context, &signal.to_string());
    add_signal_handler(context, [Signal::INT, Signal::TERM], handle)?;
    Ok(())
}

/// The same without the feature.
#[cfg(all(unix, not(feature = "signals")))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    let mut grace = GRACE;
    on_signals(&mut event_loop.context(), move |context, _| context.shutdown(std::mem::take(&mut grace)))
}

/// The same without the feature.
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
    // The source alone must not keep the loop running.
    context.set_background(source, true);
    Ok(())
}

/// Does nothing: on other systems the process is ended by the system.
#[cfg(not(unix))]
#[allow(dead_code)] // Some examples drain.
pub(crate) fn shut_down_on_signals(_: &mut EventLoop) -> io::Result<()> {
    Ok(())
}

/// Does nothing, for the same reason.
#[cfg(not(unix))]
#[allow(dead_code)] // Most examples only shut down.
pub(crate) fn on_signals(_: &mut Context<'_>, _: impl FnMut(&mut Context<'_>, &str) + 'static) -> io::Result<()> {
    Ok(())
}
