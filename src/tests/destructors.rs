//! Rules E1 and C3: destructors of the user's values, which may panic, too, and may borrow what a caller has borrowed.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::filter::{Filter, Flow};
use crate::sys::script::Call;
use crate::{Address, Connect, Context, DatagramProtocol, DatagramTransport, SourceAction};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

impl Protocol for Explosive {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn e1_a_destructor_that_panics_when_registration_fails_ends_nothing_more() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    scene.knock(Some(Box::new(Explosive))).refuse_registration();
    scene.knock(Some(protocol(&log, echo)));
    let result = catch_unwind(AssertUnwindSafe(|| scene.settle()));
    assert_eq!(log.take(), ["made"]);
    assert!(result.is_ok());
    assert_eq!(scene.event_loop.context().counters().panics, 1);
}

impl std::fmt::Debug for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Explosive")
    }
}

impl std::fmt::Display for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("explosive")
    }
}

impl std::error::Error for Explosive {}

#[test]
fn e1_a_reason_whose_destructor_panics_loses_no_connection() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (id, peer) = scene.accept(&log, echo);
    peer.set_room(0);
    let mut context = scene.event_loop.context();
    let mut transport = context.connection(id).unwrap();
    transport.write(b"never taken");
    transport.close_for(Explosive);
    // Its close times out, so another reason replaces that one.
    let result = catch_unwind(AssertUnwindSafe(|| scene.pass(Duration::from_secs(6))));
    scene.settle();
    assert_eq!(log.take(), ["made", "lost: the peer did not take the remaining output in time"]);
    assert_eq!(scene.event_loop.context().connection_count(), 0);
    assert!(result.is_ok());
}

#[test]
fn e1_two_destructors_of_one_listener_that_panic_end_nothing_more() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (one, two) = (Explosive, Explosive);
    let (listener, _backlog) = scene.listen(move |_, _| {
        let _ = &one;
        None
    });
    scene.event_loop.context().listener(listener).unwrap().on_error(move |_, _, _| {
        let _ = &two;
    });
    scene.event_loop.context().listener(listener).unwrap().close();
    scene.turn();
    assert_eq!(scene.event_loop.context().counters().panics, 2);
}

#[test]
fn e1_what_a_callback_wrote_before_it_panicked_never_looks_whole() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let (_, peer) = scene.accept(&Log::default(), |event, transport| {
        if let Event::Data(_) = event {
            transport.write(&[0; 20_000]);
            transport.write(b"small");
            panic!("then");
        }
        by_default(&event, transport)
    });
    scene.receive(&peer, "x");
    // A large piece goes out at once; a reset follows it, and what was merely gathered is dropped.
    assert_eq!(peer.take_sent().len(), 20_000);
    assert_eq!(peer.take_calls().last(), Some(&Call::Reset));
}

/// Borrows a cell in its destructor, as a protocol that shares state with others may.
struct Counted(Rc<RefCell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
    }
}

impl Protocol for Counted {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

impl DatagramProtocol for Counted {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}
}

#[test]
fn c3_a_protocol_that_is_refused_is_dropped_behind_the_call() {
    let mut scene = Scene::new();
    let dropped = Rc::<RefCell<u32>>::default();
    let somebody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = somebody.local_addr().unwrap();
    let stream = std::net::TcpStream::connect(address).unwrap();
    scene.event_loop.context().shutdown(Duration::ZERO);
    let held = dropped.borrow_mut();
    let mut context = scene.event_loop.context();
    assert!(context.connect(address, Counted(dropped.clone())).is_err());
    assert!(context.attach(stream, Counted(dropped.clone())).is_err());
    assert!(context.bind_datagram(address, Counted(dropped.clone())).is_err());
    let counted = Counted(dropped.clone());
    let factory = move |_: &mut Context<'_>, _: &Address| {
        let _shared = &counted;
        None::<Counted>
    };
    assert!(context.listen(address, factory).is_err());
    let counted = Counted(dropped.clone());
    let handler = move |_: &mut Context<'_>, _: &mut mio::net::TcpListener, _| {
        let _shared = &counted;
        SourceAction::Wait
    };
    assert!(context.register(mio::net::TcpListener::from_std(somebody), mio::Interest::READABLE, handler).is_err());
    drop(held);
    scene.settle();
    assert_eq!(*dropped.borrow(), 5);
}

#[test]
fn c3_a_protocol_that_is_set_at_the_loss_is_dropped_by_itself_and_nothing_else_with_it() {
    let mut scene = Scene::new();
    scene.event_loop.set_panic_policy(PanicPolicy::Isolate);
    let log = Log::default();
    let (id, _peer) = scene.accept(&log, |event, transport| {
        if let Event::Lost(_) = event {
            transport.set_protocol(Explosive);
        }
        by_default(&event, transport)
    });
    let (other, _other_peer) = scene.accept(&log, idle);
    log.take();
    let result = catch_unwind(AssertUnwindSafe(|| {
        scene.tell(id, |transport| transport.abort());
        scene.tell(other, |transport| transport.abort());
        scene.settle();
    }));
    assert!(result.is_ok());
    assert_eq!(log.take(), ["lost: aborted by us", "lost: aborted by us"]);
    assert_eq!(scene.event_loop.context().counters().panics, 1);
    assert_eq!(scene.event_loop.context().connection_ids().len(), 0);
}

/// A filter, or what a maker of filters has captured, which records whether it was dropped within a user's call.
struct Watched(Arc<[AtomicU32; 2]>);

static IN_A_CALL: AtomicU32 = AtomicU32::new(0);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0[IN_A_CALL.load(Relaxed) as usize].fetch_add(1, Relaxed);
    }
}

impl Filter for Watched {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(data);
        data.len()
    }
}

#[test]
fn c3_filters_and_what_makes_them_are_dropped_behind_the_call() {
    let mut scene = Scene::new();
    let (dropped, log) = (Arc::new([AtomicU32::new(0), AtomicU32::new(0)]), Log::default());
    let taken = || [dropped[0].swap(0, Relaxed), dropped[1].swap(0, Relaxed)];
    let in_a_call = |scene: &mut Scene, call: &mut dyn FnMut(&mut Context<'_>) -> bool| {
        IN_A_CALL.store(1, Relaxed);
        let is_done = call(&mut scene.event_loop.context());
        IN_A_CALL.store(0, Relaxed);
        scene.turn();
        is_done
    };
    let mut connects = |context: &mut Context<'_>| {
        let (watched, noted) = (Watched(dropped.clone()), dropped.clone());
        let connect = Connect::to(SocketAddr::from(([127, 0, 0, 1], 7))).filter(move || {
            let _ = &watched;
            Watched(noted.clone())
        });
        context.connect(connect, protocol(&log, idle)).is_ok()
    };
    scene.world.connect_fails(io::ErrorKind::NetworkUnreachable.into());
    assert!(!in_a_call(&mut scene, &mut connects));
    assert_eq!(taken(), [2, 0], "the filter and its maker");
    // A filter that is refused in the middle of a stream.
    let (id, _peer) = scene.accept(&log, idle);
    scene.tell(id, |transport| transport.shutdown_write());
    assert!(!in_a_call(&mut scene, &mut |context| {
        context.connection(id).unwrap().set_filter(Watched(dropped.clone()))
    }));
    assert_eq!(taken(), [1, 0]);
    // A loop that is ending refuses to connect.
    scene.event_loop.context().shutdown(SECOND);
    assert!(!in_a_call(&mut scene, &mut connects));
    assert_eq!(taken(), [1, 0], "no filter was made");
}
