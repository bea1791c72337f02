//! The mailbox between handles and the loop, and the backlog that several listeners take from, in all interleavings of
//! their threads: `src/threads/mailbox.rs` and `src/threads/backlog.rs` themselves, on the types of the model checker
//! loom. It takes some seconds and needs no flags:
//!
//!     cargo test --release --package switchboard-model
//!
//! A lost wake shows as a deadlock, since the loop here waits only for wakes. The models of one sender try
//! every interleaving, those of two the ones with up to three or four preemptions; and each of them tries every
//! value that the memory model lets an atomic read.
//! `python3 tests/seeded_bugs.py model` removes their steps one at a time, and checks that these tests fail.

#![cfg(test)]

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use backlog::{Backlog, Room};
use mailbox::{Mailbox, PostError, Wake};

#[allow(dead_code)] // Some methods are used by a loop, and not here.
#[path = "../../src/threads/backlog.rs"]
mod backlog;
#[allow(dead_code)] // Whether the queue is closed is asked in one model only.
#[path = "../../src/threads/mailbox.rs"]
mod mailbox;

/// What the two import from their parent module: loom's types instead of std's.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

/// Works like an eventfd in a poller: a wake ends the current wait, or the next one.
#[derive(Default)]
struct Poller {
    woken: Mutex<bool>,
    wake: Condvar,
    wakes: AtomicUsize,
}

impl Poller {
    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Poller {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

/// A waker that fails a given number of times.
struct Waker {
    poller: Arc<Poller>,
    failures: AtomicUsize,
}

impl Wake for Waker {
    fn wake(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.poller.wakes.fetch_add(1, Ordering::Relaxed);
        *self.poller.woken.lock().unwrap() = true;
        self.poller.wake.notify_one();
        true
    }
}

/// A command: its sender, and its number among that sender's commands.
type Command = (usize, usize);

struct Scene {
    mailbox: Arc<Mailbox<Command, Waker>>,
    poller: Arc<Poller>,
}

impl Scene {
    fn new(commands_max: usize, failures: usize) -> Scene {
        let poller = Arc::new(Poller::default());
        let waker = Waker { poller: poller.clone(), failures: AtomicUsize::new(failures) };
        Scene { mailbox: Arc::new(Mailbox::new(commands_max, waker)), poller }
    }

    /// Starts a thread that posts `count` commands, and returns those that were given back.
    fn sender(&self, sender: usize, count: usize) -> thread::JoinHandle<Vec<PostError<Command>>> {
        let mailbox = self.mailbox.clone();
        thread::spawn(move || {
            (0..count).filter_map(|number| mailbox.push((sender, number), |command| command).err()).collect()
        })
    }

    /// Does what the loop does in a turn: waits, unless commands are left, and takes a batch. Returns the number of
    /// batches: one, or none.
    fn turn(&self, batch_max: usize, ran: &mut Vec<Command>) -> usize {
        if !self.mailbox.is_occupied() {
            self.poller.wait();
        }
        if !self.mailbox.is_occupied() {
            return 0;
        }
        let mut batch = VecDeque::new();
        self.mailbox.take(&mut batch, batch_max);
        assert!(batch.len() <= batch_max);
        ran.extend(batch);
        1
    }
}

/// Checks that each sender's commands ran once, in order.
fn assert_in_order(ran: &[Command], senders: usize, count: usize) {
    for sender in 0..senders {
        let of_one = ran.iter().filter(|command| command.0 == sender).map(|command| command.1);
        assert!(of_one.eq(0..count), "{ran:?}");
    }
}

fn model(preemptions_max: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.check(check);
}

fn all_run(preemptions_max: Option<usize>, senders: usize, count: usize, batch_max: usize) {
    model(preemptions_max, move || {
        let scene = Scene::new(usize::MAX, 0);
        let threads: Vec<_> = (0..senders).map(|sender| scene.sender(sender, count)).collect();
        let (mut ran, mut batches) = (Vec::new(), 0);
        while ran.len() < senders * count {
            batches += scene.turn(batch_max, &mut ran);
        }
        assert_in_order(&ran, senders, count);
        for thread in threads {
            assert!(thread.join().unwrap().is_empty(), "nothing is given back");
        }
        assert!(!scene.mailbox.is_occupied());
        assert!(scene.poller.wakes.load(Ordering::Relaxed) <= batches, "one wake for each batch at most");
    });
}

#[test]
fn model_every_command_of_two_senders_runs_once_and_in_order_though_the_loop_sleeps() {
    all_run(Some(3), 2, 2, 4);
}

#[test]
fn model_what_a_batch_leaves_over_needs_no_wake() {
    all_run(Some(3), 2, 2, 1);
}

#[test]
fn model_one_sender_in_every_interleaving() {
    all_run(None, 1, 2, 1);
}

#[test]
fn model_two_senders_of_one_command_each_with_more_preemptions() {
    all_run(Some(4), 2, 1, 1);
}

#[test]
fn model_what_a_full_queue_gives_back_does_not_run_and_all_else_does() {
    model(Some(3), || {
        let scene = Scene::new(1, 0);
        let threads = [0, 1].map(|sender| scene.sender(sender, 2));
        let mut ran = Vec::new();
        // The queue was empty when the first came, so one is taken in any case.
        scene.turn(1, &mut ran);
        let given_back: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        while ran.len() + given_back.len() < 4 {
            scene.turn(1, &mut ran);
        }
        assert!(given_back.iter().all(|error| matches!(error, PostError::Full(_))));
        let mut all: Vec<_> = ran.into_iter().chain(given_back.into_iter().map(PostError::into_inner)).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    });
}

#[test]
fn model_what_the_end_of_the_loop_finds_is_counted_and_what_comes_later_is_given_back() {
    model(Some(3), || {
        let scene = Scene::new(usize::MAX, 0);
        let threads = [0, 1].map(|sender| scene.sender(sender, 2));
        let mut ran = Vec::new();
        scene.turn(4, &mut ran);
        let waiting = scene.mailbox.close();
        assert_eq!(waiting.len(), scene.mailbox.dropped());
        let given_back: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(given_back.iter().all(|error| matches!(error, PostError::Gone(_))));
        let given_back = given_back.into_iter().map(PostError::into_inner);
        let all: Vec<_> = ran.into_iter().chain(waiting).chain(given_back).collect();
        assert_eq!(all.len(), 4);
        // Run, dropped, given back: in that order.
        assert_in_order(&all, 2, 2);
        assert!(!scene.mailbox.is_occupied() && scene.mailbox.close().is_empty());
    });
}

#[test]
fn model_after_a_wake_that_failed_the_next_command_wakes() {
    model(None, || {
        let scene = Scene::new(usize::MAX, 1);
        // The first command's wake fails, the second one's wakes for both.
        let thread = scene.sender(0, 2);
        let mut ran = Vec::new();
        while ran.len() < 2 {
            scene.turn(2, &mut ran);
        }
        assert_in_order(&ran, 1, 2);
        assert!(thread.join().unwrap().is_empty(), "a command whose wake failed is queued all the same");
    });
}

/// A loop whose listener takes from the backlog, and has room for one at a time.
struct Taker {
    backlog: Arc<Backlog<usize>>,
    number: usize,
    poller: Arc<Poller>,
    is_over: Arc<AtomicBool>,
}

fn room(connections: usize) -> Room {
    Room { connections, free: 1 - connections, with_lingering: 1 - connections, refuses: false }
}

fn waker(poller: &Arc<Poller>) -> std::sync::Arc<dyn Fn() + Send + Sync> {
    let poller = poller.clone();
    std::sync::Arc::new(move || poller.wake())
}

impl Taker {
    fn all(count: usize, backlog: &Arc<Backlog<usize>>) -> Vec<Taker> {
        let is_over = Arc::new(AtomicBool::new(false));
        let taker = |number| Taker {
            backlog: backlog.clone(),
            number,
            poller: Arc::new(Poller::default()),
            is_over: is_over.clone(),
        };
        let takers: Vec<_> = (0..count).map(taker).collect();
        for taker in &takers {
            backlog.join(taker.number, waker(&taker.poller));
            backlog.set_room(taker.number, room(0));
        }
        takers
    }

    /// Takes and serves them one at a time, and reports each to `served`.
    fn run(&self, served: &(Arc<Mutex<Vec<usize>>>, Arc<Poller>)) {
        loop {
            self.poller.wait();
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.backlog.look(self.number);
            while let Some(taken) = self.backlog.take(self.number) {
                self.backlog.set_room(self.number, room(1));
                served.0.lock().unwrap().push(taken);
                served.1.wake();
                self.backlog.set_room(self.number, room(0));
            }
        }
    }
}

/// One thread accepts `count` connections for two takers, the first of which calls `first` instead of taking.
fn all_are_served(count: usize, first: Option<fn(&Taker)>) {
    model(Some(2), move || {
        let backlog = Arc::new(Backlog::new(2, usize::MAX));
        let takers: Vec<_> = Taker::all(2, &backlog).into_iter().map(Arc::new).collect();
        let acceptor = Arc::new(Poller::default());
        let served = (Arc::new(Mutex::new(Vec::new())), acceptor.clone());
        let threads: Vec<_> = takers
            .iter()
            .map(|taker| {
                let (taker, served) = (taker.clone(), served.clone());
                thread::spawn(move || match first {
                    Some(act) if taker.number == 0 => act(&taker),
                    _ => taker.run(&served),
                })
            })
            .collect();
        let wake = waker(&acceptor);
        for number in 0..count {
            while !backlog.has_room_or_wakes(&wake) {
                acceptor.wait();
            }
            assert!(backlog.push(number).is_ok());
        }
        while served.0.lock().unwrap().len() < count {
            acceptor.wait();
        }
        takers[0].is_over.store(true, Ordering::Relaxed);
        takers.iter().for_each(|taker| taker.poller.wake());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut served = served.0.lock().unwrap().clone();
        served.sort_unstable();
        assert!(served.iter().copied().eq(0..count), "each is served once: {served:?}");
    });
}

#[test]
fn model_everyone_in_a_backlog_is_served_though_the_loops_and_the_acceptor_sleep() {
    all_are_served(3, None);
}

#[test]
fn model_what_one_was_to_take_that_ends_is_taken_by_the_other() {
    all_are_served(3, Some(|taker| assert!(taker.backlog.leave(taker.number).is_empty())));
}

#[test]
fn model_what_one_was_to_take_that_is_paused_is_taken_by_the_other() {
    all_are_served(3, Some(|taker| taker.backlog.set_room(taker.number, Room::default())));
}
