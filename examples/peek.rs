//! Looks at received data without consuming it (the tutorial's `MSG_PEEK`), to serve two protocols on one port.
//!
//! Run `cargo run --example peek`, then `telnet 127.0.0.1 1234` and a line; in another window `curl
//! http://127.0.0.1:1234/`. Each time it looks at the input it prints `peeked at` and the bytes, and later the same
//! bytes again as `read`. It answers a line that begins with `GET ` like a web server, and echoes any other line.

mod support;

use support::say;
use switchboard::{EventLoop, Protocol, Transport, escape};

/// If no line ends within this many bytes, the protocol is chosen without one.
const PEEKED_BYTES_MAX: usize = 1024;

/// Waits for a complete line without consuming anything: after returning 0, `data_received` gets the same bytes again,
/// followed by new ones.
struct Peek;

impl Protocol for Peek {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("peeked at {}", escape(data)));
        if data.contains(&b'\n') || data.len() >= PEEKED_BYTES_MAX {
            // The new protocol gets the unconsumed bytes first.
            match data.starts_with(b"GET ") {
                true => transport.set_protocol(Web),
                false => transport.set_protocol(Echo),
            }
        }
        0
    }
}

/// Any other client.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("read {}", escape(data)));
        transport.write(data);
        data.len()
    }
}

/// A browser.
struct Web;

impl Protocol for Web {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("read {}", escape(data)));
        transport.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello, browser\n");
        transport.close();
        data.len()
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, _| Some(Peek));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
