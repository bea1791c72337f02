//! Work in threads other than the loop's.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use switchboard::EventLoop;
use switchboard::workers::{Job, WorkError, WorkerPool};

#[test]
fn work_is_done_elsewhere_and_answered_here() {
    let mut event_loop = EventLoop::new().unwrap();
    let pool = WorkerPool::new(NonZeroUsize::MIN, 10);
    let results = Rc::new(RefCell::new(Vec::new()));
    let mut submit = |deadline, work: fn() -> u32| -> Job {
        let results = results.clone();
        let done = move |_: &mut switchboard::Context<'_>, result: Result<u32, WorkError>| {
            results.borrow_mut().push(result.map_err(|error| error.to_string()));
        };
        pool.submit(&mut event_loop.context(), deadline, work, done)
    };
    submit(None, || 6 * 7);
    submit(Some(Duration::from_secs(60)), || panic!("not today"));
    let cancelled = submit(None, || 43);
    assert!(cancelled.cancel(&mut event_loop.context()));
    event_loop.run_until_idle().unwrap();
    assert_eq!(*results.borrow(), [Ok(42), Err("the work panicked: not today".to_owned())]);
    assert!(pool.shutdown(Duration::from_secs(10)).is_clean());
}
