//! The servers that `benches/prices.py` attacks: one loop with an echo, lines, telnet, PROXY headers and datagrams, all
//! with default limits, so that what a hostile peer costs is what the crate itself does about it.
//!
//! It prints the address of each, then reads a command of one byte from its standard input, and answers each with a
//! line: `t` does a turn, `c` does one in [`counted`], and `n` calls [`next`]. Callgrind is told to count within the
//! first of these functions, and to write what it has counted at the end of the second.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use switchboard::framing::{LineHandler, LineReceiver, Telnet, send_line};
use switchboard::proxy::AcceptProxy;
use switchboard::{Address, Context, DatagramProtocol, DatagramTransport, EventLoop, ListenerId, Protocol, Transport};

/// How long a turn waits: what a peer has sent is there already, unless the kernel delivers it late.
const WAIT: Duration = Duration::from_millis(20);

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        transport.send_to(data, from);
    }
}

/// Sends back each line. The line `quit` ends the connection.
struct Lines;

impl LineHandler for Lines {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        match line {
            b"quit" => transport.close(),
            line => send_line(transport, line),
        }
    }
}

/// A turn whose instructions are counted.
#[inline(never)]
fn counted(event_loop: &mut EventLoop) -> io::Result<()> {
    turn(event_loop)
}

/// What follows is another kind of peer.
#[inline(never)]
fn next() {
    std::hint::black_box(());
}

fn turn(event_loop: &mut EventLoop) -> io::Result<()> {
    event_loop.turn(Some(WAIT)).map(|_| ())
}

fn listeners(context: &mut Context<'_>) -> io::Result<[(&'static str, ListenerId); 4]> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let proxied = AcceptProxy::new().factory(|_, _| Some(Echo));
    Ok([
        ("echo", context.listen(any_port, |_, _| Some(Echo))?),
        ("lines", context.listen(any_port, |_, _| Some(LineReceiver::new(Lines)))?),
        ("telnet", context.listen(any_port, |_, _| Some(Telnet::new(LineReceiver::new(Lines))))?),
        ("proxy", context.listen(any_port, proxied)?),
    ])
}

fn main() -> io::Result<()> {
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    for (name, listener) in listeners(&mut context)? {
        let listener = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
        println!("{name} {}", listener.local_addr()?);
    }
    let socket = context.bind_datagram(SocketAddr::from(([127, 0, 0, 1], 0)), Echo)?;
    let socket = context.datagram(socket).ok_or(io::ErrorKind::NotConnected)?;
    println!("datagrams {}", socket.local_addr()?);
    let (mut commands, mut command) = (File::open("/dev/stdin")?, [0]);
    while commands.read(&mut command)? > 0 {
        match command[0] {
            b'c' => counted(&mut event_loop)?,
            b'n' => next(),
            _ => turn(&mut event_loop)?,
        }
        println!();
    }
    Ok(())
}
