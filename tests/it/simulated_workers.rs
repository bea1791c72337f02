//! Pools of workers, and completions, in simulated loops: no thread is started, and time is virtual.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchboard::testing::{Crash, Faults, Harness, HostId, Network};
use switchboard::workers::{Job, WorkError, WorkerPool};
use switchboard::{Completion, Ended, Protocol, Transport};

const SECOND: Duration = Duration::from_secs(1);

/// The results of work, with the time that had passed.
type Told = Rc<RefCell<Vec<(Duration, Result<u32, WorkError>)>>>;

fn pool(threads: usize, queue_max: usize) -> WorkerPool {
    WorkerPool::new(NonZeroUsize::new(threads).unwrap(), queue_max)
}

/// A network where work takes this long, or up to this long.
fn network(seed: u64, shortest: Duration, longest: Duration) -> Network {
    Network::new(seed, Faults::none().with_work_min(shortest).with_work_max(longest))
}

/// Submits work that counts itself when it begins, and whose number is recorded when the result arrives.
fn submit(
    (network, host): (&mut Network, HostId),
    pool: &WorkerPool,
    timeout: Option<Duration>,
    (told, begun): (&Told, &Arc<AtomicUsize>),
    number: u32,
) -> Job {
    let (told, begun, clock) = (told.clone(), begun.clone(), network.context(host).now());
    let work = move || {
        begun.fetch_add(1, Ordering::Relaxed);
        number
    };
    pool.submit(&mut network.context(host), timeout, work, move |context, result| {
        told.borrow_mut().push((context.now() - clock, result));
    })
}

#[test]
fn workers_in_a_simulation_are_as_many_and_take_as_long_as_is_said() {
    let mut network = network(0, 3 * SECOND, 3 * SECOND);
    let (host, pool, told, begun) = (network.host(), pool(2, 2), Told::default(), Arc::default());
    let timeouts = [None, Some(2 * SECOND), Some(2 * SECOND), Some(5 * SECOND), None];
    for (number, timeout) in (0..).zip(timeouts) {
        submit((&mut network, host), &pool, timeout, (&told, &begun), number);
    }
    assert!(told.borrow().is_empty(), "not within the call");
    network.run_for(Duration::ZERO);
    let refused = Err(WorkError::Refused("too much work is waiting".to_owned()));
    assert_eq!((told.take(), begun.load(Ordering::Relaxed)), (vec![(Duration::ZERO, refused)], 2));
    network.run_for(20 * SECOND);
    let late = Err(WorkError::TimedOut);
    // The second has begun, and keeps its thread; the third has not, and never does.
    let expected = [(2, late.clone()), (2, late.clone()), (3, Ok(0)), (5, late)];
    assert_eq!(told.take(), expected.map(|(seconds, result)| (seconds * SECOND, result)));
    assert_eq!(begun.load(Ordering::Relaxed), 3);
    assert_eq!(pool.shutdown(Duration::ZERO), Ended::Clean);
}

#[test]
fn workers_in_a_simulation_answer_in_an_order_that_the_seed_decides() {
    let run = |seed| {
        let mut network = network(seed, Duration::ZERO, SECOND);
        network.set_tracing(true);
        let (host, pool, told, begun) = (network.host(), pool(4, 100), Told::default(), Arc::default());
        for number in 0..20 {
            submit((&mut network, host), &pool, None, (&told, &begun), number);
        }
        let most = Cell::new(0);
        network.run_until(|_| {
            let running = begun.load(Ordering::Relaxed) - told.borrow().len();
            most.set(most.get().max(running));
            false
        });
        assert_eq!(most.get(), 4, "as many at once as the pool has threads");
        assert_eq!(network.trace().matches("works for").count(), 20);
        let order: Vec<_> = told.take().into_iter().map(|(_, result)| result.unwrap()).collect();
        (order, network.trace())
    };
    let (order, trace) = run(1);
    assert_eq!(run(1), (order.clone(), trace), "the same seed does the same again");
    assert_ne!(run(2).0, order);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    assert_ne!(sorted, order);
}

#[test]
fn workers_in_a_simulation_are_free_again_when_their_host_is_gone() {
    let mut network = network(0, 10 * SECOND, 10 * SECOND);
    let (one, other, pool) = (network.host(), network.host(), pool(1, 10));
    let (told, begun) = (Told::default(), Arc::default());
    for number in 0..3 {
        submit((&mut network, one), &pool, None, (&told, &begun), number);
    }
    for number in 3..5 {
        submit((&mut network, other), &pool, None, (&told, &begun), number);
    }
    network.run_for(SECOND);
    network.crash(one, Crash::Killed);
    network.run_for(30 * SECOND);
    assert_eq!(told.take(), [(11 * SECOND, Ok(3)), (21 * SECOND, Ok(4))]);
    assert_eq!(begun.load(Ordering::Relaxed), 3, "what waited there is gone");
    // However much has waited: none of it is gone by way of the one before.
    let pool = self::pool(1, usize::MAX);
    let gone = network.host();
    for number in 0..50_000 {
        submit((&mut network, gone), &pool, None, (&told, &begun), number);
    }
    submit((&mut network, other), &pool, None, (&told, &begun), 5);
    network.crash(gone, Crash::Silent);
    network.run_for(11 * SECOND);
    assert_eq!(told.take(), [(10 * SECOND, Ok(5))]);
}

#[test]
fn workers_in_a_simulation_that_are_cancelled_or_shut_down() {
    let mut network = network(0, 3 * SECOND, 3 * SECOND);
    let (host, pool, told, begun) = (network.host(), pool(1, 3), Told::default(), Arc::default());
    let jobs = [0, 1, 2, 3].map(|number| submit((&mut network, host), &pool, None, (&told, &begun), number));
    network.run_for(SECOND);
    assert!(jobs[0].cancel(&mut network.context(host)) && jobs[1].cancel(&mut network.context(host)));
    submit((&mut network, host), &pool, None, (&told, &begun), 4);
    network.run_for(SECOND);
    assert!(told.borrow().is_empty(), "what is cancelled leaves its place in the queue");
    assert_eq!(begun.load(Ordering::Relaxed), 1, "what has begun keeps its thread");
    network.run_for(2 * SECOND);
    assert_eq!(begun.load(Ordering::Relaxed), 2, "and what is cancelled never begins");
    assert_eq!(pool.shutdown(SECOND), Ended::CutOff, "one is at work, and no time passes");
    submit((&mut network, host), &pool, None, (&told, &begun), 5);
    network.run_for(5 * SECOND);
    let told = told.take();
    let of = |number: Result<u32, WorkError>| told.iter().find(|(_, result)| *result == number).map(|(time, _)| *time);
    assert_eq!(of(Ok(2)), Some(6 * SECOND));
    assert_eq!(told.iter().filter(|(_, result)| *result == Err(WorkError::Dropped)).count(), 3);
    assert_eq!((told.len(), begun.load(Ordering::Relaxed)), (4, 2));
    assert_eq!(pool.shutdown(Duration::ZERO), Ended::Clean);
}

/// Requests a number through a completion, and passes it on.
struct Asks(Rc<RefCell<Option<Completion<u32>>>>);

impl Asks {
    fn told(&mut self, transport: &mut Transport<'_>, number: Option<u32>) {
        transport.write(format!("{number:?}").as_bytes());
    }
}

impl Protocol for Asks {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        *self.0.borrow_mut() = transport.completion(Asks::told).ok();
        data.len()
    }
}

#[test]
fn workers_of_a_test_s_own_give_a_completion_its_value_when_the_test_says() {
    let asked = Rc::default();
    let mut harness = Harness::new(Asks(Rc::clone(&asked)));
    harness.feed(b"?");
    harness.advance(5 * SECOND);
    assert!(harness.take_written().is_empty());
    assert_eq!(asked.take().unwrap().complete(7), Ok(()));
    harness.settle();
    assert_eq!(harness.take_written(), b"Some(7)");
    harness.feed(b"?");
    drop(asked.take());
    harness.settle();
    assert_eq!(harness.take_written(), b"None");
    harness.feed(b"?");
    harness.end();
    assert_eq!(asked.take().unwrap().complete(8), Ok(()), "it is dropped in the loop");
    harness.settle();
    assert!(harness.take_written().is_empty());
}
