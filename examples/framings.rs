//! Messages in a stream, with each of the framings: each message is printed and sent back, framed in the same way.
//!
//! Run `cargo run --example framings`, then `telnet 127.0.0.1 1234`: messages are lines, as with `--lines`. The other
//! framings have one flag each; `nc` and `printf` serve as a client:
//!
//! | flag | what a message is | such as |
//! | --- | --- | --- |
//! | `--lines` | a line; after `raw N`, N raw bytes follow | `printf 'hello\nraw 4\n\n\0\n\0bye\n'` |
//! | `--length` | a two-byte big-endian length, then that many bytes | `printf '\0\5hello'` |
//! | `--netstring` | a length in digits, a colon, that many bytes, a comma | `printf '5:hello,'` |
//! | `--delimiter=TEXT` | everything up to the text | `printf 'hello;'` with `--delimiter=';'` |
//! | `--fixed=N` | N bytes | `printf 'hello'` with `--fixed=5` |
//!
//! Messages have at most 4096 bytes. A client that breaks the framing is disconnected; a line that is too long is
//! skipped.

mod support;

use std::io;

use support::{Failure, say};
use switchboard::framing::{
    Delimited, FixedSize, FrameHandler, Framed, Framer, FramingError, LengthPrefixed, LineHandler, LineReceiver,
    Netstring, send_line,
};
use switchboard::{EventLoop, Protocol, Transport, escape};

const MESSAGE_BYTES_MAX: usize = 4096;

/// The `send` method of a framing.
type Send<F> = fn(&F, &mut Transport<'_>, &[u8]) -> Result<(), FramingError>;

/// Sends each frame back in the framing that it arrived in.
struct Echo<F> {
    framer: F,
    send: Send<F>,
}

impl<F: Framer> FrameHandler for Echo<F> {
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]) {
        say(format_args!("a frame of {} bytes: {}", frame.len(), escape(frame)));
        if let Err(error) = (self.send)(&self.framer, transport, frame) {
            transport.close_for(error);
        }
    }

    fn framing_error(&mut self, _: &mut Transport<'_>, error: &FramingError) {
        say(format_args!("the framing is broken: {error}"));
    }
}

fn frames<F: Framer + Clone>(framer: F, send: Send<F>) -> Box<dyn Protocol> {
    Box::new(Framed::new(framer.clone(), Echo { framer, send }))
}

/// Does the same with lines, between which there may be raw bytes: Twisted's raw mode.
#[derive(Default)]
struct Lines {
    /// How many raw bytes are still to come.
    raw_bytes: usize,
}

impl LineHandler for Lines {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        say(format_args!("a line of {} bytes: {}", line.len(), escape(line)));
        let count = line.strip_prefix(b"raw ").and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
        match count {
            Some(count) if count <= MESSAGE_BYTES_MAX => self.raw_bytes = count,
            Some(_) => transport.close_for("more raw bytes than a message may have"),
            None => send_line(transport, line),
        }
    }

    /// Called before each line: what follows `raw 5` is not a line, even if it contains a whole one.
    fn is_raw(&self) -> bool {
        self.raw_bytes > 0
    }

    /// Returns how many of the bytes were raw; lines continue after them.
    fn raw_data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let raw = &data[..data.len().min(self.raw_bytes)];
        say(format_args!("{} raw bytes: {}", raw.len(), escape(raw)));
        transport.write(raw);
        self.raw_bytes -= raw.len();
        raw.len()
    }

    /// The rest of the line is skipped, and the next line is received: lines are the only framing that can recover.
    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        say("a line is too long");
        send_line(transport, b"too long");
    }
}

/// Returns a function that makes the protocols of connections, for a flag.
fn factory(flag: &str) -> Result<Box<dyn Fn() -> Box<dyn Protocol>>, Failure> {
    let wrong = || Failure::new(format!("{flag:?} is not understood: see the first lines of this example"));
    let max = MESSAGE_BYTES_MAX;
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    Ok(match name {
        "--lines" => Box::new(move || Box::new(LineReceiver::new(Lines::default()).line_bytes_max(max))),
        "--length" => Box::new(move || frames(LengthPrefixed::u16_be(max), LengthPrefixed::send)),
        "--netstring" => Box::new(move || frames(Netstring::new(max), Netstring::send)),
        "--delimiter" if !value.is_empty() => {
            let framer = Delimited::new(value.as_bytes()).frame_bytes_max(max);
            Box::new(move || frames(framer.clone(), Delimited::send))
        }
        "--fixed" => match value.parse() {
            Ok(bytes) if (1..=max).contains(&bytes) => Box::new(move || frames(FixedSize::new(bytes), FixedSize::send)),
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    })
}

fn main() -> Result<(), Failure> {
    let (flags, rest): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let flag = match &flags[..] {
        [] => "--lines",
        [flag] => flag.as_str(),
        _ => return Err(io::Error::other("one framing is enough").into()),
    };
    let make = factory(flag)?;
    let address = support::listening_address_in(rest, &[flag])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, move |_, _| Some(make()));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
