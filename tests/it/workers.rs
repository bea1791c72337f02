//! Work off the loop's thread: a bounded pool, whose results come back as calls on the loop.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use switchboard::workers::{Job, WorkError, WorkerPool};
use switchboard::{Context, EventLoop};

use crate::support::{PATIENCE, event_loop, join};

fn pool(threads: usize, queue_max: usize) -> WorkerPool {
    WorkerPool::new(NonZeroUsize::new(threads).unwrap(), queue_max)
}

/// The results of work, as the loop was told of them.
type Results<T> = Rc<RefCell<Vec<Result<T, WorkError>>>>;

/// Submits work that notes its result.
fn submit<T: Send + 'static>(
    pool: &WorkerPool,
    event_loop: &mut EventLoop,
    deadline: Option<Duration>,
    results: &Results<T>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Job> {
    let results = results.clone();
    pool.submit(&mut event_loop.context(), deadline, work, move |_, result| results.borrow_mut().push(result))
}

/// Work that says when it has begun, and waits to be let go.
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
        pool.submit(&mut event_loop.context(), None, work, done).unwrap();
    }
    event_loop.run_until_idle().unwrap();
    let (mut numbers, mut threads): (Vec<_>, Vec<_>) = results.take().into_iter().unzip();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    assert!(!threads.contains(&here));
    threads.sort_unstable_by_key(|thread| format!("{thread:?}"));
    threads.dedup();
    assert!(threads.len() <= THREADS && most.load(Ordering::SeqCst) <= THREADS);
    assert!(pool.shutdown(PATIENCE));
}

#[test]
fn workers_one_thread_works_in_order() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1000);
    let results = Results::default();
    for number in 0..100 {
        submit(&pool, &mut event_loop, None, &results, move || number).unwrap();
    }
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), (0..100).map(Ok).collect::<Vec<_>>());
}

#[test]
fn workers_one_job_too_many_is_refused_and_neither_closure_is_called() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    submit(&pool, &mut event_loop, None, &results, work).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    submit(&pool, &mut event_loop, None, &results, || 2).unwrap();
    let late = Some(Duration::from_secs(3600));
    let refused = submit(&pool, &mut event_loop, late, &results, || panic!("it was refused")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
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
            pool.submit(context, None, || {}, move |context, _| next(again, context, left - 1)).unwrap();
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
    submit(&pool, &mut event_loop, None, &results, || panic!("no {}", 1)).unwrap();
    submit(&pool, &mut event_loop, None, &results, || 2).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::Panic("no 1".into())), Ok(2)]);
    assert!(pool.shutdown(PATIENCE), "its thread has not died of it");
}

#[test]
fn workers_at_the_deadline_the_loop_goes_on_without_what_runs_and_what_waits_never_runs() {
    let mut event_loop = event_loop();
    let pool = pool(1, 1);
    let results = Results::default();
    let (work, begun, let_go) = gate();
    let soon = Some(Duration::from_millis(1));
    submit(&pool, &mut event_loop, soon, &results, work).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    submit(&pool, &mut event_loop, soon, &results, || panic!("its deadline has passed")).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Err(WorkError::TimedOut), Err(WorkError::TimedOut)]);
    // What waited has left its place to others.
    let far = Some(Duration::from_secs(3600));
    submit(&pool, &mut event_loop, far, &results, || 3).unwrap();
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
    let running = submit(&pool, &mut event_loop, None, &results, work).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let waiting = submit(&pool, &mut event_loop, None, &results, || panic!("it was cancelled")).unwrap();
    for job in [&running, &waiting] {
        assert!(job.cancel(&mut event_loop.context()));
        assert!(!job.cancel(&mut event_loop.context()), "once is enough");
    }
    submit(&pool, &mut event_loop, None, &results, || 3).unwrap();
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
    submit(&pool, &mut ends, None, &results, move || (work(), held).0).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    drop(ends);
    assert_eq!(Rc::strong_count(&results), 1, "the loop has dropped what waited");
    let mut stays = event_loop();
    submit(&pool, &mut stays, None, &results, || panic!("its pool is gone")).unwrap();
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
    submit(&pool, &mut event_loop, None, &results, work).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    assert!(!pool.shutdown(Duration::ZERO), "one thread is at work");
    let refused = submit(&pool.clone(), &mut event_loop, None, &results, || 2).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    let_go.send(1).unwrap();
    assert!(pool.shutdown(PATIENCE));
    assert!(format!("{pool:?}").contains("threads: 0"), "{pool:?}");
    event_loop.run_until_idle().unwrap();
    assert_eq!(results.take(), [Ok(1)]);
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
                    submit(&pool, &mut event_loop, None, &results, move || number).unwrap();
                }
                event_loop.run_until_idle().unwrap();
                assert_eq!(results.take(), vec![Ok(number); 100]);
            })
        })
        .collect();
    loops.into_iter().for_each(join);
    assert!(pool.shutdown(PATIENCE));
}
