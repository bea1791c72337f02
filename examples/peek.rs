//! Looking at what came without taking it, the tutorial's `MSG_PEEK`, and what that is good for: two protocols on one
//! port.
//!
//! Run `cargo run --example peek`, then `telnet 127.0.0.1 1234` and a line; in another window
//! `curl http://127.0.0.1:1234/`. It prints `peeked at` with what is there, as often as it looks, and then the same bytes
//! once more as `read`. A line that begins with `GET ` is answered as a web server does, any other one is sent back.

mod support;

use support::say;
use switchboard::{EventLoop, Protocol, Transport, escape};

/// Longer first lines are taken as they are.
const PEEKED_BYTES_MAX: usize = 1024;

/// Looks until a line is there, and takes nothing: answering 0 has the same bytes come again, with more.
struct Peek;

impl Protocol for Peek {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        say(format_args!("peeked at {}", escape(data)));
        if data.contains(&b'\n') || data.len() >= PEEKED_BYTES_MAX {
            // It gets what was not taken, before anything else.
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
