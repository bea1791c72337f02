// SIGINT and SIGTERM, for the examples.
//
// With the feature `signals`, that feature handles them. `cargo run --example select_server` has only the default
// features, since a package cannot turn on a feature of its own for its examples, and should still end cleanly on
// Ctrl-C. In that case the examples wait for signals as for any other source, using a crate of their own.

use std::io;
#[cfg(unix)]
use std::time::Duration;

use switchboard::{Context, EventLoop};

/// How long connections have to receive what was written to them.
#[cfg(unix)]
#[allow(dead_code)] // Some examples drain instead.
const GRACE: Duration = Duration::from_secs(5);

/// Ends the loop on SIGINT or SIGTERM: cleanly on the first one, giving connections a few seconds to receive what was
/// written to them, and at once on the second.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Some examples drain instead.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    switchboard::signals::shutdown_on_signals(&mut event_loop.context(), GRACE)?;
    Ok(())
}

/// Calls `handler` with the name of each SIGINT and SIGTERM.
#[cfg(all(unix, feature = "signals"))]
#[allow(dead_code)] // Few examples do more than shut down.
pub(crate) fn on_signals(
    context: &mut Context<'_>,
    mut handler: impl FnMut(&mut Context<'_>, &str) + 'static,
) -> io::Result<()> {
    use switchboard::signals::{Signal, add_signal_handler};
    let handle = move |context: &mut Context<'_>, signal: Signal| handler(context, &signal.to_string());
    add_signal_handler(context, [Signal::INT, Signal::TERM], handle)?;
    Ok(())
}

/// Does the same without the feature.
#[cfg(all(unix, not(feature = "signals")))]
#[allow(dead_code)] // Some examples drain instead.
pub(crate) fn shut_down_on_signals(event_loop: &mut EventLoop) -> io::Result<()> {
    let mut grace = GRACE;
    on_signals(&mut event_loop.context(), move |context, _| context.shutdown(std::mem::take(&mut grace)))
}

/// Does the same without the feature.
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
    // It must not keep a loop running that has nothing else to do.
    context.set_background(source, true);
    Ok(())
}

/// Does nothing: on other systems the process is just ended.
#[cfg(not(unix))]
#[allow(dead_code)] // Some examples drain instead.
pub(crate) fn shut_down_on_signals(_: &mut EventLoop) -> io::Result<()> {
    Ok(())
}

/// Does nothing, as above.
#[cfg(not(unix))]
#[allow(dead_code)] // Few examples do more than shut down.
pub(crate) fn on_signals(_: &mut Context<'_>, _: impl FnMut(&mut Context<'_>, &str) + 'static) -> io::Result<()> {
    Ok(())
}
