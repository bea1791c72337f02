// The handlers of requests: one that thanks and echoes, one that prints what it receives, and a child process.

use std::error::Error;
use std::io::{self, BufRead, Read, Write};

use super::support::{Failure, say};
use switchboard::server::{Request, RequestHandler};
use switchboard::{Address, escape};

pub(crate) const THANKS: &[u8] = b"Thank you for connecting\n";

/// Longer lines are echoed in pieces of this size.
const PIECE_BYTES: u64 = 4096;

type Handled = Result<(), Box<dyn Error + Send + Sync>>;

/// Thanks the client, and echoes each line. A function can be a handler, too.
pub(crate) fn thank(request: &mut Request) -> Handled {
    greet(request.peer_addr());
    if let Some(packet) = request.datagram().map(<[u8]>::to_vec) {
        request.write_all(&packet)?;
        return Ok(());
    }
    request.write_all(THANKS)?;
    let mut line = Vec::new();
    while request.take(PIECE_BYTES).read_until(b'\n', &mut line)? > 0 {
        request.write_all(&line)?;
        line.clear();
    }
    Ok(())
}

pub(crate) fn greet(client: &Address) {
    say(format_args!("Got connection from {client}"));
}

/// The tutorial's `EchoRequestHandler`, created for each request. As there, a message may arrive in pieces; they are
/// printed and echoed as they arrive.
#[derive(Default)]
pub(crate) struct Echo {
    bytes: usize,
}

impl RequestHandler for Echo {
    fn setup(&mut self, request: &mut Request) -> Handled {
        greet(request.peer_addr());
        Ok(())
    }

    fn handle(&mut self, request: &mut Request) -> Handled {
        loop {
            let heard = request.fill_buf()?.to_vec();
            if heard.is_empty() {
                return Ok(());
            }
            request.consume(heard.len());
            self.bytes += heard.len();
            say(format_args!("Received: {}", escape(heard.trim_ascii_end())));
            // Send the echo before waiting for more.
            request.write_all(&heard)?;
        }
    }

    /// Called even if `handle` has failed.
    fn finish(&mut self, request: &mut Request) -> Handled {
        say(format_args!("Done with connection from {}: {} bytes", request.peer_addr(), self.bytes));
        Ok(())
    }
}

/// Does the same as [`thank`] in a child process, whose stdin and stdout are the connection.
fn handle_stdio(thanks: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(thanks)?;
    io::copy(&mut io::stdin().lock(), &mut output)?;
    output.flush()
}

/// Runs the child process. If the request fails, the child aborts; since it ends by a signal, its client is reset: half
/// an answer must not look complete. If the client is already gone, the child just exits with an error.
pub(crate) fn run_child(thanks: &[u8]) -> Result<(), Failure> {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    match handle_stdio(thanks) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            eprintln!("a request has failed: {error}");
            std::process::abort()
        }
        result => Ok(result?),
    }
}
