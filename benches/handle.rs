//! What a command posted to a loop from other threads costs, from 1 and from 8 threads: `cargo bench --bench handle`.
//!
//! The loop sleeps and is woken, as in a program; the time is from the first post to the last command run, divided by
//! their number, so it includes posting, waking and running. If the queue is full, a thread yields and tries again; the
//! number of retries is printed, too. Medians of rounds; compare only figures from the same machine and hour. With `--
//! --short` it runs only for a moment, to check that it works.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{Context, EventLoop, Handle, PostError};

/// Posts until it succeeds; returns how often the command was given back.
fn post<F: FnOnce(&mut Context<'_>) + Send + 'static>(handle: &Handle, mut call: F) -> u64 {
    let mut given_back = 0;
    loop {
        match handle.post(call) {
            Ok(()) => return given_back,
            Err(PostError::Gone(_)) => panic!("the loop lives as long as this"),
            Err(error) => call = error.into_inner(),
        }
        given_back += 1;
        thread::yield_now();
    }
}

/// The time from the first post to the last command run, and how many were given back meanwhile.
fn round(event_loop: &mut EventLoop, threads: u64, commands: u64) -> (Duration, u64) {
    static RAN: AtomicU64 = AtomicU64::new(0);
    RAN.store(0, Ordering::Relaxed);
    let handle = event_loop.context().handle();
    let last = threads * commands;
    let begin = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        let sender = || {
            begin.wait();
            let send = |_| {
                post(&handle, move |context| {
                    if RAN.fetch_add(1, Ordering::Relaxed) + 1 == last {
                        context.stop();
                    }
                })
            };
            (0..commands).map(send).sum::<u64>()
        };
        let senders: Vec<_> = (0..threads).map(|_| scope.spawn(sender)).collect();
        begin.wait();
        let start = Instant::now();
        event_loop.run().expect("the poller works");
        let time = start.elapsed();
        (time, senders.into_iter().map(|sender| sender.join().expect("it does not panic")).sum())
    })
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    let (commands, rounds) = if short { (8_000, 3) } else { (800_000, 11) };
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    for threads in [1, 8] {
        let mut results: Vec<_> = (0..rounds).map(|_| round(&mut event_loop, threads, commands / threads)).collect();
        results.sort_unstable();
        let (time, given_back) = results[results.len() / 2];
        println!(
            "a closure posted to the loop and run, {threads} threads: {} ns a command, {:.3} of them given back first",
            time.as_nanos() / u128::from(commands),
            given_back as f64 / commands as f64,
        );
    }
}
