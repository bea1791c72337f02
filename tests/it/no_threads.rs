//! A process in which no thread can be started: their stacks cannot be mapped. Code that needs one gets an error, and
//! nothing panics. And one in which that passes: what waits for a thread gets it then.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::cell::RefCell;
use std::io::ErrorKind;
#[cfg(feature = "server")]
use std::io::Read;
use std::num::NonZeroUsize;
use std::process::Command;
use std::rc::Rc;
#[cfg(target_os = "linux")]
use std::sync::{Arc, Barrier, mpsc};
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use switchboard::EventLoop;
use switchboard::workers::{EventLoopGroup, LoopFailure, WorkError, WorkerPool};
use switchboard::{ConnectError, Context, Protocol, Transport};

#[cfg(target_os = "linux")]
use crate::support::PATIENCE;
use crate::support::{event_loop, this_program, turn_until};

/// What std reads for the size of the stacks of its threads.
const STACK: (&str, &str) = ("RUST_MIN_STACK", "1152921504606846976");

/// Runs a test of this file in a separate process, in which no thread can be started.
#[track_caller]
fn run_without_threads(test: &str) {
    run_alone(test, &[STACK]);
}

/// Runs a test of this file in a separate process, with this in its environment.
#[track_caller]
fn run_alone(test: &str, environment: &[(&str, &str)]) {
    let mut command = Command::new(this_program());
    command.args(["--exact", &format!("no_threads::{test}"), "--ignored", "--test-threads=1"]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn require_no_threads() {
    let error = std::thread::Builder::new().spawn(|| ()).expect_err("a thread can be started here");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn group_that_cannot_start_its_threads_says_so() {
    run_without_threads("a_group");
}

#[test]
#[ignore = "runs where no thread can be started: the test above does that"]
fn a_group() {
    require_no_threads();
    let error = EventLoopGroup::new(NonZeroUsize::new(3).unwrap()).unwrap_err();
    assert_eq!(error.loop_index(), 0);
    assert!(matches!(error.failure(), LoopFailure::Io(error) if error.kind() == ErrorKind::WouldBlock), "{error:?}");
    assert!(error.to_string().starts_with("loop 0 failed: cannot start a thread: "), "{error}");
}

#[test]
fn group_whose_threads_would_have_an_impossible_name_says_so() {
    let error = EventLoopGroup::builder(NonZeroUsize::MIN).name("nul\0").start().unwrap_err();
    assert!(matches!(error.failure(), LoopFailure::Io(error) if error.kind() == ErrorKind::InvalidInput), "{error:?}");
}

#[test]
fn workers_that_cannot_be_started_refuse_the_work() {
    run_without_threads("a_pool");
}

#[test]
#[ignore = "runs where no thread can be started: the test above does that"]
fn a_pool() {
    require_no_threads();
    let mut event_loop = event_loop();
    let pool = WorkerPool::new(NonZeroUsize::new(4).unwrap(), 10);
    let refused = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..3 {
        let refused = refused.clone();
        let note = move |_: &mut Context<'_>, done: Result<(), WorkError>| refused.borrow_mut().push(done.unwrap_err());
        pool.submit(&mut event_loop.context(), None, || (), note);
    }
    event_loop.run_until_idle().unwrap();
    let refused = refused.take();
    assert_eq!(refused.len(), 3);
    for why in refused {
        assert!(matches!(&why, WorkError::Refused(why) if why.starts_with("cannot start a thread: ")), "{why}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn workers_that_cannot_be_started_are_once_they_can_though_the_others_never_end() {
    run_alone("a_pool_that_lacks_a_thread", &[]);
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "limits the memory of its process: the test above runs it in one"]
fn a_pool_that_lacks_a_thread() {
    let mut event_loop = event_loop();
    let pool = WorkerPool::new(NonZeroUsize::new(4).unwrap(), 0);
    let done = Rc::new(RefCell::new(Vec::new()));
    let submit = |event_loop: &mut EventLoop, work: Box<dyn FnOnce() -> u32 + Send>| {
        let done = done.clone();
        let note = move |_: &mut Context<'_>, result: Result<u32, WorkError>| done.borrow_mut().push(result.unwrap());
        pool.submit(&mut event_loop.context(), None, work, note);
    };
    let ((begins, begun), (let_go, held)) = (mpsc::channel(), mpsc::channel::<()>());
    submit(
        &mut event_loop,
        Box::new(move || {
            begins.send(()).unwrap();
            // Until the test is over.
            held.recv().map_or(1, |()| 0)
        }),
    );
    begun.recv_timeout(PATIENCE).unwrap();
    limit_memory(|| {
        require_no_threads();
        // These need a thread each.
        let both = Arc::new(Barrier::new(2));
        for number in 2..4 {
            let both = both.clone();
            submit(&mut event_loop, Box::new(move || (both.wait(), number).1));
        }
        // Starting them is tried again meanwhile, more than once.
        let is_over = Rc::new(Cell::new(false));
        let over = is_over.clone();
        event_loop.context().call_later(Duration::from_millis(35), move |_| over.set(true));
        turn_until(&mut event_loop, |_| is_over.get());
        assert!(done.borrow().is_empty(), "there was no thread for it");
    });
    turn_until(&mut event_loop, |_| done.borrow().len() == 2);
    done.borrow_mut().sort_unstable();
    assert_eq!(done.take(), [2, 3]);
    drop(let_go);
    event_loop.run_until_idle().unwrap();
    assert_eq!(done.take(), [1]);
}

/// Leaves the process no memory for a thread's stack meanwhile.
#[cfg(target_os = "linux")]
fn limit_memory(meanwhile: impl FnOnce()) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (before, maximum) = getrlimit(Resource::RLIMIT_AS).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size_kib = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let size = size_kib.unwrap().parse::<u64>().unwrap() * 1024;
    // A stack takes 2 MiB.
    setrlimit(Resource::RLIMIT_AS, size + (1 << 20), maximum).unwrap();
    meanwhile();
    setrlimit(Resource::RLIMIT_AS, before, maximum).unwrap();
}

/// Records why the connect failed.
struct Failing(Rc<RefCell<Option<String>>>);

impl Protocol for Failing {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        *self.0.borrow_mut() = Some(error.to_string());
    }
}

#[test]
fn k7_a_lookup_for_which_there_is_no_thread_fails_and_says_why() {
    run_without_threads("a_lookup");
}

#[test]
#[ignore = "runs where no thread can be started: the test above does that"]
fn a_lookup() {
    require_no_threads();
    let mut event_loop = event_loop();
    // More than are looked up at once: none of them is left waiting.
    let failed: Vec<_> = (0..20).map(|_| Rc::new(RefCell::new(None))).collect();
    for noted in &failed {
        event_loop.context().connect(("localhost", 1), Failing(noted.clone())).unwrap();
    }
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    for noted in failed {
        let noted = noted.borrow().clone().expect("it is told");
        assert!(noted.contains("cannot start a thread: "), "{noted}");
    }
}

#[test]
#[cfg(feature = "server")]
fn handlers_for_which_there_is_no_thread_reset_their_clients_and_it_is_told() {
    run_without_threads("a_server");
}

#[test]
#[cfg(feature = "server")]
#[ignore = "runs where no thread can be started: the test above does that"]
fn a_server() {
    use switchboard::server::{Request, Requests};
    require_no_threads();
    let mut event_loop = event_loop();
    let told = Rc::new(RefCell::new(Vec::new()));
    let notes = told.clone();
    let handler =
        || |_: &mut Request| -> Result<(), Box<dyn std::error::Error + Send + Sync>> { panic!("nobody is served") };
    let requests = Requests::threads(NonZeroUsize::new(2).unwrap(), handler);
    let requests = requests.on_error(move |_, _, error| notes.borrow_mut().push(error.to_string()));
    let mut context = event_loop.context();
    let serving = requests.listen(&mut context, crate::support::any_port()).unwrap();
    let address = serving.local_addr().as_inet().unwrap();
    for round in 1..=5 {
        let mut client = crate::support::connect(address);
        turn_until(&mut event_loop, |_| told.borrow().len() == round);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(told.borrow()[round - 1].contains("cannot start a thread: "), "{told:?}");
    }
    assert_eq!(serving.in_progress(), 0);
}
