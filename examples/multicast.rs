//! Programs of one network that find each other by multicast: without a server, and without an address of anybody.
//!
//! Run `cargo run --example multicast -- --name=ada`, and the same with `--name=bob` in another window or on another machine.
//! Each says hello to the group, and prints who is there. Ctrl-C in one of them: it says goodbye.
//!
//! The group is 239.255.77.1:1234, of those that no router passes on, or the one that is given. `--interface=ADDRESS` says which
//! network, by an address that this machine has in it: with 127.0.0.1 it is this machine alone.

#[allow(dead_code)] // It also has what servers of streams need.
mod support;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{Failure, on_signals, say};
use switchboard::{Address, CloseReason, DatagramError, DatagramProtocol, DatagramTransport, EventLoop, escape};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 1), 1234);

/// A datagram may be lost, and nobody is told of it. So each says now and then that it is there.
const PERIOD: Duration = Duration::from_secs(2);

/// More are not remembered: anybody in the network can make names up.
const OTHERS_MAX: usize = 1000;

#[derive(Clone)]
struct Options {
    name: String,
    group: SocketAddrV4,
    interface: Ipv4Addr,
}

struct Member {
    options: Options,
    others: BTreeSet<Vec<u8>>,
}

impl Options {
    fn tell(&self, transport: &mut DatagramTransport<'_>, what: &str) {
        let group = Address::from(SocketAddr::V4(self.group));
        transport.send_to(format!("{what} {}", self.name).as_bytes(), &group);
    }
}

impl DatagramProtocol for Member {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        if let Err(error) = transport.join_multicast_v4(*self.options.group.ip(), self.options.interface) {
            say(format_args!("cannot join the group: {error}"));
            return transport.close();
        }
        say(format_args!("listening on {}", self.options.group));
        self.options.tell(transport, "hello");
        let (options, id) = (self.options.clone(), transport.id());
        transport.context().call_every(PERIOD, move |context, _| {
            context.datagram(id).iter_mut().for_each(|transport| options.tell(transport, "here"));
        });
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        let Some(space) = data.iter().position(|byte| *byte == b' ') else { return };
        let (what, name) = (&data[..space], &data[space + 1..]);
        // The system sends to the group what is sent to it from here, too: other programs here are in it.
        if name == self.options.name.as_bytes() {
            return;
        }
        match what {
            b"hello" | b"here" if self.others.len() < OTHERS_MAX && self.others.insert(name.to_vec()) => {
                say(format_args!("{} is there, at {from}", escape(name)));
            }
            b"bye" if self.others.remove(name) => say(format_args!("{} has left", escape(name))),
            _ => {}
        }
        // Only a hello has an answer, and an answer none: else they would go on for ever.
        if what == b"hello" {
            self.options.tell(transport, "here");
        }
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        say(format_args!("{error}"));
    }

    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, _: CloseReason) {
        transport.context().stop();
    }
}

/// With options that must be set before it is bound: several programs of a machine have the same port.
fn open(options: &Options) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_multicast_if_v4(&options.interface)?;
    // Bound to the group it hears nothing else that is sent to this port; Windows has no such thing.
    let ip = if cfg!(windows) { Ipv4Addr::UNSPECIFIED } else { *options.group.ip() };
    socket.bind(&SocketAddr::from((ip, options.group.port())).into())?;
    Ok(socket.into())
}

fn options() -> Result<Options, Failure> {
    let name = format!("program {}", std::process::id());
    let mut options = Options { name, group: GROUP, interface: Ipv4Addr::UNSPECIFIED };
    for argument in std::env::args().skip(1) {
        let wrong = || Failure::new(format!("{argument:?} is not understood: see the first lines of this example"));
        match argument.split_once('=') {
            Some(("--name", name)) => options.name = name.to_owned(),
            Some(("--interface", address)) => options.interface = address.parse().map_err(|_| wrong())?,
            _ => options.group = argument.parse().map_err(|_| wrong())?,
        }
    }
    match options.group.ip().is_multicast() {
        true => Ok(options),
        false => Err(Failure::new(format!("{} is the address of no group", options.group))),
    }
}

fn main() -> Result<(), Failure> {
    support::show_log();
    let options = options()?;
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let member = Member { options: options.clone(), others: BTreeSet::new() };
    let id = context.attach_datagram(open(&options)?, member)?;
    on_signals(&mut context, move |context, _| match context.datagram(id) {
        Some(mut transport) if !transport.is_closing() => {
            options.tell(&mut transport, "bye");
            let _ = transport.leave_multicast_v4(*options.group.ip(), options.interface);
            // What is queued goes out before.
            transport.close();
        }
        _ => context.stop(),
    })?;
    event_loop.run()?;
    Ok(())
}
