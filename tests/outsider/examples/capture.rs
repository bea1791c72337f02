//! Captures the packets of a simulated network in a file for tcpdump or Wireshark:
//!
//! ```text
//! cargo run --package outsider --example capture -- FILE [BYTES]
//! tcpdump -r FILE
//! ```
//!
//! A server echoes what a client sends, on a network that loses a fifth of all packets, over IPv4 and over IPv6. A datagram
//! is sent, a connect is refused, and a connection is reset.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use switchboard::testing::{Faults, Network};
use switchboard::{Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// Sends this to the server, and reads as many bytes.
fn echo(network: &mut Network, to: SocketAddr, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut peer = network.peer(to);
    if network.exchange(&mut peer, bytes, |received| received.len() >= bytes.len()) != bytes {
        return Err("wrong echo".into());
    }
    peer.end();
    network.run_until_rest();
    println!("port {}: {} bytes", peer.local_addr().port(), bytes.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("a FILE is required")?;
    let length: usize = arguments.next().map_or(Ok(100_000), |bytes| bytes.parse())?;
    let faults = Faults::none().with_latency_min(Duration::from_millis(2)).with_latency_max(Duration::from_millis(5));
    let mut network = Network::new(1, faults);
    network.begin_capture();
    let server = network.host();
    let outside = network.outside();
    let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    for to in [network.address(server, 7), network.address_v6(server, 7)] {
        network.context(server).listen(to, |_, _| Some(Echo))?;
        network.lose(outside, server, 200);
        echo(&mut network, to, &bytes)?;
        network.lose(outside, server, 0);
    }
    network.datagram_peer(1)?.send(b"to nobody", Some(network.address(server, 9)))?;
    let mut refused = network.peer(network.address(server, 8));
    let leaves = network.peer(network.address(server, 7));
    network.run_until_rest();
    if refused.error().is_none() {
        return Err("nobody listens there".into());
    }
    leaves.reset();
    network.run_until_rest();
    std::fs::write(&file, network.captured())?;
    Ok(())
}
