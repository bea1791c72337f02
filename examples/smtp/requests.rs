// The same session in a blocking handler: the tutorial's threaded mail server.

use std::error::Error;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::super::support::{self, Failure};
use super::{GRACE, GREETING, NOT_STORED, STORED, Session, Spool, Step, TOO_SLOW, reply};
use switchboard::server::{Request, Requests, SocketServer};

pub(crate) fn serve_by_threads(
    address: SocketAddr,
    threads: NonZeroUsize,
    spool: Arc<Spool>,
    timeout: Duration,
) -> Result<(), Failure> {
    let make = move || {
        let spool = spool.clone();
        move |request: &mut Request| handle(request, &spool, timeout)
    };
    let requests = Requests::threads(threads, make).request_timeout(Some(12 * timeout));
    let mut server = SocketServer::listen(address, requests).map_err(support::cannot_listen(address))?;
    support::on_signals(&mut server.context(), |context, _| context.stop())?;
    support::say(format_args!("listening on {}", server.local_addr()));
    server.serve_forever()?;
    server.shutdown(GRACE)?;
    Ok(())
}

fn handle(request: &mut Request, spool: &Spool, timeout: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
    request.set_timeout(Some(timeout));
    let mut session = Session::default();
    request.write_all(&reply(GREETING))?;
    loop {
        let step = match read_line(request, session.line_bytes_max()) {
            Ok(Line::Whole(line)) => session.line(&line),
            Ok(Line::TooLong) => session.line_too_long(),
            Ok(Line::End) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => Step::Close(TOO_SLOW),
            Err(error) => return Err(error.into()),
        };
        match step {
            // A handler's connection has no filters, so STARTTLS is not offered.
            Step::Nothing | Step::StartTls => {}
            Step::Reply(text) => request.write_all(&reply(&text))?,
            Step::Close(text) => return Ok(request.write_all(&reply(text))?),
            Step::Store(message) => {
                let is_stored = spool.store(&message).is_ok();
                request.write_all(&reply(if is_stored { STORED } else { NOT_STORED }))?;
            }
        }
    }
}

enum Line {
    /// A line without its CRLF.
    Whole(Vec<u8>),
    TooLong,
    End,
}

fn read_line(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Line> {
    let (mut line, mut is_too_long) = (Vec::new(), false);
    loop {
        // A bare line feed does not end a line.
        if input.take((bytes_max + 2) as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(Line::End);
        }
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            return Ok(if is_too_long || line.len() > bytes_max { Line::TooLong } else { Line::Whole(line) });
        }
        if line.len() > bytes_max + 1 {
            is_too_long = true;
            // Keep the last byte: it may be the CR of its CRLF.
            line.drain(..line.len() - 1);
        }
    }
}
