//! A process in which no thread can be started: their stacks cannot be mapped. Code that needs one gets an error, and
//! nothing panics.

use std::cell::RefCell;
use std::io::ErrorKind;
#[cfg(feature = "server")]
use std::io::Read;
use std::num::NonZeroUsize;
use std::process::Command;
use std::rc::Rc;

use switchboard::workers::{EventLoopGroup, LoopFailure, WorkError, WorkerPool};
use switchboard::{ConnectError, Context, Protocol, Transport};

use crate::support::{event_loop, this_program, turn_until};

/// What std reads for the size of the stacks of its threads.
const STACK: (&str, &str) = ("RUST_MIN_STACK", "1152921504606846976");

/// Runs a test of this file in a separate process, in which no thread can be started.
#[track_caller]
fn run_without_threads(test: &str) {
    let mut command = Command::new(this_program());
    command.args(["--exact", &format!("no_threads::{test}"), "--ignored", "--test-threads=1"]).env(STACK.0, STACK.1);
    let output = command.output().unwrap();
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
