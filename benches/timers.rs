//! What a timer costs through the public interface, with 100 to a million of them live: `cargo bench --bench timers`;
//! or with the given numbers: `cargo bench --bench timers -- 10 1000`.
//!
//! Each has a closure that holds a number; its allocation is included, and so is reading the clock when a timer is set.
//! Deadlines are random within the second hour from now; those that fire were set for now, ahead of all others. It
//! prints a median of rounds; compare only figures from the same machine and hour. With `-- --short` it runs only for a
//! moment, to check that it works.

use std::hint::black_box;
use std::time::{Duration, Instant};

use switchboard::{EventLoop, TimerId};

/// Random numbers, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn delay(&mut self) -> Duration {
        // None fires while this runs.
        Duration::from_secs(3600) + Duration::from_nanos(self.below(3_600_000_000_000))
    }
}

fn set(event_loop: &mut EventLoop, delays: &[Duration], timers: &mut Vec<TimerId>) -> Duration {
    let mut context = event_loop.context();
    let start = Instant::now();
    for (n, delay) in delays.iter().enumerate() {
        timers.push(context.call_later(*delay, move |_| {
            black_box(n);
        }));
    }
    start.elapsed()
}

fn rearm(event_loop: &mut EventLoop, delays: &[Duration], timers: &[TimerId]) -> Duration {
    let mut context = event_loop.context();
    let start = Instant::now();
    for (timer, delay) in timers.iter().zip(delays) {
        assert!(context.reset_timer(*timer, *delay));
    }
    start.elapsed()
}

fn cancel(event_loop: &mut EventLoop, timers: &[TimerId]) -> Duration {
    let mut context = event_loop.context();
    let start = Instant::now();
    for timer in timers {
        assert!(context.cancel_timer(*timer));
    }
    let time = start.elapsed();
    // Their closures are dropped.
    event_loop.turn(Some(Duration::ZERO)).expect("the poller works");
    time
}

fn fire(event_loop: &mut EventLoop) -> Duration {
    let start = Instant::now();
    event_loop.turn(Some(Duration::ZERO)).expect("the poller works");
    start.elapsed()
}

/// Moves some to the end, in random order.
fn choose(numbers: &mut Numbers, timers: &mut [TimerId], count: usize) {
    for n in timers.len() - count..timers.len() {
        timers.swap(n, numbers.below(n as u64 + 1) as usize);
    }
}

/// How many operations are timed together.
fn batch(live: usize) -> usize {
    (live / 10).clamp(50, 10_000).min(live)
}

/// Returns the median times to set, reset, cancel and fire one.
fn measure(live: usize, rounds: usize) -> [u128; 4] {
    let batch = batch(live);
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let mut numbers = Numbers(1);
    let mut timers = Vec::with_capacity(live + batch);
    let delays: Vec<_> = (0..live).map(|_| numbers.delay()).collect();
    set(&mut event_loop, &delays, &mut timers);
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..rounds {
        choose(&mut numbers, &mut timers, batch);
        let delays: Vec<_> = (0..batch).map(|_| numbers.delay()).collect();
        times[1].push(rearm(&mut event_loop, &delays, &timers[live - batch..]));
        choose(&mut numbers, &mut timers, batch);
        times[2].push(cancel(&mut event_loop, &timers[live - batch..]));
        timers.truncate(live - batch);
        let delays: Vec<_> = (0..batch).map(|_| numbers.delay()).collect();
        times[0].push(set(&mut event_loop, &delays, &mut timers));
        set(&mut event_loop, &vec![Duration::ZERO; batch], &mut timers);
        timers.truncate(live);
        times[3].push(fire(&mut event_loop));
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[rounds / 2].as_nanos() / batch as u128
    })
}

/// The numbers among the arguments, or these. Cargo adds a flag of its own.
fn sizes(otherwise: &[usize]) -> Vec<usize> {
    let named: Vec<_> =
        std::env::args().filter_map(|argument| argument.parse().ok()).filter(|&live| live > 0).collect();
    if named.is_empty() { otherwise.to_vec() } else { named }
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    for live in sizes(if short { &[100, 2_000] } else { &[100, 100_000, 1_000_000] }) {
        let rounds = if short { 3 } else { (500_000 / batch(live)).min(1_000) + 1 };
        let [set, rearm, cancel, fire] = measure(live, rounds);
        println!("{live} timers live: set {set} ns, re-arm {rearm} ns, cancel {cancel} ns, fire {fire} ns");
    }
}
