// Shared by the programs: the address to listen on, the line that prints it, and a clean end on SIGINT and SIGTERM.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use switchboard::{Context, EventLoop, ListenerId, LoopLimits};

/// Runs a server: `listen` gets the address from the command line. After a signal, connections have 5 s to end by
/// themselves.
pub(crate) fn serve(
    limits: impl Into<LoopLimits>,
    listen: impl FnOnce(&mut Context<'_>, SocketAddr) -> io::Result<ListenerId>,
) -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1234".to_owned());
    let ended = address.parse().map_err(io::Error::other).and_then(|address| run(limits.into(), address, listen));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    limits: LoopLimits,
    address: SocketAddr,
    listen: impl FnOnce(&mut Context<'_>, SocketAddr) -> io::Result<ListenerId>,
) -> io::Result<()> {
    let mut event_loop = EventLoop::with_limits(limits)?;
    let mut context = event_loop.context();
    let listener = listen(&mut context, address)?;
    #[cfg(unix)]
    switchboard::signals::drain_on_signals(&mut context, std::time::Duration::from_secs(5))?;
    let address = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?.local_addr()?;
    // The server runs even if nobody reads its output.
    let _ = writeln!(io::stdout(), "listening on {address}");
    event_loop.run()
}
