//! A log collector on a Unix datagram socket, as `/dev/log` is one: programs send it a line each, nobody waits for it.
//!
//! Run `cargo run --example unix_datagram -- /tmp/collector`, then `logger --socket /tmp/collector "hello"`, or
//! `echo hello | nc -uU /tmp/collector`. On Unix only.
//!
//! It prints what comes, escaped, with who sent it; most senders have no name. The path goes when the program ends.

#[allow(dead_code)] // What is for who listens on an Internet address.
mod support;

#[cfg(unix)]
mod unix {
    use std::io;

    use super::support::{Failure, say, shut_down_on_signals};
    use switchboard::{Address, DatagramProtocol, DatagramTransport, EventLoop, UnixAddress, escape};

    struct Collector;

    impl DatagramProtocol for Collector {
        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: {}", escape(data.strip_suffix(b"\n").unwrap_or(data))));
        }

        fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            say(format_args!("{from}: more than {} bytes", data.len()));
        }
    }

    pub(crate) fn run() -> Result<(), Failure> {
        env_logger::init();
        let path = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: PATH of the socket to make"))?;
        let address = Address::Unix(UnixAddress::Path(path.into()));
        let mut event_loop = EventLoop::new()?;
        let bound = event_loop.context().bind_datagram(address.clone(), Box::new(Collector));
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        shut_down_on_signals(&mut event_loop)?;
        say(format_args!("listening on {address}"));
        event_loop.run()?;
        Ok(())
    }
}

#[cfg(unix)]
fn main() -> Result<(), support::Failure> {
    unix::run()
}

#[cfg(not(unix))]
fn main() {}
