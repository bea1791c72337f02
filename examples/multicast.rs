//! Programs in one network that find each other by multicast, without a server and without knowing any address.
//!
//! Run `cargo run --example multicast -- --name=ada`, and the same with `--name=bob` in another window or on another
//! machine. Each says hello to the group, and prints who is there. Press Ctrl-C in one of them, and it says goodbye.
//!
//! The group is 239.255.77.1:1234, which is in a range that no router forwards, unless another one is given.
//! `--interface=ADDRESS` selects the network, by an address that this machine has in it: with 127.0.0.1 the network is
//! this machine alone.

#[allow(dead_code)] // Contains more than this example uses.
mod support;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{Failure, on_signals, say};
use switchboard::{Address, CloseReason, DatagramError, DatagramProtocol, DatagramTransport, EventLoop, escape};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 1), 1234);

/// A datagram may be lost without notice, so each program announces itself again and again.
const PERIOD: Duration = Duration::from_secs(2);

/// Further names are not remembered, since anybody in the network can make up names.
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
        // The system also delivers what is sent from here to the group, since other programs on this machine are in it.
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
        // Only a hello is answered, and an answer is not: otherwise they would go on for ever.
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

/// Opens a socket with the options that must be set before it is bound, so that several programs on a machine can share
/// the port.
fn open(options: &Options) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_multicast_if_v4(&options.interface)?;
    // A socket bound to the group receives nothing else that is sent to this port. Windows does not support this.
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
        false => Err(Failure::new(format!("{} is not a multicast address", options.group))),
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
            // Queued datagrams are sent first.
            transport.close();
        }
        _ => context.stop(),
    })?;
    event_loop.run()?;
    Ok(())
}
