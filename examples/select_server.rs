//! The select server of the tutorial: many clients at once, and a line printed for whatever one of them does.
//!
//! Run `cargo run --example select_server`, then `telnet 127.0.0.1 1234` from several windows, and type. `RUST_LOG=debug`
//! before it shows the loop's own log.
//!
//! It prints who comes, each line that somebody sends, and who leaves. A line that is not finished is printed when it
//! has waited for a moment, or when its client leaves. What clients send is shown escaped: none of them can clear the
//! screen or forge a line.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use support::say;
use switchboard::{CloseReason, EventLoop, Protocol, TimerId, Transport, escape};

/// How long an unfinished line waits for its end.
const UNFINISHED_WAIT: Duration = Duration::from_millis(200);

/// An unfinished line of this length is printed as it is.
const LINE_BYTES_MAX: usize = 4096;

/// One client.
struct Session {
    peer: String,
    /// The beginning of a line, shared with the timer that prints it.
    unfinished: Rc<RefCell<Vec<u8>>>,
    timer: Option<TimerId>,
}

impl Session {
    fn new(peer: String) -> Session {
        Session { peer, unfinished: Rc::default(), timer: None }
    }

    /// Prints an unfinished line once it has waited for a moment.
    fn start_waiting(&mut self, transport: &mut Transport<'_>) {
        let (peer, unfinished) = (self.peer.clone(), self.unfinished.clone());
        self.timer =
            Some(transport.context().call_later(UNFINISHED_WAIT, move |_| print_unfinished(&peer, &unfinished)));
    }

    fn stop_waiting(&mut self, transport: &mut Transport<'_>) {
        if let Some(timer) = self.timer.take() {
            transport.context().cancel(timer);
        }
    }
}

fn print_line(peer: &str, line: &[u8]) {
    say(format_args!("{peer}: {}", escape(line)));
}

fn print_unfinished(peer: &str, unfinished: &RefCell<Vec<u8>>) {
    let line = unfinished.take();
    if !line.is_empty() {
        print_line(peer, &line);
    }
}

impl Protocol for Session {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        say(format_args!("Got connection from {}", self.peer));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.stop_waiting(transport);
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            let mut unfinished = self.unfinished.borrow_mut();
            unfinished.extend_from_slice(piece);
            if let Some(line) = unfinished.strip_suffix(b"\n") {
                print_line(&self.peer, line.strip_suffix(b"\r").unwrap_or(line));
                unfinished.clear();
            } else if unfinished.len() >= LINE_BYTES_MAX {
                print_line(&self.peer, &unfinished);
                unfinished.clear();
            }
        }
        if !self.unfinished.borrow().is_empty() {
            self.start_waiting(transport);
        }
        data.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        self.stop_waiting(transport);
        print_unfinished(&self.peer, &self.unfinished);
        say(format_args!("{} disconnected", self.peer));
    }
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = event_loop.context().listen(address, |_, peer| Some(Box::new(Session::new(peer.to_string()))));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
