//! Rule G1 with real threads and a real poller.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{
    AnyId, ConnectionId, Context, EventLoop, Handle, LoopLimits, PanicPolicy, PostError, Protocol, Rate, Transport,
};

use crate::support::{PATIENCE, any_port, connect, event_loop, join, listen, read_all, turn_until};

const THREADS: u64 = 8;

/// Posts until the queue takes it; so that tests may use a small one.
fn post_patiently<F: FnOnce(&mut Context<'_>) + Send + 'static>(handle: &Handle, mut call: F) {
    while let Err(refused) = handle.post(call) {
        assert!(matches!(refused, PostError::Full(_)), "{refused}");
        call = refused.into_inner();
        thread::yield_now();
    }
}

/// Makes the test fail rather than hang. (The timer ends no wait before that.)
fn fail_after_patience(event_loop: &mut EventLoop) {
    let mut context = event_loop.context();
    let deadline = context.call_later(PATIENCE, |_| panic!("waited for {PATIENCE:?} in vain"));
    context.set_background(deadline, true);
}

#[test]
fn g1_every_command_of_eight_threads_runs_once_and_in_order() {
    const COMMANDS: u64 = 20_000;
    thread_local! {
        /// What comes next from each thread.
        static NEXT: Cell<[u64; THREADS as usize]> = const { Cell::new([0; THREADS as usize]) };
    }
    let limits = LoopLimits::default().with_commands_max(1000).with_commands_per_turn_max(64);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    event_loop.set_panic_policy(PanicPolicy::Propagate);
    let handle = event_loop.context().handle();
    let senders: Vec<_> = (0..THREADS)
        .map(|sender| {
            let handle = handle.clone();
            thread::spawn(move || {
                for number in 0..COMMANDS {
                    post_patiently(&handle, move |context| {
                        let mut next = NEXT.get();
                        assert_eq!(std::mem::replace(&mut next[sender as usize], number + 1), number);
                        NEXT.set(next);
                        if next == [COMMANDS; THREADS as usize] {
                            context.stop();
                        }
                    });
                }
            })
        })
        .collect();
    // Only their wake-ups end its waits.
    fail_after_patience(&mut event_loop);
    event_loop.run().unwrap();
    senders.into_iter().for_each(join);
    assert_eq!(event_loop.context().counters().commands_run, THREADS * COMMANDS);
}

#[test]
fn g1_a_completion_keeps_a_loop_from_being_idle_and_wakes_it_unless_it_is_background() {
    let mut event_loop = event_loop();
    fail_after_patience(&mut event_loop);
    let given = Rc::new(Cell::new(0));
    for background in [false, true] {
        let notes = given.clone();
        let call = move |_: &mut Context<'_>, value: Option<u32>| notes.set(value.unwrap());
        let completion = event_loop.context().completion(call).unwrap();
        if background {
            assert!(event_loop.context().set_background(completion.id(), true));
            event_loop.run_until_idle().unwrap();
            assert_eq!(given.take(), 0, "it was not waited for");
        } else {
            let (begun, begins) = mpsc::channel();
            event_loop.context().call_later(Duration::ZERO, move |_| begun.send(()).unwrap());
            let other = thread::spawn(move || {
                begins.recv_timeout(PATIENCE).unwrap();
                completion.complete(7).unwrap();
            });
            event_loop.run_until_idle().unwrap();
            assert_eq!(given.take(), 7);
            join(other);
        }
    }
}

#[test]
fn g1_a_command_wakes_a_loop_that_sleeps() {
    let mut event_loop = event_loop();
    let handle = event_loop.context().handle();
    let (asleep, sleeps) = mpsc::channel();
    let poster = thread::spawn(move || {
        for _ in 0..1000 {
            sleeps.recv_timeout(PATIENCE).unwrap();
            handle.post(|context| context.stop()).unwrap();
        }
    });
    fail_after_patience(&mut event_loop);
    for _ in 0..1000 {
        asleep.send(()).unwrap();
        // This does not return without the wake.
        event_loop.run().unwrap();
    }
    join(poster);
}

#[test]
fn g1_commands_from_before_the_loop_runs_wait_for_it() {
    let mut event_loop = event_loop();
    let handle = event_loop.context().handle();
    join(thread::spawn(move || handle.post(|context| context.stop()).unwrap()));
    fail_after_patience(&mut event_loop);
    event_loop.run().unwrap();
    assert_eq!(event_loop.context().counters().commands_run, 1);
}

/// Reports its id, and records its input.
struct Introduces(mpsc::Sender<ConnectionId>);

impl Protocol for Introduces {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.0.send(transport.id()).unwrap();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn g1_another_thread_writes_to_connections_and_closes_and_aborts_them() {
    let mut event_loop = event_loop();
    let (introduce, introduced) = mpsc::channel();
    let address = listen(&mut event_loop, move || Introduces(introduce.clone()));
    let handle = event_loop.context().handle();
    let clients = thread::spawn(move || {
        for _ in 0..20 {
            let mut client = connect(address);
            let id = introduced.recv_timeout(PATIENCE).unwrap();
            for word in ["one ", "two ", "three"] {
                handle.write(id, word).unwrap();
            }
            handle.close(id).unwrap();
            assert_eq!(read_all(&mut client), b"one two three");
            // It may be gone by now, and then nothing happens.
            handle.write(id, "late").unwrap();
            handle.abort(id).unwrap();

            let mut client = connect(address);
            let id = introduced.recv_timeout(PATIENCE).unwrap();
            handle.abort(id).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
    });
    turn_until(&mut event_loop, |context| clients.is_finished() && context.connection_count() == 0);
    join(clients);
    assert_eq!(event_loop.context().counters().commands_run, 20 * 7);
}

#[test]
fn g1_posting_without_end_does_not_starve_a_timer_and_the_queue_stays_bounded() {
    let limits = LoopLimits::default().with_commands_max(100);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let handle = event_loop.context().handle();
    let senders: Vec<_> = (0..THREADS)
        .map(|_| {
            let handle = handle.clone();
            thread::spawn(move || {
                let start = Instant::now();
                while !matches!(handle.post(|_| ()), Err(PostError::Gone(_))) {
                    assert!(start.elapsed() < PATIENCE, "the end of the loop is not told");
                }
            })
        })
        .collect();
    let ticks = Rc::new(Cell::new(0));
    fn tick(context: &mut Context<'_>, ticks: Rc<Cell<u32>>) {
        ticks.set(ticks.get() + 1);
        context.call_later(Duration::from_millis(1), |context| tick(context, ticks));
    }
    tick(&mut event_loop.context(), ticks.clone());
    turn_until(&mut event_loop, |_| ticks.get() > 50);
    drop(event_loop);
    // The end of the loop ends them.
    senders.into_iter().for_each(join);
    assert!(handle.commands_dropped() <= 100);
}

#[test]
fn g1_a_loop_that_ends_while_others_post_runs_drops_or_gives_back_each_command() {
    for _ in 0..50 {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.context().handle();
        let senders: Vec<_> = (0..THREADS)
            .map(|_| {
                let handle = handle.clone();
                thread::spawn(move || {
                    let posted = (0..).take_while(|_| handle.post(|_| ()).is_ok());
                    posted.count() as u64
                })
            })
            .collect();
        event_loop.turn(None).unwrap();
        let ran = event_loop.context().counters().commands_run;
        drop(event_loop);
        let posted: u64 = senders.into_iter().map(join).sum();
        assert_eq!(posted, ran + handle.commands_dropped() as u64);
    }
}

#[test]
fn g1_a_handle_and_its_errors_go_everywhere() {
    fn goes_everywhere<T: Send + Sync + Clone + 'static>() {}
    fn is_an_error<T: std::error::Error>() {}
    goes_everywhere::<Handle>();
    is_an_error::<PostError<Box<dyn FnOnce(&mut Context<'_>) + Send>>>();
    let mut event_loop = event_loop();
    let _listener = event_loop.context().listen(any_port(), |_, _| None::<Introduces>).unwrap();
    assert_eq!(format!("{:?}", event_loop.context().handle()), "Handle { .. }");
}

#[test]
fn c4_an_id_of_one_loop_is_stale_in_every_other() {
    let (mut one, mut other) = (event_loop(), event_loop());
    // Both count alike.
    let [listeners, timers, groups] = {
        let mut made = [vec![], vec![], vec![]];
        for event_loop in [&mut one, &mut other] {
            let mut context = event_loop.context();
            let listener = context.listen(any_port(), |_, _| None::<Introduces>).unwrap();
            made[0].push(AnyId::from(listener));
            made[1].push(AnyId::from(context.call_later(PATIENCE, |_| ())));
            made[2].push(AnyId::from(context.completion(|_, _: Option<()>| ()).unwrap().id()));
        }
        made
    };
    for ids in [&listeners, &timers, &groups] {
        assert_ne!(ids[0], ids[1]);
        assert!(!other.context().set_background(ids[0], true), "{:?} means something there", ids[0]);
        assert!(!one.context().set_background(ids[1], true), "{:?} means something there", ids[1]);
        assert!(one.context().set_background(ids[0], true) && other.context().set_background(ids[1], true));
    }
    let (AnyId::Listener(listener), AnyId::Timer(timer)) = (listeners[0], timers[0]) else { panic!("{listeners:?}") };
    assert!(other.context().listener(listener).is_none());
    assert!(!other.context().cancel_timer(timer));
    let groups = [&mut one, &mut other].map(|event_loop| event_loop.context().add_rate_group(Rate::new(1000)));
    assert!(!other.context().remove_rate_group(groups[0]));
    assert!(one.context().remove_rate_group(groups[0]) && other.context().remove_rate_group(groups[1]));
    // Displayed, they differ by their loops.
    let [shown, others] = [0, 1].map(|n| format!("{:?}", listeners[n]));
    assert_ne!(shown, others);
}
