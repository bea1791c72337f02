//! Rules X1 and X4 on real sockets: slow peers get what was written for them, whether the loop still holds it or the kernel.
//! On Linux, whose kernel holds megabytes.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{EventLoop, Limits, Protocol, Transport};

use super::support::{connect, has_proc, join, listen, turn_until};

/// Writes this much as soon as it is made, and leaves the rest to the loop.
struct Writes(usize);

impl Protocol for Writes {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write_owned(vec![b'x'; self.0]);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn x4_an_idle_timeout_does_not_destroy_what_the_kernel_still_holds_for_a_slow_peer() {
    const BYTES: usize = 1_000_000;
    let limits = Limits::default().with_idle_timeout(Some(Duration::from_millis(100)));
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let address = listen(&mut event_loop, || Writes(BYTES));
    let mut client = connect(address);
    turn_until(&mut event_loop, |context| context.counters().connections_made == 1);
    let (first, rest) = client.read(&mut [0; 1000]).map(|count| (count, BYTES - count)).unwrap();
    assert!(first > 0);
    turn_until(&mut event_loop, |context| context.counters().losses.timeout == 1);
    // Its connection is over, and it reads on.
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), rest);
}

/// What the kernel knows of a socket by its own and its peer's port: its state, in two digits.
fn state_of(port: u16, peer: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let find = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = local.ends_with(&format!(":{port:04X}")) && remote.ends_with(&format!(":{peer:04X}"));
        fits.then(|| state.to_owned())
    };
    table.lines().find_map(find)
}

#[test]
fn x4_the_kernel_does_not_keep_for_ever_what_a_peer_never_reads() {
    if !has_proc() {
        return;
    }
    // What ends it: a close by us, or a timeout.
    for closes in [false, true] {
        let limits = Limits::default()
            .with_idle_timeout((!closes).then_some(Duration::from_millis(50)))
            .with_orphan_timeout(Some(Duration::from_millis(500)));
        let mut event_loop = EventLoop::with_limits(limits).unwrap();
        let address = listen(&mut event_loop, || Writes(1_000_000));
        let client = connect(address);
        let port = client.local_addr().unwrap().port();
        turn_until(&mut event_loop, |context| context.counters().connections_made == 1);
        if closes {
            for id in event_loop.context().connection_ids() {
                event_loop.context().connection(id).unwrap().close();
            }
        }
        turn_until(&mut event_loop, |context| context.counters().connections_lost == 1);
        let state = state_of(address.port(), port);
        assert_eq!(state.as_deref(), Some("04"), "FIN_WAIT1: it waits for the peer to take what is before the end");
        turn_until(&mut event_loop, |_| state_of(address.port(), port).is_none());
        drop(client);
    }
}

/// Reads some bytes a second, by a schedule that makes up for delays, until that many have arrived; returns how many.
fn read_slowly(client: &mut TcpStream, bytes_per_second: f64, least: usize) -> usize {
    let (start, mut taken, mut buffer) = (Instant::now(), 0, vec![0; 64 * 1024]);
    while taken < least {
        let due = (start.elapsed().as_secs_f64() * bytes_per_second) as usize;
        match due.saturating_sub(taken).min(buffer.len()) {
            // Its pace is the subject here.
            0 => thread::sleep(Duration::from_millis(20)),
            most => taken += client.read(&mut buffer[..most]).unwrap(),
        }
    }
    taken
}

#[test]
fn x1_a_peer_that_reads_slowly_gets_all_of_what_was_written_before_the_close() {
    // More than the kernels hold, so that the loop must wait for the peer, which takes 64 KiB in less than half of the
    // deadline; no writable event comes before 1.4 MB are taken.
    const KERNELS_HOLD: usize = 4_300_000;
    struct WritesAndCloses(usize);
    impl Protocol for WritesAndCloses {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write_owned(vec![b'x'; self.0]);
            transport.close();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let bytes = KERNELS_HOLD + 200_000;
    let mut event_loop =
        EventLoop::with_limits(Limits::default().with_close_timeout(Duration::from_millis(1500))).unwrap();
    let address = listen(&mut event_loop, move || WritesAndCloses(bytes));
    let client = thread::spawn(move || {
        let mut client = connect(address);
        let slowly = read_slowly(&mut client, 100_000.0, 450_000);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).map(|_| slowly + rest.len())
    });
    turn_until(&mut event_loop, |_| client.is_finished());
    assert_eq!(join(client).unwrap(), bytes);
}
