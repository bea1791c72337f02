//! Rule G1: commands that handles send to the loop.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::sys::script::Call;
use crate::{Completion, Context, Handle, PostError};

/// The commands that were run, in order; closures of other threads need one that is `Send`.
#[derive(Clone, Default)]
struct Ran(Arc<Mutex<Vec<usize>>>);

impl Ran {
    /// A command that logs `number`.
    fn notes(&self, number: usize) -> impl FnOnce(&mut Context<'_>) + Send + 'static {
        let ran = self.clone();
        move |_| ran.0.lock().unwrap().push(number)
    }

    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn with_handle(limits: impl Into<LoopLimits>) -> (Scene, Handle) {
    let mut scene = Scene::with_limits(limits);
    let handle = scene.event_loop.context().handle();
    (scene, handle)
}

fn commands_run(scene: &mut Scene) -> u64 {
    scene.event_loop.context().counters().commands_run
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn g1_commands_run_in_the_order_they_were_posted_each_once() {
    let (mut scene, handle) = with_handle(Limits::default());
    let ran = Ran::default();
    for number in 0..10 {
        handle.clone().post(ran.notes(number)).unwrap();
    }
    assert!(ran.take().is_empty(), "nothing runs but in a turn");
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.turn();
    assert_eq!(ran.take(), (0..10).collect::<Vec<_>>());
    assert_eq!(scene.event_loop.time_to_next(), None);
    scene.settle();
    assert!(ran.take().is_empty());
    assert_eq!(commands_run(&mut scene), 10);
}

#[test]
fn g1_commands_of_several_threads_keep_the_order_of_each() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_per_turn_max(7));
    let ran = Ran::default();
    let senders = [0, 1000, 2000].map(|first| {
        let (handle, ran) = (handle.clone(), ran.clone());
        thread::spawn(move || (first..first + 50).for_each(|number| handle.post(ran.notes(number)).unwrap()))
    });
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(scene.settle() >= 150 / 7);
    let ran = ran.take();
    assert_eq!(ran.len(), 150);
    for first in [0, 1000, 2000] {
        assert!(ran.iter().filter(|&number| number / 1000 * 1000 == first).copied().eq(first..first + 50));
    }
}

#[test]
fn g1_what_a_handle_writes_and_closes_goes_out_in_the_same_turn_and_in_order() {
    let (mut scene, handle) = with_handle(Limits::default());
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    handle.write(id, "one ").unwrap();
    handle.post(move |context| context.connection(id).unwrap().write(b"two ")).unwrap();
    handle.write(id, vec![b'3']).unwrap();
    handle.close(id).unwrap();
    handle.write(id, "late").unwrap();
    peer.take_calls();
    scene.turn();
    assert_eq!(peer.take_sent(), b"one two 3");
    assert_eq!(peer.take_calls().first(), Some(&Call::Write(9)), "one send for them all");
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: closed by us"]);
    assert_eq!(scene.event_loop.context().counters().late_writes, 1);
    assert_eq!(commands_run(&mut scene), 5);
}

#[test]
fn g1_abort_resets_and_drops_what_was_written() {
    let (mut scene, handle) = with_handle(Limits::default());
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    handle.write(id, "never sent").unwrap();
    handle.abort(id).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: aborted by us"]);
    assert!(peer.take_sent().is_empty());
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

#[test]
fn g1_commands_for_a_connection_that_has_ended_are_harmless_and_its_writes_counted() {
    let (mut scene, handle) = with_handle(Limits::default());
    let (id, _peer) = scene.accept(&Log::default(), echo);
    scene.tell(id, abort);
    let log = Log::default();
    let (_, successor) = scene.accept(&log, echo);
    handle.write(id, "late").unwrap();
    handle.close(id).unwrap();
    handle.abort(id).unwrap();
    scene.settle();
    assert_eq!(scene.event_loop.context().counters().late_writes, 1);
    assert_eq!(log.take(), ["made"]);
    assert!(successor.take_sent().is_empty() && !successor.is_closed(), "it has the slot of the one that was meant");
}

#[test]
fn g1_a_full_queue_gives_the_command_back() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_max(2));
    let (id, peer) = scene.accept(&Log::default(), echo);
    let ran = Ran::default();
    handle.post(ran.notes(0)).unwrap();
    handle.post(ran.notes(1)).unwrap();
    let refused = handle.post(ran.notes(2)).unwrap_err();
    assert!(matches!(refused, PostError::Full(_)));
    let error: &dyn Error = &refused;
    assert_eq!(
        (error.to_string().as_str(), format!("{error:?}")),
        ("too many commands are waiting for the loop", "Full(..)".into())
    );
    assert_eq!(handle.write(id, "x"), Err(PostError::Full(b"x".to_vec())));
    assert_eq!(handle.close(id), Err(PostError::Full(id)));
    assert_eq!(handle.abort(id), Err(PostError::Full(id)));
    scene.settle();
    assert_eq!(ran.take(), [0, 1]);
    // There is room again, and the returned command is intact.
    handle.post(refused.into_inner()).unwrap();
    scene.settle();
    assert_eq!(ran.take(), [2]);
    assert!(peer.take_sent().is_empty() && !peer.is_closed());
}

#[test]
fn g1_a_loop_that_is_gone_gives_the_command_back() {
    let (mut scene, handle) = with_handle(Limits::default());
    let (id, _peer) = scene.accept(&Log::default(), echo);
    assert_eq!(handle.commands_dropped(), 0);
    drop(scene);
    let refused = handle.post(|_| unreachable!("nobody can run it")).unwrap_err();
    assert!(matches!(refused, PostError::Gone(_)));
    assert_eq!((refused.to_string().as_str(), format!("{refused:?}")), ("the loop is gone", "Gone(..)".into()));
    assert_eq!(handle.write(id, "x"), Err(PostError::Gone(b"x".to_vec())));
    assert_eq!(handle.close(id), Err(PostError::Gone(id)));
    assert_eq!(handle.abort(id), Err(PostError::Gone(id)));
    handle.stop();
    assert_eq!(handle.commands_dropped(), 0, "what was given back is not lost");
}

#[test]
fn g1_what_waits_when_the_loop_is_dropped_is_dropped_and_counted_whatever_its_destructors_do() {
    /// Uses the handle, and then panics.
    struct Nasty(Handle, Arc<AtomicUsize>);
    impl Drop for Nasty {
        fn drop(&mut self) {
            assert!(matches!(self.0.post(|_| ()), Err(PostError::Gone(_))), "it is closed before anything is dropped");
            self.0.stop();
            assert_eq!(self.0.commands_dropped(), 3);
            self.1.fetch_add(1, Ordering::Relaxed);
            panic!("in a destructor");
        }
    }
    let (scene, handle) = with_handle(Limits::default());
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let nasty = Nasty(handle.clone(), dropped.clone());
        handle.post(move |_| drop(nasty)).unwrap();
    }
    let counted = Counted(dropped.clone());
    handle.post(move |_| drop(counted)).unwrap();
    drop(scene);
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
    assert_eq!(handle.commands_dropped(), 3);
}

#[test]
fn g1_a_command_from_a_last_callback_is_given_back() {
    let (mut scene, handle) = with_handle(Limits::default());
    let log = Log::default();
    let noted = log.clone();
    scene.accept(&Log::default(), move |event, transport| {
        if let Event::Lost(_) = event {
            noted.push(format!("{:?}", handle.post(|_| ()).unwrap_err()));
        }
        by_default(&event, transport)
    });
    drop(scene);
    assert_eq!(log.take(), ["Gone(..)"]);
}

#[test]
fn g1_wakes_coalesce_to_one_until_the_loop_looks() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_per_turn_max(100));
    for _ in 0..3 {
        for _ in 0..50 {
            handle.post(|_| ()).unwrap();
        }
        assert_eq!(scene.world.take_wakes(), 1);
        scene.turn();
    }
    // A loop that carries commands over does not sleep, so it need not be woken.
    for _ in 0..150 {
        handle.post(|_| ()).unwrap();
    }
    assert_eq!(scene.world.take_wakes(), 1);
    scene.turn();
    handle.post(|_| ()).unwrap();
    assert_eq!(scene.world.take_wakes(), 0);
    scene.settle();
    handle.post(|_| ()).unwrap();
    assert_eq!(scene.world.take_wakes(), 1);
    assert_eq!(commands_run(&mut scene), 301);
}

#[test]
fn g1_a_command_ends_a_wait() {
    let (mut scene, handle) = with_handle(Limits::default());
    let start = scene.world.now();
    scene.event_loop.context().call_later(3_600_000 * MS, |_| unreachable!("nothing waits for that long"));
    handle.post(|_| ()).unwrap();
    scene.event_loop.turn(None).unwrap();
    assert_eq!(scene.world.now(), start);
    assert_eq!(commands_run(&mut scene), 1);
}

#[test]
fn g1_a_wake_that_fails_loses_nothing_and_the_next_command_tries_again() {
    let (mut scene, handle) = with_handle(Limits::default());
    let ran = Ran::default();
    scene.world.set_waking_fails(true);
    handle.post(ran.notes(0)).unwrap();
    handle.post(ran.notes(1)).unwrap();
    assert_eq!(scene.world.take_wakes(), 2);
    scene.world.set_waking_fails(false);
    handle.post(ran.notes(2)).unwrap();
    handle.post(ran.notes(3)).unwrap();
    assert_eq!(scene.world.take_wakes(), 1);
    scene.turn();
    assert_eq!(ran.take(), [0, 1, 2, 3]);
}

#[test]
fn g1_a_bounded_number_runs_in_a_turn_and_the_rest_is_carried_over() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_per_turn_max(3));
    let ran = Ran::default();
    let log = Log::default();
    let noted = log.clone();
    scene.event_loop.context().call_later(Duration::ZERO, move |_| noted.push("timer"));
    for number in 0..7 {
        handle.post(ran.notes(number)).unwrap();
    }
    scene.world.take_waits();
    for expected in [&[0, 1, 2][..], &[3, 4, 5], &[6]] {
        assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
        scene.event_loop.turn(None).unwrap();
        assert_eq!(ran.take(), expected);
        assert_eq!(log.take().len(), usize::from(expected[0] == 0), "the timer had its turn beside the first");
    }
    assert_eq!(scene.world.take_waits(), [Some(Duration::ZERO); 3]);
    assert_eq!(scene.event_loop.time_to_next(), None);
}

#[test]
fn g1_a_bound_of_none_a_turn_counts_as_one() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_per_turn_max(0));
    let ran = Ran::default();
    (0..2).for_each(|number| handle.post(ran.notes(number)).unwrap());
    scene.turn();
    assert_eq!(ran.take(), [0]);
    scene.turn();
    assert_eq!(ran.take(), [1]);
}

#[test]
fn g1_a_command_posted_by_a_command_waits_for_the_next_turn_which_does_not_sleep() {
    let (mut scene, handle) = with_handle(Limits::default());
    let ran = Ran::default();
    let (first, again) = (ran.notes(1), ran.notes(2));
    handle
        .post(move |context| {
            first(context);
            context.handle().post(again).unwrap();
        })
        .unwrap();
    scene.turn();
    assert_eq!(ran.take(), [1]);
    assert_eq!(scene.event_loop.time_to_next(), Some(Duration::ZERO));
    scene.turn();
    assert_eq!(ran.take(), [2]);
}

#[test]
fn g1_a_command_that_posts_itself_for_ever_starves_nobody() {
    fn again(context: &mut Context<'_>) {
        context.handle().post(again).unwrap();
    }
    let (mut scene, handle) = with_handle(Limits::default());
    handle.post(again).unwrap();
    let log = Log::default();
    let (_, peer) = scene.accept(&log, echo);
    peer.sends("x");
    scene.world.event(&peer, Readiness::READABLE);
    for _ in 0..3 {
        scene.turn();
    }
    assert_eq!(log.take(), ["made", "data x"]);
    assert_eq!(commands_run(&mut scene), 4);
}

#[test]
fn g1_a_callback_posts_to_its_own_loop_and_is_not_called_within() {
    let (mut scene, handle) = with_handle(Limits::default());
    let log = Log::default();
    let ran = Ran::default();
    let posted = ran.clone();
    let (_, peer) = scene.accept(&log, move |event, transport| {
        if let Event::Data(_) = event {
            handle.post(posted.notes(1)).unwrap();
            assert!(posted.take().is_empty(), "not within the callback");
            handle.write(transport.id(), "second").unwrap();
            transport.write(b"first ");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    assert_eq!(ran.take(), [1]);
    assert_eq!(peer.take_sent(), b"first second");
}

#[test]
fn g1_a_panic_of_a_posted_closure_is_logged_and_the_others_run() {
    let (mut scene, handle) = with_handle(Limits::default());
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let ran = Ran::default();
    handle.post(ran.notes(0)).unwrap();
    handle.post(|_| panic!("in a command")).unwrap();
    handle.post(ran.notes(1)).unwrap();
    scene.turn();
    assert_eq!(ran.take(), [0, 1]);
    assert_eq!(scene.event_loop.context().counters().panics, 1);
    assert_eq!(commands_run(&mut scene), 3);
    // Or it propagates out of the turn, after all the others have run.
    scene.event_loop.set_panic_policy(PanicPolicy::Propagate);
    handle.post(|_| panic!("in a command")).unwrap();
    handle.post(ran.notes(2)).unwrap();
    let turn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.turn()));
    assert!(turn.is_err());
    assert_eq!(ran.take(), [2]);
}

#[test]
fn g1_commands_queued_before_run_until_idle_are_run_by_it_and_handles_do_not_keep_it() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_per_turn_max(2));
    let listener = scene.listener;
    scene.event_loop.context().listener(listener).unwrap().close();
    let ran = Ran::default();
    (0..5).for_each(|number| handle.post(ran.notes(number)).unwrap());
    scene.event_loop.run_until_idle().unwrap();
    assert_eq!(ran.take(), [0, 1, 2, 3, 4]);
}

#[test]
fn g1_stop_overtakes_commands_and_the_next_run_goes_on_with_them() {
    let (mut scene, handle) = with_handle(Limits::default());
    let ran = Ran::default();
    handle.post(ran.notes(0)).unwrap();
    handle.stop();
    scene.event_loop.run().unwrap();
    assert!(ran.take().is_empty());
    handle.post(stop).unwrap();
    scene.event_loop.run().unwrap();
    assert_eq!(ran.take(), [0]);
}

#[test]
fn g1_a_handle_drains_and_shuts_down_behind_commands_however_full_the_queue_is() {
    for (order, shuts_down) in [(Handle::drain as fn(&Handle, Duration), false), (Handle::shutdown, true)] {
        let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_max(1));
        let log = Log::default();
        let (id, peer) = scene.accept(&log, idle);
        handle.write(id, "goodbye").unwrap();
        for grace in [5000, 10, 1000] {
            order(&handle, grace * MS);
        }
        scene.turn();
        assert!(scene.event_loop.context().is_draining());
        assert_eq!(commands_run(&mut scene), 2, "one for all that were ordered");
        assert_eq!(peer.take_sent(), b"goodbye");
        let has_ended = peer.take_calls().contains(&Call::ShutdownWrite);
        assert_eq!(has_ended, shuts_down, "a drain leaves it time");
        let start = scene.world.now();
        scene.event_loop.run().unwrap();
        assert!(scene.world.now() - start <= 10 * MS, "the least grace counts");
        // A loop that ended this way can be used again, and so can its handle.
        order(&handle, Duration::MAX);
        scene.turn();
        assert_eq!(commands_run(&mut scene), 3);
    }
}

#[test]
fn g1_a_handle_tells_whether_its_loop_is_gone_and_which_it_is() {
    let ((mut scene, handle), (_other, another)) = (with_handle(Limits::default()), with_handle(Limits::default()));
    assert!(handle.same_loop(&handle.clone()) && !handle.same_loop(&another));
    assert!(!handle.is_closed());
    handle.post(|_| ()).unwrap();
    assert!(!handle.is_closed(), "it only has something to do");
    scene.turn();
    drop(scene);
    assert!(handle.is_closed() && !another.is_closed());
    handle.drain(Duration::ZERO);
    handle.shutdown(Duration::ZERO);
    assert_eq!(handle.commands_dropped(), 0);
}

#[test]
fn g1_what_a_burst_made_the_queue_grow_to_is_given_back() {
    let (mut scene, handle) = with_handle(Limits::default());
    for _ in 0..10_000 {
        handle.post(|_| ()).unwrap();
    }
    scene.settle();
    assert!(scene.event_loop.core.parts.threads.batch_capacity() <= 1024);
    // The capacity that the queue kept is seen when it is swapped out once more.
    handle.post(|_| ()).unwrap();
    scene.settle();
    assert!(scene.event_loop.core.parts.threads.batch_capacity() <= 1024);
}

/// Makes a completion, and logs what it delivers.
fn noted<T: Send + std::fmt::Debug + 'static>(scene: &mut Scene) -> (Completion<T>, Rc<RefCell<Vec<String>>>) {
    let given = Rc::new(RefCell::new(Vec::new()));
    let notes = given.clone();
    let note = move |_: &mut Context<'_>, value: Option<T>| notes.borrow_mut().push(format!("{value:?}"));
    (scene.event_loop.context().completion(note).unwrap(), given)
}

#[test]
fn g1_a_completion_makes_its_call_once_in_a_turn_and_also_where_the_queue_is_full() {
    let (mut scene, handle) = with_handle(LoopLimits::default().with_commands_max(1));
    let (completion, given) = noted::<u32>(&mut scene);
    handle.post(|_| {}).unwrap();
    assert!(matches!(handle.post(|_| {}), Err(PostError::Full(_))));
    thread::spawn(move || completion.complete(42).unwrap()).join().unwrap();
    assert!(given.borrow().is_empty(), "nothing runs but in a turn");
    scene.settle();
    assert_eq!(*given.borrow(), ["Some(42)"]);
}

#[test]
fn g1_a_completion_that_is_dropped_tells_so_also_by_a_panic() {
    let (mut scene, _handle) = with_handle(Limits::default());
    let (completion, given) = noted::<u32>(&mut scene);
    drop(completion);
    scene.settle();
    assert_eq!(*given.borrow(), ["None"]);
    let (completion, given) = noted::<u32>(&mut scene);
    let panics = thread::spawn(move || {
        let _held = completion;
        std::panic::resume_unwind(Box::new("no value"));
    });
    assert!(panics.join().is_err());
    scene.settle();
    assert_eq!(*given.borrow(), ["None"]);
}

#[test]
fn g1_a_cancelled_completion_makes_no_call_and_drops_what_both_ends_hold() {
    let (mut scene, _handle) = with_handle(Limits::default());
    let drops = Arc::new(AtomicUsize::new(0));
    let of_call = Counted(drops.clone());
    let mut context = scene.event_loop.context();
    let completion = context.completion(move |_, _: Option<Counted>| drop(of_call)).unwrap();
    let id = completion.id();
    assert!(context.cancel_completion(id));
    assert!(!context.cancel_completion(id), "once is enough");
    assert!(!context.set_background(id, true));
    scene.turn();
    assert_eq!(drops.load(Ordering::Relaxed), 1, "the closure, at the turn's end");
    // Its slot belongs to another call by now, which must not get the value.
    let (other, given) = noted::<u32>(&mut scene);
    assert!(completion.complete(Counted(drops.clone())).is_ok());
    scene.settle();
    assert_eq!(drops.load(Ordering::Relaxed), 2, "and the value");
    assert!(given.borrow().is_empty());
    drop(other);
}

#[test]
fn g1_a_completion_of_a_loop_that_is_gone_gives_its_value_back() {
    let (mut scene, _handle) = with_handle(Limits::default());
    let (completion, given) = noted::<u32>(&mut scene);
    let (late, _) = noted::<u32>(&mut scene);
    assert!(late.complete(1).is_ok());
    drop(scene);
    assert_eq!(completion.complete(2), Err(2));
    assert!(given.borrow().is_empty());
    assert_eq!(Rc::strong_count(&given), 1, "the loop has dropped its calls");
}
