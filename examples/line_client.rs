//! A client that sends what you type and prints what it receives: a small telnet, for any of the servers here.
//!
//! Run `cargo run --example line_client -- localhost:1234` while a server is running, such as
//! `cargo run --example echo_server`, and type. The end of the input (Ctrl-D) closes the sending side, and the program
//! ends once the server has sent the rest. Received data is escaped, since it could clear your screen or forge a line:
//! `--raw` prints the bytes as they are, as in `line_client --raw localhost:1234 <question >answer`. `--crlf` sends
//! each line end as CRLF.
//!
//! If the input is a terminal, a pipe or a socket, it is a source of the loop (`Context::register`). A thread reads
//! inputs that cannot be a source: a file or `/dev/null`, which epoll refuses and whose end kqueue does not report; a
//! terminal that kqueue refuses, as that of macOS does with some, such as `/dev/tty`; and everything on Windows, where
//! nothing can wait for a console and sockets at once. Neither side is read faster than the other one accepts data.

#[path = "support/client.rs"]
#[allow(dead_code)] // Contains more than this example uses.
mod client;
#[path = "line_client/printer.rs"]
mod printer;
#[allow(dead_code)] // Contains more than this example uses.
mod support;
#[path = "line_client/typed.rs"]
mod typed;

use std::process::ExitCode;

use client::Outcome;
use printer::Printer;
use support::Failure;
use switchboard::{CloseReason, Connect, ConnectError, ConnectionId, Context, EventLoop, Protocol, Transport, escape};
use typed::Typed;

struct Client {
    raw: bool,
    crlf: bool,
    typed: Option<Typed>,
    /// The server does not read fast enough, so the input is not read meanwhile.
    is_held_up: bool,
    printer: Printer,
    outcome: Outcome,
}

/// Passes typed data on to the connection; empty data is the end of the input.
fn give(context: &mut Context<'_>, id: ConnectionId, data: &[u8]) {
    // If the connection has ended, the data is dropped.
    let _ = context.with_protocol(id, |client: &mut Client, transport| client.send(transport, data));
}

impl Client {
    fn send(&mut self, transport: &mut Transport<'_>, data: &[u8]) {
        if data.is_empty() {
            return transport.shutdown_write();
        }
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n").filter(|_| self.crlf) {
                Some(text) => [text, b"\r\n"].iter().for_each(|part| transport.write(part)),
                None => transport.write(line),
            }
        }
        self.go_on(&mut transport.context());
    }

    /// Reads more of the input, unless the server is slow.
    fn go_on(&mut self, context: &mut Context<'_>) {
        if let Some(typed) = self.typed.as_ref().filter(|_| !self.is_held_up) {
            typed.read_more(context);
        }
    }

    fn print(&mut self, transport: &mut Transport<'_>, data: &[u8]) {
        let shown = if self.raw { data.to_vec() } else { show(data) };
        if let Err(error) = self.printer.print(transport, shown, &self.outcome) {
            self.outcome.failed(&error);
            transport.abort();
        }
    }
}

/// Escapes data line by line, since line ends are the only control characters to keep.
fn show(data: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| match line.strip_suffix(b"\n") {
        Some(text) => format!("{}\n", escape(text.strip_suffix(b"\r").unwrap_or(text))),
        None => escape(line).to_string(),
    };
    data.split_inclusive(|byte| *byte == b'\n').map(line).collect::<String>().into_bytes()
}

/// Returns how many bytes can be shown: all but an incomplete character or CRLF at the end, whose rest may still come.
fn whole_bytes(data: &[u8]) -> usize {
    let is_begun = |back: &usize| {
        let wanted = match data[data.len() - back] {
            b'\r' | 0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        wanted > *back
    };
    data.len() - (1..=data.len().min(3)).find(is_begun).unwrap_or(0)
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        match typed::begin(&mut transport.context(), id, give) {
            Ok(typed) => self.typed = Some(typed),
            Err(error) => {
                self.outcome.failed(&format_args!("{error:?}"));
                transport.abort();
            }
        }
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let count = if self.raw { data.len() } else { whole_bytes(data) };
        if count > 0 {
            self.print(transport, &data[..count]);
        }
        count
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        if !rest.is_empty() {
            self.print(transport, rest);
        }
        transport.close();
    }

    fn pause_writing(&mut self, _: &mut Transport<'_>) {
        self.is_held_up = true;
    }

    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        self.is_held_up = false;
        self.go_on(&mut transport.context());
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        let is_in_order = matches!(reason, CloseReason::PeerClosed | CloseReason::Closed | CloseReason::Shutdown);
        if !is_in_order && !matches!(reason, CloseReason::Aborted) {
            self.outcome.failed(&reason);
        }
    }
}

fn main() -> Result<ExitCode, Failure> {
    support::show_log();
    let (flags, servers): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let [server] = &servers[..] else { return Err(Failure::new("usage: [--raw] [--crlf] SERVER".to_owned())) };
    let server = client::name_and_port(server).map_err(Failure::new)?;
    let mut event_loop = EventLoop::new()?;
    support::shut_down_on_signals(&mut event_loop)?;
    let outcome = Outcome::default();
    let (raw, crlf, printer) = (has("--raw"), has("--crlf"), Printer::start()?);
    let client = Client { raw, crlf, typed: None, is_held_up: false, printer, outcome: outcome.clone() };
    event_loop.context().connect(Connect::to(server), client)?;
    // Runs until the connection has ended and everything received is printed.
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
