// A loop that `benches/prices.py` drives: it reads a command of one byte from the standard input, and answers each with a
// line: `t` does a turn, `c` does one in [`counted`], and `n` calls [`next`]. Callgrind is told to count within the first
// of these functions, and to write what it has counted at the end of the second.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use switchboard::{EventLoop, ListenerId};

/// How long a turn waits: what a peer has sent is there already, unless the kernel delivers it late.
const WAIT: Duration = Duration::from_millis(10);

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Prints the name and the address of each listener.
pub(crate) fn announce(event_loop: &mut EventLoop, listeners: &[(&str, ListenerId)]) -> io::Result<()> {
    for (name, listener) in listeners {
        let context = &mut event_loop.context();
        let listener = context.listener(*listener).ok_or(io::ErrorKind::NotConnected)?;
        println!("{name} {}", listener.local_addr()?);
    }
    Ok(())
}

/// Prints an empty line, behind which nothing else is listed, and does what it is told until the end of the input.
pub(crate) fn drive(event_loop: &mut EventLoop) -> io::Result<()> {
    println!();
    let (mut commands, mut command) = (File::open("/dev/stdin")?, [0]);
    while commands.read(&mut command)? > 0 {
        match command[0] {
            b'c' => counted(event_loop)?,
            b'n' => next(),
            _ => turn(event_loop)?,
        }
        println!();
    }
    Ok(())
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
