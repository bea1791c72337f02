//! Rule A4: the backlog that several listeners share, tested by itself.

use std::sync::{Arc, Mutex};

use crate::testing::Random;
use crate::threads::backlog::{Backlog, NotTaken, Room, Wake};

/// What was woken: takers by their numbers, and the acceptor.
type Woken = Arc<Mutex<Vec<usize>>>;

const ACCEPTOR: usize = usize::MAX;

fn wake(woken: &Woken, who: usize) -> Wake {
    let woken = woken.clone();
    Arc::new(move || woken.lock().unwrap().push(who))
}

fn take_woken(woken: &Woken) -> Vec<usize> {
    std::mem::take(&mut *woken.lock().unwrap())
}

fn room(connections: usize, free: usize, with_lingering: usize) -> Room {
    Room { connections, free, with_lingering, refuses: false }
}

fn backlog(rooms: &[Room]) -> (Backlog<usize>, Woken) {
    let (backlog, woken) = (Backlog::new(rooms.len(), usize::MAX), Woken::default());
    for (taker, room) in rooms.iter().enumerate() {
        backlog.join(taker, wake(&woken, taker));
        backlog.set_room(taker, *room);
    }
    (backlog, woken)
}

#[test]
fn a4_each_is_for_the_listener_with_the_fewest_and_among_equals_in_turn() {
    let (backlog, woken) = backlog(&[room(2, 9, 9), room(0, 9, 9), room(0, 9, 9)]);
    (0..8).for_each(|number| assert!(backlog.push(number).is_ok()));
    // Each is woken once, though it is to take several connections.
    assert_eq!(take_woken(&woken), [1, 2, 0]);
    let each = [0, 1, 2].map(|taker| std::iter::from_fn(|| backlog.take(taker)).count());
    assert_eq!(each, [2, 3, 3]);
}

#[test]
fn a4_a_lingering_connection_is_given_up_where_no_listener_has_room_and_refusing_comes_last() {
    let refuses = Room { refuses: true, ..room(1, 0, 0) };
    let (backlog, woken) = backlog(&[refuses, room(5, 0, 1), room(9, 1, 1)]);
    (0..4).for_each(|number| assert!(backlog.push(number).is_ok()));
    assert_eq!(take_woken(&woken), [2, 1, 0]);
    let each = [0, 1, 2].map(|taker| std::iter::from_fn(|| backlog.take(taker)).count());
    assert_eq!(each, [2, 1, 1]);
}

#[test]
fn a4_a_backlog_holds_so_many_and_gives_back_what_is_one_too_many_or_for_nobody() {
    let (backlog, woken) = (Backlog::new(1, 2), Woken::default());
    assert!(matches!(backlog.push(0), Err(NotTaken::Gone(0))), "nobody has joined");
    backlog.join(0, wake(&woken, 0));
    assert!(backlog.push(1).is_ok() && backlog.push(2).is_ok());
    assert!(matches!(backlog.push(3), Err(NotTaken::Full(3))));
    assert!(take_woken(&woken).is_empty(), "it has no room");
    backlog.set_room(0, room(0, 1, 1));
    assert_eq!((take_woken(&woken), backlog.take(0)), (vec![0], Some(1)));
    backlog.set_room(0, room(1, 0, 0));
    assert_eq!((backlog.take(0), backlog.connections(0), backlog.waiting()), (None, 1, 1));
    assert_eq!(Vec::from(backlog.leave(0)), [2]);
    assert!(matches!(backlog.push(4), Err(NotTaken::Gone(4))));
    assert_eq!(backlog.waiting(), 0);
}

/// A listener's actual state, as opposed to what it has reported.
#[derive(Default)]
struct Truth {
    live: usize,
    lingering: usize,
    paused: bool,
    left: bool,
}

/// A random life of some listeners and of the acceptor that serves them.
struct Life {
    backlog: Backlog<usize>,
    woken: Woken,
    connections_max: usize,
    listeners: Vec<Truth>,
    /// The acceptor has stopped, and waits to be woken.
    is_stopped: bool,
    accepted: usize,
    taken: usize,
    reset: usize,
}

impl Life {
    fn has_room(&self, number: usize) -> bool {
        let listener = &self.listeners[number];
        !listener.left && !listener.paused && listener.live - listener.lingering < self.connections_max
    }

    fn tell(&self, number: usize) {
        let listener = &self.listeners[number];
        let free = self.connections_max - listener.live;
        self.backlog.set_room(
            number,
            match listener.paused {
                true => room(listener.live, 0, 0),
                false => room(listener.live, free, free + listener.lingering),
            },
        );
    }

    /// Does what a listener's loop does when it is woken, or looks by itself: it takes everything it may.
    fn look(&mut self, number: usize, random: &mut Random) {
        if self.listeners[number].left {
            return;
        }
        self.backlog.look(number);
        while self.has_room(number) {
            if self.backlog.take(number).is_none() {
                return;
            }
            self.taken += 1;
            if random.hits(200) {
                continue; // Its factory has refused the connection.
            }
            let listener = &mut self.listeners[number];
            if listener.live == self.connections_max {
                listener.live -= 1;
                listener.lingering -= 1;
            }
            listener.live += 1;
            self.tell(number);
        }
        self.tell(number);
    }

    fn accept(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 4) {
            if self.is_stopped || self.backlog.push(self.accepted).is_err() {
                return;
            }
            self.accepted += 1;
            self.is_stopped = !self.backlog.has_room_or_wakes(&wake(&self.woken, ACCEPTOR));
        }
    }

    fn step(&mut self, random: &mut Random) {
        let number = random.below(self.listeners.len() as u64) as usize;
        if self.listeners[number].left {
            return self.accept(random);
        }
        let listener = &mut self.listeners[number];
        match random.below(12) {
            0..=3 => return self.accept(random),
            4..=6 if listener.live > listener.lingering => listener.live -= 1,
            7 if listener.live > listener.lingering => listener.lingering += 1,
            8 if listener.lingering > 0 => {
                listener.live -= 1;
                listener.lingering -= 1;
            }
            9 => listener.paused = !listener.paused,
            10 if random.hits(50) => {
                listener.left = true;
                self.reset += self.backlog.leave(number).len();
                return;
            }
            _ => return self.look(number, random),
        }
        self.tell(number);
    }

    /// Has those that were woken look, one after the other.
    fn wake_some(&mut self, random: &mut Random) {
        for who in take_woken(&self.woken) {
            match who {
                ACCEPTOR => self.is_stopped = false,
                number => self.look(number, random),
            }
        }
    }

    fn check(&self, seed: u64) {
        let rooms = (0..self.listeners.len()).filter(|&number| self.has_room(number)).count();
        assert!(rooms == 0 || self.backlog.waiting() == 0, "seed {seed}: somebody waits, and there is room");
        assert!(rooms == 0 || !self.is_stopped, "seed {seed}: the acceptor waits, and there is room");
        assert!(self.listeners.iter().all(|listener| listener.live <= self.connections_max), "seed {seed}");
        assert_eq!(self.taken + self.reset + self.backlog.waiting(), self.accepted, "seed {seed}");
    }
}

#[test]
fn a4_whatever_happens_nobody_waits_while_a_listener_has_room() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let count = random.between(1, 4) as usize;
        let connections_max = random.between(1, 3) as usize;
        let (backlog, woken) = backlog(&vec![room(0, connections_max, connections_max); count]);
        let listeners = (0..count).map(|_| Truth::default()).collect();
        let mut life =
            Life { backlog, woken, connections_max, listeners, is_stopped: false, accepted: 0, taken: 0, reset: 0 };
        for _ in 0..100 {
            life.step(&mut random);
            if random.hits(500) {
                while !life.woken.lock().unwrap().is_empty() {
                    life.wake_some(&mut random);
                }
                life.check(seed);
            }
        }
    }
}
