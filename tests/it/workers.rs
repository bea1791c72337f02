//! Work off the loop's thread: a bounded pool, whose results come back as calls on the loop.

use std::cell::RefCell;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::testing::Harness;
use switchboard::workers::{Job, WorkError, WorkerPool};
use switchboard::{ConnectionId, Context, EventLoop, Protocol, Transport};

use crate::support::{PATIENCE, event_loop, join, turn_until};

fn pool(threads: usize, queue_max: usize) -> WorkerPool {
    WorkerPool::new(NonZeroUsize::new(threads).unwrap(), queue_max)
}

/// The results of work, as reported to the loop.
type Results<T> = Rc<RefCell<Vec<Result<T, WorkError>>>>;

/// Submits work that records its result.
fn submit<T: Send + 'static>(
    pool: &WorkerPool,
    event_loop: &mut EventLoop,
    deadline: Option<Duration>,
    results: &Results<T>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Job {
    let results = results.clone();
    pool.submit(&mut event_loop.context(), deadline, work, move |_, result| results.borrow_mut().push(result))
}

/// Work that reports when it has begun, and waits to be released.
fn gate() -> (impl FnOnce() -> u32 + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<u32>) {
    let (begins, begun) = mpsc::channel();
    let (lets_go, let_go) = mpsc::channel();
    let work = move || {
        begins.send(()).unwrap();
        let_go.recv_timeout(PATIENCE).unwrap()
    };
    (work, begun, lets_go)
}

#[test]
fn workers_all_work_is_done_once_by_few_threads_and_answered_on_the_loops_own() {
    const THREADS: usize = 4;
    let mut event_loop = event_loop();
    let pool = pool(THREADS, 1000);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let results = Rc::new(RefCell::new(Vec::new()));
    let here = thread::current().id();
    for number in 0..500_usize {
        let (running, most, results) = (running.clone(), most.clone(), results.clone());
        let work = move || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            (number, thread::current().id())
        };
        let done = move |_: &mut Context<'_>, result: Result<_, WorkError>| {
            assert_eq!(thread::current().id(), here);
            results.borrow_mut().push(result.unwrap());
        };
        pool.submit(&mut event_loop.context(), None, work, done);
    }
    event_loop.run_until_idle().unwrap();
    let (mut numbers, mut threads): (Vec<_>, Vec<_>) = results.take().into_iter().unzip();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    assert!(!threads.contains(&here));
    threads.sort_unstable_by_key(|thread| format!("{thread:?}"));
    threads.dedup();
    assert!(threads.len() <= THREADS && most.load(Ordering::SeqCst) <= THREADS);
    assert!(pool.shutdown(PATIENCE).is_clean());
}

#[test]
fn workers_one_thread_works_in_order() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1000);
    let results = Results::default();
    for number in 0..100 {
        submit(&pool, &mut event_loop, None, &results, move || number);
    }
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), (0..100).map(Ok).collect::<Vec<_>>());
}

#[test]
fn workers_one_job_too_many_is_refused_and_told_so_later() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    submit(&pool, &mut event_loop, None, &results, work);
    begun.recv_timeout(PATIENCE).unwrap();
    submit(&pool, &mut event_loop, None, &results, || 2);
    let late = Some(Duration::from_secs(3600));
    submit(&pool, &mut event_loop, late, &results, || panic!("it was refused"));
    assert!(results.borrow().is_empty(), "it is told later");
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let refused = Err(WorkError::Refused("too much work is waiting".into()));
    assert_eq!(results.take(), [refused]);
    let_go.send(1).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Ok(1), Ok(2)]);
}

#[test]
fn workers_who_is_told_that_work_is_done_finds_its_thread_free() {
    let mut event_loop = event_loop();
    let pool = pool(1, 0);
    // Each job submits the next one, with no queue for it to wait in.
    fn next(pool: WorkerPool, context: &mut Context<'_>, left: u32) {
        if left > 0 {
            let again = pool.clone();
            pool.submit(context, None, || {}, move |context, _| next(again, context, left - 1));
        }
    }
    event_loop.set_panic_policy(switchboard::PanicPolicy::Propagate);
    next(pool, &mut event_loop.context(), 2000);
    event_loop.run_until_idle().unwrap();
}

#[test]
fn workers_a_panic_ends_that_work_only_and_is_told_with_its_message() {
    let mut event_loop = event_loop();
    let pool = pool(1, 10);
    let results = Results::default();
    submit(&pool, &mut event_loop, None, &results, || panic!("no {}", 1));
    submit(&pool, &mut event_loop, None, &results, || 2);
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::Panic("no 1".into())), Ok(2)]);
    assert!(pool.shutdown(PATIENCE).is_clean(), "its thread has not died of it");
}

#[test]
fn workers_at_the_deadline_the_loop_goes_on_without_what_runs_and_what_waits_never_runs() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    let soon = Some(Duration::from_millis(1));
    submit(&pool, &mut event_loop, soon, &results, work);
    begun.recv_timeout(PATIENCE).unwrap();
    submit(&pool, &mut event_loop, soon, &results, || panic!("its deadline has passed"));
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::TimedOut), Err(WorkError::TimedOut)]);
    // The waiting job has freed its place for others.
    let far = Some(Duration::from_secs(3600));
    submit(&pool, &mut event_loop, far, &results, || 3);
    let_go.send(1).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Ok(3)], "and its timer does not keep the loop");
}

#[test]
fn workers_cancelled_work_is_not_answered_and_does_not_begin() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    let running = submit(&pool, &mut event_loop, None, &results, work);
    begun.recv_timeout(PATIENCE).unwrap();
    let waiting = submit(&pool, &mut event_loop, None, &results, || panic!("it was cancelled"));
    for job in [&running, &waiting] {
        assert!(job.cancel(&mut event_loop.context()));
        assert!(!job.cancel(&mut event_loop.context()), "once is enough");
    }
    submit(&pool, &mut event_loop, None, &results, || 3);
    let_go.send(1).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Ok(3)]);
}

#[test]
fn workers_neither_a_loops_end_nor_the_pools_waits_for_work() {
    let pool = pool(1, 1);
    let (work, begun, let_go) = gate();
    let (counted, results) = (Arc::new(()), Results::default());
    let mut ends = event_loop();
    let held = counted.clone();
    submit(&pool, &mut ends, None, &results, move || (work(), held).0);
    begun.recv_timeout(PATIENCE).unwrap();
    drop(ends);
    assert_eq!(Rc::strong_count(&results), 1, "the loop has dropped what waited");
    let mut stays = event_loop();
    submit(&pool, &mut stays, None, &results, || panic!("its pool is gone"));
    drop(pool);
    stays.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::Dropped)]);
    assert_eq!(Arc::strong_count(&counted), 2, "it still runs");
    let_go.send(1).unwrap();
}

#[test]
fn workers_shutdown_waits_for_what_runs_and_refuses_more() {
    let mut event_loop = event_loop();
    let pool = pool(2, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    submit(&pool, &mut event_loop, None, &results, work);
    begun.recv_timeout(PATIENCE).unwrap();
    assert!(!pool.shutdown(Duration::ZERO).is_clean(), "one thread is at work");
    submit(&pool.clone(), &mut event_loop, None, &results, || 2);
    let_go.send(1).unwrap();
    assert!(pool.shutdown(PATIENCE).is_clean());
    assert!(format!("{pool:?}").contains("threads: 0"), "{pool:?}");
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::Dropped), Ok(1)]);
}

#[test]
fn workers_one_pool_serves_several_loops() {
    let pool = pool(2, 1000);
    let loops: Vec<_> = (0..3_u32)
        .map(|number| {
            let pool = pool.clone();
            thread::spawn(move || {
                let mut event_loop = event_loop();
                let results = Results::default();
                for _ in 0..100 {
                    submit(&pool, &mut event_loop, None, &results, move || number);
                }
                event_loop.run_until_idle().unwrap();
                assert_eq!(results.take(), vec![Ok(number); 100]);
            })
        })
        .collect();
    loops.into_iter().for_each(join);
    assert!(pool.shutdown(PATIENCE).is_clean());
}

/// A protocol that has each byte squared elsewhere.
struct Squares {
    pool: WorkerPool,
    squares: Vec<Result<u32, WorkError>>,
    busy: bool,
}

impl Squares {
    fn new(pool: &WorkerPool) -> Squares {
        Squares { pool: pool.clone(), squares: Vec::new(), busy: false }
    }

    fn squared(&mut self, _: &mut Transport<'_>, square: Result<u32, WorkError>) {
        assert!(!self.busy, "within its callback");
        self.squares.push(square);
    }
}

impl Protocol for Squares {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.busy = true;
        for number in data.iter().copied().map(u32::from) {
            self.pool.submit_for(transport, None, move || number * number, Squares::squared);
        }
        self.busy = false;
        data.len()
    }
}

/// A connection of the loop with a protocol, and its other end.
fn attach(event_loop: &mut EventLoop, protocol: Squares) -> (ConnectionId, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    let id = event_loop.context().attach(ours, protocol).unwrap();
    turn_until(event_loop, |context| context.counters().connections_made > 0);
    (id, theirs)
}

#[test]
fn workers_answer_a_protocol_between_its_callbacks() {
    let mut event_loop = event_loop();
    let (id, mut theirs) = attach(&mut event_loop, Squares::new(&pool(1, 10)));
    theirs.write_all(&[1, 2, 3]).unwrap();
    let squares = |squares: &mut Squares, _: &mut Transport<'_>| squares.squares.len();
    turn_until(&mut event_loop, |context| context.with_protocol(id, squares) == Ok(3));
    let squares = event_loop.context().with_protocol(id, |of: &mut Squares, _| of.squares.clone());
    assert_eq!(squares, Ok(vec![Ok(1), Ok(4), Ok(9)]));
}

#[test]
fn workers_refuse_a_protocol_later_and_not_within_its_call() {
    let mut event_loop = event_loop();
    let pool = pool(1, 0);
    let (work, begun, let_go) = gate();
    submit(&pool, &mut event_loop, None, &Results::default(), work);
    begun.recv_timeout(PATIENCE).unwrap();
    let (id, mut theirs) = attach(&mut event_loop, Squares::new(&pool));
    theirs.write_all(&[7]).unwrap();
    let squares = |squares: &mut Squares, _: &mut Transport<'_>| squares.squares.len();
    turn_until(&mut event_loop, |context| context.with_protocol(id, squares) == Ok(1));
    let told = event_loop.context().with_protocol(id, |of: &mut Squares, _| of.squares[0].clone());
    assert_eq!(told.unwrap().unwrap_err().to_string(), "the pool refused the work: too much work is waiting");
    let_go.send(1).unwrap();
}

#[test]
fn workers_answer_no_protocol_that_has_ended_and_do_not_begin_for_it() {
    let mut event_loop = event_loop();
    let pool = pool(1, 10);
    let (work, begun, let_go) = gate();
    submit(&pool, &mut event_loop, None, &Results::default(), work);
    begun.recv_timeout(PATIENCE).unwrap();
    let (id, theirs) = attach(&mut event_loop, Squares::new(&pool));
    let has_begun = Arc::new(AtomicUsize::new(0));
    let begins = has_begun.clone();
    let mut context = event_loop.context();
    let mut transport = context.connection(id).unwrap();
    let late = Some(Duration::from_secs(3600));
    let work = move || begins.fetch_add(1, Ordering::SeqCst);
    pool.submit_for(&mut transport, late, work, |_: &mut Squares, _, _| panic!("it has ended"));
    transport.close();
    pool.submit_for(&mut transport, late, || (), |_: &mut Squares, _, _| panic!("it has ended"));
    drop(theirs);
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    let_go.send(1).unwrap();
    let began = Instant::now();
    event_loop.run_until_idle().unwrap();
    assert!(began.elapsed() < PATIENCE, "nothing is waited for any more");
    // The one thread does this after everything that was queued before.
    submit(&pool, &mut event_loop, None, &Results::default(), || ());
    event_loop.run_until_idle().unwrap();
    assert_eq!(has_begun.load(Ordering::SeqCst), 0);
}

#[test]
fn workers_of_a_simulated_loop_work_on_its_thread_and_take_no_time() {
    let pool = pool(2, 0);
    let mut harness = Harness::new(Squares::new(&pool));
    harness.feed(&[4, 5]);
    let squares = harness.with_protocol(|of: &mut Squares, _| of.squares.clone());
    assert_eq!(squares, Ok(vec![Ok(16), Ok(25)]));
    let (here, there) = (thread::current().id(), Rc::new(RefCell::new(Vec::new())));
    let (notes, mut context) = (there.clone(), harness.context());
    let timeout = Some(Duration::from_millis(1));
    let note = move |_: &mut Context<'_>, id: Result<_, WorkError>| notes.borrow_mut().push(id.unwrap());
    pool.submit(&mut context, timeout, || thread::current().id(), note);
    let has_begun = Arc::new(AtomicUsize::new(0));
    let begins = has_begun.clone();
    let work = move || begins.fetch_add(1, Ordering::SeqCst);
    let cancelled = pool.submit(&mut context, None, work, |_, _| panic!("it was cancelled"));
    assert!(there.borrow().is_empty(), "not within this call");
    assert!(cancelled.cancel(&mut context));
    harness.settle();
    assert_eq!((there.take(), has_begun.load(Ordering::SeqCst)), (vec![here], 0));
    assert_eq!(harness.time_to_next(), None);
}
