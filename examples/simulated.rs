//! A client that stays connected through an hour of a bad network, simulated in an instant and always the same.
//!
//! Run `cargo run --example simulated --features testing`, and again with another seed, which determines everything
//! random: `cargo run --example simulated --features testing 2`. A server sends a number each second, counting up. A
//! client reads them, and reconnects whenever its connection ends or has been silent for 10 s. Three times in the hour
//! the network between them is cut, for a minute or so, and once the server's machine crashes.
//!
//! It prints each event with its virtual time, and at the end how many lines were received. Only the network and the
//! clock are simulated: the protocols, the timers and `Reconnect` are the same code as on a real loop.

#[allow(dead_code)] // Some of it is for real servers.
mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use support::{Failure, say};
use switchboard::framing::{LineHandler, LineReceiver, send_line};
use switchboard::testing::{Crash, Faults, HostId, Network};
use switchboard::{Backoff, CloseReason, Connect, ConnectError, Protocol, Reconnect, Timeout, Transport, escape};

const HOUR: Duration = Duration::from_secs(3600);
const PORT: u16 = 7;
/// A connection does not end by itself when the network is cut: silence is the only sign.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Sends a number each second, counting up.
struct Server {
    next: u64,
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_timer(0, Duration::from_secs(1));
    }

    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        send_line(transport, self.next.to_string().as_bytes());
        self.next += 1;
        transport.set_timer(key, Duration::from_secs(1));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// Counts of what happened to the client.
#[derive(Default)]
struct Heard {
    lines: Cell<u64>,
    connections: Cell<u64>,
    failures: Cell<u64>,
}

struct Client {
    began: Instant,
    heard: Rc<Heard>,
}

impl Client {
    fn tell(&self, transport: &mut Transport<'_>, what: std::fmt::Arguments<'_>) {
        let now = transport.context().now() - self.began;
        say(format_args!("{:>8.3} s: the client {what}", now.as_secs_f64()));
    }
}

fn count(counter: &Cell<u64>) -> u64 {
    counter.set(counter.get() + 1);
    counter.get()
}

impl LineHandler for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_timeout(Timeout::ReadIdle, Some(SILENCE_MAX));
        let number = count(&self.heard.connections);
        self.tell(transport, format_args!("is connected, connection {number}"));
    }

    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        if count(&self.heard.lines) % 600 == 0 {
            self.tell(
                transport,
                format_args!("has heard {} lines; this one is {}", self.heard.lines.get(), escape(line)),
            );
        }
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, _: ConnectError) {
        count(&self.heard.failures);
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        self.tell(transport, format_args!("has lost its connection: {reason}"));
    }
}

fn start_server(network: &mut Network, host: HostId) {
    let address = network.address(host, PORT);
    let listened = network.context(host).listen(address, |_, _| Some(Server { next: 1 }));
    listened.expect("nobody else listens there");
}

fn start_client(network: &mut Network, host: HostId, server: HostId, seed: u64) -> Rc<Heard> {
    let (heard, to) = (Rc::new(Heard::default()), network.address(server, PORT));
    let mut context = network.context(host);
    let (began, told) = (context.now(), heard.clone());
    let factory =
        move |_: &mut switchboard::Context<'_>| Some(LineReceiver::new(Client { began, heard: told.clone() }));
    let backoff = Backoff::new(Duration::from_secs(1)).max_delay(Duration::from_secs(20)).jitter(0.3).seed(seed);
    Reconnect::new(Connect::to(to).timeout(Duration::from_secs(5)), backoff, factory).start(&mut context);
    heard
}

/// Runs the network until `time`, then prints `what`.
fn at(network: &mut Network, time: Duration, what: &str) {
    network.run_for(time.saturating_sub(network.now()));
    say(format_args!("{:>8.3} s: {what}", network.now().as_secs_f64()));
}

fn main() -> Result<(), Failure> {
    let seed = match std::env::args().nth(1).map(|seed| seed.parse()) {
        None => 1,
        Some(Ok(seed)) => seed,
        Some(Err(_)) => return Err(Failure::new("usage: [SEED]".to_owned())),
    };
    let mut network = Network::new(seed, Faults::none());
    let (server, client) = (network.host(), network.host());
    // Between 5 and 200 ms each way, chosen by the seed.
    network.slow(server, client, Duration::from_millis(5), Duration::from_millis(200));
    start_server(&mut network, server);
    let heard = start_client(&mut network, client, server, seed);
    for quarter in 1..=3 {
        let begin = HOUR / 4 * quarter;
        at(&mut network, begin, "the network is cut");
        network.cut(server, client);
        at(&mut network, begin + Duration::from_secs(50 + 10 * u64::from(quarter)), "the network is whole again");
        network.heal(server, client);
    }
    at(&mut network, HOUR - Duration::from_secs(300), "the server's machine crashes");
    network.crash(server, Crash::Silent);
    at(&mut network, HOUR - Duration::from_secs(240), "the server starts again");
    network.restart(server);
    start_server(&mut network, server);
    at(&mut network, HOUR, "the hour is over");
    let steps = network.trace().lines().count();
    // Ends the client's loop, which tells the client that its connection is lost.
    drop(network);
    let Heard { lines, connections, failures } = &*heard;
    let (lines, connections, failures) = (lines.get(), connections.get(), failures.get());
    say(format_args!("{lines} lines by {connections} connections, and {failures} connects that failed"));
    say(format_args!("seed {seed}: {steps} steps; the same seed takes the same ones"));
    Ok(())
}
