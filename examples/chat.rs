//! A chat room for telnet: the first line is your name, and every later line goes to everybody else. `/who` lists the
//! members, `/quit` leaves.
//!
//! Run `cargo run --example chat`, then `telnet 127.0.0.1 1234` from several windows. It asks for a name, then shows
//! what the others say, and who joins and leaves.
//!
//! A peer that gives no name within a minute, or `--timeout SECONDS`, is disconnected: silent peers must not keep
//! others out. A member is disconnected after an hour in which neither it nor anybody else says anything.
//! `--per-peer N` limits the connections of one address.
//!
//! A member that does not read is cut off once more than 1 MiB is queued for it, and nobody else has to wait for it.
//! Messages are escaped, so that no member can move another's cursor, forge a line or send telnet commands to its
//! client.

#[path = "support/bounds.rs"]
pub(crate) mod bounds;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bounds::Bounds;
use switchboard::framing::{LineHandler, LineReceiver, Telnet, TelnetCommand, send_line};
use switchboard::{CloseReason, ConnectionId, Context, EventLoop, Limits, ListenerId, Timeout, Transport, escape};

/// A member with more than this queued is cut off.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// The longest line accepted.
const LINE_BYTES_MAX: usize = 1024;

/// How long a peer may take to give a name.
pub(crate) const NAME_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a member may neither send nor receive anything. This also detects peers that have vanished.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(3600);

/// The members, by name.
type Room = Rc<RefCell<BTreeMap<String, ConnectionId>>>;

/// A connected peer, which is a member once it has a name.
struct Member {
    name: Option<String>,
    room: Room,
}

impl Member {
    fn enter(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        if line.trim_ascii() == b"/quit" {
            return transport.close();
        }
        let name = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        if !(1..=20).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return send_line(transport, b"A name has 1 to 20 letters and digits. Your name?");
        }
        if self.room.borrow().contains_key(&name) {
            return send_line(transport, b"That name is taken. Your name?");
        }
        send_line(transport, format!("Welcome, {name}. /who lists who is here, /quit leaves.").as_bytes());
        self.room.borrow_mut().insert(name.clone(), transport.id());
        self.tell_others(transport, format!("* {name} has joined"));
        self.name = Some(name);
        transport.set_timeout(Timeout::Handshake, None);
        transport.set_timeout(Timeout::Idle, Some(MEMBER_TIMEOUT));
    }

    /// Sends a line to everybody else. The lines are written out before the loop sleeps, many of them in one piece.
    fn tell_others(&self, transport: &mut Transport<'_>, line: String) {
        let me = transport.id();
        let room = self.room.borrow();
        transport.context().broadcast(room.values().filter(|id| **id != me), (line + "\r\n").as_bytes());
    }

    fn tell_who_is_here(&self, transport: &mut Transport<'_>) {
        let names: Vec<String> = self.room.borrow().keys().cloned().collect();
        send_line(transport, format!("* here now: {}", names.join(", ")).as_bytes());
    }
}

impl LineHandler for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        send_line(transport, b"Your name?");
    }

    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        let Some(name) = &self.name else { return self.enter(transport, line) };
        match line.trim_ascii() {
            b"" => {}
            b"/quit" => transport.close(),
            b"/who" => self.tell_who_is_here(transport),
            [b'/', ..] => send_line(transport, b"* there are /who and /quit"),
            line => self.tell_others(transport, format!("{name}: {}", escape(line))),
        }
    }

    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        send_line(transport, b"* that was too long");
    }

    fn telnet_command(&mut self, transport: &mut Transport<'_>, command: TelnetCommand) {
        match command {
            TelnetCommand::AreYouThere => send_line(transport, b"* yes"),
            TelnetCommand::Interrupt => transport.close(),
            _ => {}
        }
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        match timeout {
            Timeout::Handshake => send_line(transport, b"* you have given no name"),
            _ => send_line(transport, b"* nothing was said for an hour"),
        }
        transport.close();
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        if let Some(name) = self.name.take() {
            self.room.borrow_mut().remove(&name);
            self.tell_others(transport, format!("* {name} has left"));
        }
    }
}

/// The limits of the loop's connections.
pub(crate) fn limits(bounds: &Bounds) -> Limits {
    // Keep reading from a member that does not read itself: otherwise it could not even leave.
    Limits::default()
        .with_queue_bytes_max(QUEUE_BYTES_MAX)
        .with_pause_reading_over_high(false)
        .with_handshake_timeout(Some(bounds.timeout))
        .with_connections_per_peer_max(bounds.per_peer_max)
}

/// Opens a room at an address.
pub(crate) fn listen(context: &mut Context<'_>, address: SocketAddr) -> io::Result<ListenerId> {
    let room = Room::default();
    context.listen(address, move |_, _| {
        let member = LineReceiver::new(Member { name: None, room: room.clone() }).line_bytes_max(LINE_BYTES_MAX);
        Some(Telnet::new(member))
    })
}

fn main() -> Result<(), support::Failure> {
    let mut arguments = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, NAME_TIMEOUT)?;
    let address = support::listening_address_in(arguments, &bounds::FLAGS)?;
    let mut event_loop = EventLoop::with_limits(limits(&bounds))?;
    let listener = listen(&mut event_loop.context(), address).map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
#[path = "chat/tests.rs"]
mod tests;
