//! A server that limits how fast clients may send, each of them and all together.
//!
//! Run `cargo run --example uploads -- --each=1000000 --all=1500000`, and `nc -N 127.0.0.1 1234 </dev/zero` in two
//! windows. Neither sends more than 1,000,000 bytes a second, and both together no more than 1,500,000. Press Ctrl-C in
//! one of them: the server prints how much that client has sent, and how well the loop keeps up.
//!
//! TCP's flow control slows the clients down, so no data is lost and none piles up in the server. The data is delivered
//! in blocks of 16 KiB, as suits a program that writes to disk. Here it only computes a checksum, and sends it to the
//! client.

#[path = "support/bounds.rs"]
#[allow(dead_code)] // Some of it is for other bounds.
mod bounds;
mod support;

use std::io;
use std::time::Duration;

use support::{Failure, say};
use switchboard::{
    CloseReason, Context, EventLoop, Limits, LoopLimits, Protocol, Rate, RateGroupId, Timeout, Transport,
};

/// Fewer bytes than this are delivered only at the end.
const BLOCK_BYTES: usize = 16 << 10;
/// How much a client may send at once before its rate applies.
const BURST_BYTES: usize = 64 << 10;
/// How long a client may be idle before it is disconnected. Time in which the rate limit holds it back does not count.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

struct Upload {
    each: Option<Rate>,
    all: Option<RateGroupId>,
    blocks: u64,
    /// The two sums of a Fletcher-32 checksum, which depends on the bytes and on their order.
    sums: (u64, u64),
}

impl Upload {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sums.0 = (self.sums.0 + u64::from(*byte)) % 65535;
            self.sums.1 = (self.sums.1 + self.sums.0) % 65535;
        }
    }
}

impl Protocol for Upload {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_read_rate(self.each);
        transport.set_rate_group(self.all);
        transport.set_input_low_bytes(BLOCK_BYTES);
        transport.set_timeout(Timeout::Idle, Some(IDLE_TIMEOUT));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        let whole = data.len() / BLOCK_BYTES;
        self.blocks += whole as u64;
        self.add(&data[..whole * BLOCK_BYTES]);
        whole * BLOCK_BYTES
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.add(rest);
        let sum = (self.sums.1 << 16) | self.sums.0;
        transport.write(format!("{} bytes, sum {sum:08x}\n", transport.stats().bytes_received).as_bytes());
        transport.close();
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        let (stats, blocks) = (transport.stats(), self.blocks);
        let peer = transport.peer_addr().map(ToString::to_string).unwrap_or_default();
        let took_s = stats.age.as_secs_f64();
        say(format_args!(
            "{peer} sent {} bytes, {blocks} whole blocks, in {took_s:.3} s: {reason}",
            stats.bytes_received
        ));
        tell_health(&transport.context());
    }
}

fn tell_health(context: &Context<'_>) {
    let (health, counters) = (context.health(), context.counters());
    let (longest, name) = (health.longest_callback, health.longest_callback_name);
    say(format_args!(
        "{} bytes in all; the longest callback took {longest:.1?} ({name}), the longest turn {:.1?}, {} were slow",
        counters.bytes_received, health.lag_max, health.slow_callbacks,
    ));
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).collect();
    let each = bounds::take_number(&mut arguments, "--each")?;
    let all = bounds::take_number(&mut arguments, "--all")?;
    let address = support::listening_address_in(arguments, &["--each=BYTES", "--all=BYTES"])?;
    // Timing callbacks costs two clock reads for each, so it is off by default.
    let mut event_loop = EventLoop::with_limits(LoopLimits::from(Limits::default()).with_times_callbacks(true))?;
    let mut context = event_loop.context();
    let rate = |bytes_per_second| Rate::new(bytes_per_second).burst(BURST_BYTES);
    let (each, all) = (each.map(rate), all.map(|all| context.add_rate_group(rate(all))));
    let listener = context.listen(address, move |_, _| Some(Upload { each, all, blocks: 0, sums: (0, 0) }));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run().map_err(|error: io::Error| error.into())
}
