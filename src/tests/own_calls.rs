//! Rules C3, C7 and G1, for the values that a protocol waits for.

use super::*;
use crate::Completion;

/// Waits for values, and logs them.
struct Asker {
    log: Log,
    /// What it does with each input.
    act: fn(&mut Transport<'_>),
}

impl Asker {
    fn told(&mut self, transport: &mut Transport<'_>, value: Option<u32>) {
        self.log.push(format!("told {value:?}"));
        transport.write(b"told");
    }
}

impl Protocol for Asker {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        (self.act)(transport);
        self.log.push("data");
        data.len()
    }

    /// Does not close.
    fn eof_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {
        self.log.push("end");
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.log.push(format!("lost: {reason}"));
    }
}

fn accept(scene: &mut Scene, log: &Log, act: fn(&mut Transport<'_>)) -> (ConnectionId, Peer) {
    let peer = scene.knock(Some(Box::new(Asker { log: log.clone(), act })));
    scene.turn();
    let id = scene.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).expect("accepted").0;
    (ConnectionId(id), peer)
}

fn ask(scene: &mut Scene, id: ConnectionId) -> Completion<u32> {
    scene.event_loop.context().connection(id).unwrap().completion(Asker::told).unwrap()
}

#[test]
fn g1_a_value_comes_to_the_protocol_between_callbacks() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = accept(&mut scene, &log, |transport| {
        let completion = transport.completion(Asker::told).unwrap();
        completion.complete(7).unwrap();
        drop(transport.completion(Asker::told).unwrap());
    });
    scene.receive(&peer, "x");
    assert_eq!(log.take(), ["data", "told Some(7)", "told None"]);
    assert_eq!(peer.take_sent(), b"toldtold");
}

#[test]
fn g1_a_loop_goes_on_until_the_value_has_come() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, &log, |_| ());
    let listener = scene.listener;
    scene.event_loop.context().set_background(listener, true);
    scene.event_loop.context().set_background(id, true);
    let completion = ask(&mut scene, id);
    assert!(!scene.event_loop.core.parts.is_idle());
    std::thread::spawn(move || completion.complete(3).unwrap()).join().unwrap();
    scene.settle();
    assert_eq!(log.take(), ["told Some(3)"]);
    assert!(scene.event_loop.core.parts.is_idle());
}

#[test]
fn c7_what_a_protocol_waits_for_ends_with_it_and_with_its_connection() {
    let ends: [fn(&mut Transport<'_>); 6] = [
        |transport| transport.set_protocol(protocol(&Log::default(), idle)),
        |transport| transport.start_protocol(protocol(&Log::default(), idle)),
        close,
        abort,
        |transport| assert!(transport.detach(|_, _| ())),
        |transport| transport.context().shutdown(SECOND),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (id, peer) = accept(&mut scene, &log, |_| ());
        peer.set_room(0);
        scene.tell(id, |transport| transport.write(b"what keeps it"));
        let completions = [ask(&mut scene, id), ask(&mut scene, id)];
        end(&mut scene.event_loop.context().connection(id).unwrap());
        for completion in completions {
            let waits = scene.event_loop.core.parts.slots.is_completion(completion.id().0);
            assert!(!waits, "end {n}");
            completion.complete(1).unwrap();
        }
        scene.pass(60 * SECOND);
        assert!(!log.take().iter().any(|entry| entry.starts_with("told")), "end {n}");
    }
}

#[test]
fn c7_one_that_is_asked_for_after_set_protocol_is_the_new_ones() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, &log, |_| ());
    let next = Asker { log: log.clone(), act: |_| () };
    let before = ask(&mut scene, id);
    scene.event_loop.context().connection(id).unwrap().set_protocol(next);
    let after = ask(&mut scene, id);
    before.complete(1).unwrap();
    after.complete(2).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["told Some(2)"]);
}

#[test]
fn c1_nobody_is_told_before_it_is_made_or_after_an_end_has_begun() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = scene.attach(&log, idle);
    let refused = |transport: &mut Transport<'_>| {
        let result = transport.completion(|_: &mut Asker, _, _: Option<u32>| ());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotConnected);
    };
    scene.tell(id, refused);
    scene.tell(id, |transport| {
        transport.close();
        refused(transport);
    });
}

#[test]
fn c7_half_an_end_cancels_nothing() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, &log, |_| ());
    let completion = ask(&mut scene, id);
    scene.tell(id, |transport| transport.set_timer(1, SECOND));
    scene.tell(id, shutdown_write);
    completion.complete(5).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["told Some(5)"]);
    scene.tell(id, |transport| assert!(transport.cancel_timer(1)));
}

#[test]
fn c1_nothing_comes_once_both_halves_have_ended_though_output_is_queued() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, peer) = accept(&mut scene, &log, |_| ());
    peer.set_room(0);
    scene.tell(id, |transport| {
        transport.write(b"queued");
        transport.shutdown_write();
    });
    let completion = ask(&mut scene, id);
    scene.end(&peer);
    completion.complete(1).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["end"]);
    scene.make_room(&peer, 100);
    assert_eq!(log.take(), ["lost: closed by the peer"]);
}

#[test]
fn c3_a_value_for_another_type_is_dropped() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = scene.accept(&log, idle);
    let completion = ask(&mut scene, id);
    completion.complete(5).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["made"]);
    assert_eq!(scene.event_loop.context().counters().panics, 0);
}

#[test]
fn e1_a_panic_in_what_is_told_ends_the_connection() {
    let (mut scene, log) = (Scene::new(), Log::default());
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (id, _peer) = accept(&mut scene, &log, |_| ());
    let call = |_: &mut Asker, _: &mut Transport<'_>, _: Option<u32>| panic!("deliberate");
    scene.event_loop.context().connection(id).unwrap().completion(call).unwrap().complete(1).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["lost: a callback panicked: deliberate"]);
    assert_eq!(scene.event_loop.context().counters().panics, 1);
}

#[test]
fn g1_those_that_were_cancelled_or_have_come_leave_no_memory_behind() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (id, _peer) = accept(&mut scene, &log, |_| ());
    let lasts = ask(&mut scene, id);
    for n in 0..1000 {
        let completion = ask(&mut scene, id);
        match n % 2 {
            0 => assert!(scene.event_loop.context().cancel_completion(completion.id())),
            _ => completion.complete(n).unwrap(),
        }
        scene.turn();
    }
    let connection = scene.event_loop.core.parts.slots.connection(id.0).unwrap();
    let kept = connection.extras.as_ref().unwrap().own.calls.capacity();
    assert!(kept < 10, "room for {kept}");
    assert_eq!(log.take().len(), 500);
    lasts.complete(7).unwrap();
    scene.settle();
    assert_eq!(log.take(), ["told Some(7)"]);
}
