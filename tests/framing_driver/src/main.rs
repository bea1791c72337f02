//! Runs the framing adapters on the cases on stdin, and prints their callbacks, for `tests/real/framing_against_twisted.py`.
//!
//! A case is a line: the framing, its maximum, and the pieces of the input in hexadecimal digits, separated by spaces.
//! It is answered by a line of callbacks, as `frame:HEX`, `too-long`, `broken` and `rest:HEX`. Each case has a
//! separate connection over loopback; each piece is read before the next one is sent.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use switchboard::framing::{
    FrameHandler, Framed, FramingError, LengthPrefixed, LineEnding, LineHandler, LineReceiver, Netstring,
};
use switchboard::{CloseReason, EventLoop, Inner, Protocol, Transport};

/// The callbacks of a case so far.
#[derive(Default)]
struct Outcome {
    callbacks: Vec<String>,
    received_bytes: usize,
    over: bool,
}

#[derive(Clone, Default)]
struct Noting(Rc<RefCell<Outcome>>);

impl Noting {
    fn note(&self, callback: String) {
        self.0.borrow_mut().callbacks.push(callback);
    }
}

impl LineHandler for Noting {
    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        self.note(format!("frame:{}", hex(line)));
    }

    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        self.note("too-long".into());
        transport.abort();
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.note(format!("rest:{}", hex(rest)));
        transport.close();
    }
}

impl FrameHandler for Noting {
    fn frame_received(&mut self, _: &mut Transport<'_>, frame: &[u8]) {
        self.note(format!("frame:{}", hex(frame)));
    }

    fn framing_error(&mut self, _: &mut Transport<'_>, error: &FramingError) {
        let callback = if matches!(error, FramingError::LengthOverMax { .. }) { "too-long" } else { "broken" };
        self.note(callback.into());
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.note(format!("rest:{}", hex(rest)));
        transport.close();
    }
}

/// Counts what the adapter has read, so that the next piece is sent after this one was read.
struct Counting {
    adapter: Box<dyn Protocol>,
    outcome: Noting,
    left_bytes: usize,
}

impl Protocol for Counting {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        // What the adapter had left is given again with the new input.
        self.outcome.0.borrow_mut().received_bytes += data.len() - self.left_bytes;
        let consumed = self.adapter.data_received(transport, data);
        self.left_bytes = data.len() - consumed;
        // Adapters delay calls until a frame is complete; this has to see every piece.
        transport.set_input_low_bytes(0);
        consumed
    }

    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut *self.adapter)
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
        self.outcome.0.borrow_mut().over = true;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn unhex(digits: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn adapter(framing: &str, bytes_max: usize, handler: Noting) -> Result<Box<dyn Protocol>, Box<dyn Error>> {
    let lines = LineReceiver::new(handler.clone()).line_bytes_max(bytes_max);
    Ok(match framing {
        "crlf" => Box::new(lines.line_ending(LineEnding::CrLf)),
        "lf" => Box::new(lines.line_ending(LineEnding::Lf)),
        "netstring" => Box::new(Framed::new(Netstring::new(bytes_max), handler)),
        "int32" => Box::new(Framed::new(LengthPrefixed::u32_be(bytes_max), handler)),
        "int16" => Box::new(Framed::new(LengthPrefixed::u16_be(bytes_max), handler)),
        "int8" => Box::new(Framed::new(LengthPrefixed::u8(), handler)),
        other => return Err(format!("no such framing: {other}").into()),
    })
}

fn run(event_loop: &mut EventLoop, listener: &TcpListener, case: &str) -> Result<String, Box<dyn Error>> {
    let mut words = case.split(' ');
    let framing = words.next().unwrap_or_default();
    let bytes_max = words.next().unwrap_or_default().parse()?;
    let outcome = Noting::default();
    let adapter = adapter(framing, bytes_max, outcome.clone())?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (server, _) = listener.accept()?;
    let counting = Counting { adapter, outcome: outcome.clone(), left_bytes: 0 };
    event_loop.context().attach(server, counting)?;
    let mut sent_bytes = 0;
    for piece in words {
        let piece = unhex(piece)?;
        if outcome.0.borrow().over || client.write_all(&piece).is_err() {
            break;
        }
        sent_bytes += piece.len();
        while outcome.0.borrow().received_bytes < sent_bytes && !outcome.0.borrow().over {
            event_loop.turn(Some(Duration::from_secs(10)))?;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
    while !outcome.0.borrow().over {
        event_loop.turn(Some(Duration::from_secs(10)))?;
    }
    Ok(outcome.0.take().callbacks.join(" "))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut output = io::stdout().lock();
    for case in io::stdin().lock().lines() {
        let answer = run(&mut event_loop, &listener, &case?)?;
        writeln!(output, "{answer}")?;
    }
    Ok(())
}
