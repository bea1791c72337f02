//! Compares data structures for timers: `cargo bench --bench timer_structures`.
//!
//! With a given number of live timers, some of them are set, cancelled, reset, and fired in turn; it prints the median
//! over rounds, in ns for each, and bytes for each live timer. "first cancelled" repeatedly cancels the earliest, and
//! asks for the next after each. Deadlines are random within an hour, or, like those of idle timeouts, a minute after a
//! now that moves. Compare only figures from the same machine and hour. With `-- --short` it runs only for a moment, to
//! check that all of them agree on the order.

use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "timer_structures/lazy_heap.rs"]
mod lazy_heap;
#[path = "timer_structures/ordered_map.rs"]
mod ordered_map;
#[path = "timer_structures/slab_heap.rs"]
mod slab_heap;
#[path = "../src/time/heap.rs"]
#[allow(dead_code, unused_imports)] // The crate uses all of it, and its tests are in there too.
mod timers;
#[path = "timer_structures/wheel.rs"]
mod wheel;

/// As large as what the loop keeps for a timer. The first number is the timer's in the scene.
type Payload = [u64; 2];

trait Structure: Default {
    type Key: Copy;

    fn insert(&mut self, deadline: Instant, what: Payload) -> Self::Key;
    fn remove(&mut self, key: Self::Key) -> Option<Payload>;
    fn reset(&mut self, key: Self::Key, deadline: Instant) -> Option<Self::Key> {
        let what = self.remove(key)?;
        Some(self.insert(deadline, what))
    }
    fn next_deadline(&self) -> Option<Instant>;
    fn pop_due(&mut self, now: Instant) -> Option<Payload>;
}

/// What the crate uses.
struct Ours(timers::Timers<Payload>);

impl Default for Ours {
    fn default() -> Ours {
        Ours(timers::Timers::new())
    }
}

impl Structure for Ours {
    type Key = timers::Key;

    fn insert(&mut self, deadline: Instant, what: Payload) -> Self::Key {
        self.0.insert(deadline, what)
    }
    fn remove(&mut self, key: Self::Key) -> Option<Payload> {
        self.0.remove(key)
    }
    fn reset(&mut self, key: Self::Key, deadline: Instant) -> Option<Self::Key> {
        self.0.reset(key, deadline).then_some(key)
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
    fn pop_due(&mut self, now: Instant) -> Option<Payload> {
        self.0.first_due(now, self.0.mark()).and_then(|key| self.0.remove(key))
    }
}

#[derive(Clone, Copy, Debug)]
enum Deadlines {
    WithinAnHour,
    AfterAMinute,
}

/// A number of live timers, and what sets them.
struct Scene<S: Structure> {
    timers: S,
    /// Each timer's key, and its position in the order of all.
    set: Vec<Option<(S::Key, Instant, u64)>>,
    /// Free places in `set`.
    free: Vec<usize>,
    /// The timers of the next operation, side by side.
    chosen: Vec<(usize, S::Key, Instant)>,
    deadlines: Deadlines,
    now: Instant,
    random: u64,
    created: u64,
    /// The same for all that fire the same timers in the same order.
    checksum: u64,
}

impl<S: Structure> Scene<S> {
    fn new(live: usize, deadlines: Deadlines, now: Instant) -> Scene<S> {
        Scene {
            timers: S::default(),
            set: vec![None; live],
            free: (0..live).collect(),
            chosen: Vec::with_capacity(live),
            deadlines,
            now,
            random: 1,
            created: 0,
            checksum: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    fn deadline(&mut self) -> Instant {
        match self.deadlines {
            Deadlines::WithinAnHour => self.now + Duration::from_nanos(self.below(3_600_000_000_000) as u64),
            Deadlines::AfterAMinute => {
                self.now += Duration::from_secs(60) / self.set.len() as u32;
                self.now + Duration::from_secs(60)
            }
        }
    }

    fn choose_random(&mut self, count: usize) {
        self.chosen.clear();
        while self.chosen.len() < count {
            let number = self.below(self.set.len());
            // Taken out of the set until it is put back by `note_chosen`, so that none is chosen twice.
            if let Some((key, deadline, _)) = self.set[number].take() {
                self.chosen.push((number, key, deadline));
            }
        }
    }

    fn choose_earliest(&mut self, count: usize) {
        let order = |(number, set): (usize, &Option<_>)| set.map(|(_, deadline, created)| (deadline, created, number));
        let mut all: Vec<_> = self.set.iter().enumerate().filter_map(order).collect();
        all.select_nth_unstable(count);
        all[..count].sort_unstable();
        self.chosen.clear();
        for (_, _, number) in &all[..count] {
            self.chosen.extend(self.set[*number].take().map(|(key, deadline, _)| (*number, key, deadline)));
        }
    }

    /// Assigns deadlines to the timers to be set or reset.
    fn choose_deadlines(&mut self) {
        for n in 0..self.chosen.len() {
            self.chosen[n].2 = self.deadline();
        }
    }

    /// The chosen timers are live, under new keys.
    fn note_chosen(&mut self) {
        for (number, key, deadline) in self.chosen.drain(..) {
            self.set[number] = Some((key, deadline, self.created));
            self.created += 1;
        }
    }

    /// The chosen timers are no longer live.
    fn free_chosen(&mut self) {
        self.free.extend(self.chosen.drain(..).map(|chosen| chosen.0));
    }

    // The operations, each with how long it took.

    fn time_set(&mut self) -> Duration {
        let first = self.deadlines_of_free();
        let start = Instant::now();
        for (number, deadline) in first {
            let key = self.timers.insert(deadline, [number as u64; 2]);
            self.chosen.push((number, key, deadline));
        }
        let time = start.elapsed();
        self.note_chosen();
        time
    }

    fn deadlines_of_free(&mut self) -> Vec<(usize, Instant)> {
        let free = std::mem::take(&mut self.free);
        free.into_iter().map(|number| (number, self.deadline())).collect()
    }

    fn time_cancel(&mut self) -> Duration {
        let start = Instant::now();
        for (_, key, _) in &self.chosen {
            black_box(self.timers.remove(*key).expect("it is live"));
        }
        let time = start.elapsed();
        self.free_chosen();
        time
    }

    /// Cancels, and after each asks how long the loop may sleep.
    fn time_cancel_first(&mut self) -> Duration {
        let start = Instant::now();
        for (_, key, _) in &self.chosen {
            black_box(self.timers.remove(*key).expect("it is live"));
            black_box(self.timers.next_deadline());
        }
        let time = start.elapsed();
        self.free_chosen();
        time
    }

    fn time_rearm(&mut self) -> Duration {
        self.choose_deadlines();
        let start = Instant::now();
        for (_, key, deadline) in &mut self.chosen {
            *key = self.timers.reset(*key, *deadline).expect("it is live");
        }
        let time = start.elapsed();
        self.note_chosen();
        time
    }

    fn time_next(&self, count: usize) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(black_box(&self.timers).next_deadline());
        }
        start.elapsed()
    }

    fn time_fire(&mut self, count: usize) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            self.now = self.now.max(self.timers.next_deadline().expect("some are live"));
            let [number, ..] = self.timers.pop_due(self.now).expect("it is due");
            self.free.push(number as usize);
        }
        let time = start.elapsed();
        for n in self.free.len() - count..self.free.len() {
            self.set[self.free[n]] = None;
            self.checksum = self.checksum.wrapping_mul(31).wrapping_add(self.free[n] as u64);
        }
        time
    }
}

const OPERATIONS: [&str; 6] = ["set", "re-arm", "cancel", "fire", "next", "first cancelled"];

struct Figures {
    ns: [f64; OPERATIONS.len()],
    bytes: Option<(i64, i64)>,
    checksum: u64,
}

/// One after the other, at a number of live timers.
fn measure<S: Structure>(live: usize, deadlines: Deadlines, now: Instant, rounds: usize) -> Figures {
    let batch = (live / 10).clamp(50, 10_000);
    let mut scene = Scene::<S>::new(live, deadlines, now);
    scene.time_set();
    let mut times: [Vec<Duration>; OPERATIONS.len()] = Default::default();
    for _ in 0..rounds {
        scene.choose_random(batch);
        times[2].push(scene.time_cancel());
        times[0].push(scene.time_set());
        scene.choose_random(batch);
        times[1].push(scene.time_rearm());
        times[4].push(scene.time_next(batch));
        times[3].push(scene.time_fire(batch));
        scene.time_set();
        scene.choose_earliest(batch);
        times[5].push(scene.time_cancel_first());
        scene.time_set();
    }
    Figures {
        ns: times.map(|mut times| {
            times.sort_unstable();
            times[rounds / 2].as_nanos() as f64 / batch as f64
        }),
        bytes: measure_bytes::<S>(live, deadlines, now),
        checksum: scene.checksum,
    }
}

/// Returns how many bytes the live timers take, and how many remain when all were cancelled, in random order.
fn measure_bytes<S: Structure>(live: usize, deadlines: Deadlines, now: Instant) -> Option<(i64, i64)> {
    let mut scene = Scene::<S>::new(live, deadlines, now);
    let first = scene.deadlines_of_free();
    let filled = bytes_taken(|| {
        // Preallocated, so that only the structure's own memory is counted.
        scene.chosen.extend(
            first
                .iter()
                .map(|&(number, deadline)| (number, scene.timers.insert(deadline, [number as u64; 2]), deadline)),
        );
    });
    scene.note_chosen();
    scene.choose_random(live);
    let emptied = bytes_taken(|| {
        for (_, key, _) in &scene.chosen {
            scene.timers.remove(*key);
        }
    });
    Some((filled?, filled? + emptied?))
}

/// Returns how many more bytes are allocated afterwards, or `None` where nothing counts them.
#[cfg(not(all(windows, target_env = "gnu")))]
fn bytes_taken(work: impl FnOnce()) -> Option<i64> {
    Some(allocation_counter::measure(work).bytes_current)
}

#[cfg(all(windows, target_env = "gnu"))]
fn bytes_taken(work: impl FnOnce()) -> Option<i64> {
    work();
    None
}

fn compare(live: usize, deadlines: Deadlines, rounds: usize) {
    println!("\n{live} live, {deadlines:?}; ns each");
    print!("{:16}", "");
    OPERATIONS.iter().for_each(|operation| print!("{operation:>16}"));
    println!("{:>16}{:>16}", "bytes a timer", "bytes after all");
    let now = Instant::now();
    let mut checksum = None;
    let mut show = |name: &str, figures: Figures| {
        print!("{name:16}");
        figures.ns.iter().for_each(|ns| print!("{ns:16.1}"));
        match figures.bytes {
            Some((filled, emptied)) => println!("{:16}{emptied:16}", filled / live as i64),
            None => println!("{:>16}{:>16}", "not counted", "not counted"),
        }
        assert_eq!(*checksum.get_or_insert(figures.checksum), figures.checksum, "{name} fires in another order");
    };
    show("timers.rs", measure::<Ours>(live, deadlines, now, rounds));
    show("slab heap", measure::<slab_heap::SlabHeap>(live, deadlines, now, rounds));
    show("lazy heap", measure::<lazy_heap::LazyHeap>(live, deadlines, now, rounds));
    show("ordered map", measure::<ordered_map::OrderedMap>(live, deadlines, now, rounds));
    show("wheel", measure::<wheel::Wheel>(live, deadlines, now, rounds));
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    let sizes: &[_] = if short { &[(100, 3), (2_000, 3)] } else { &[(100, 1_001), (100_000, 31), (1_000_000, 15)] };
    for &(live, rounds) in sizes {
        for deadlines in [Deadlines::WithinAnHour, Deadlines::AfterAMinute] {
            compare(live, deadlines, rounds);
        }
    }
}
