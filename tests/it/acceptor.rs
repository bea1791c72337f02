//! One loop that accepts for all of a group (rule A4): accepting stops when no loop has room, and goes on at once when
//! one has, whatever made the room.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::workers::{Distribution, EventLoopGroup, GroupListen, GroupListener, WhenLoopFails};
use switchboard::{
    Address, ConnectionId, Context, Counters, Limits, ListenerId, LoopLimits, PanicPolicy, Protocol, Transport,
    WhenFull,
};

use crate::support::{PATIENCE, any_port, connect};

/// Longer than any test: a lingering connection ends only when its place is needed.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Sends which loop it is on, and reads nothing, so that what its client sends stays unread.
struct Silent {
    index: usize,
    made: mpsc::Sender<(usize, ConnectionId)>,
}

impl Protocol for Silent {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.pause_reading();
        self.made.send((self.index, transport.id())).unwrap();
        transport.write(&[self.index as u8]);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        panic!("it reads nothing")
    }
}

/// A group in which one loop accepts for all, and which loop has served each client.
struct Scene {
    group: EventLoopGroup,
    listener: GroupListener,
    made: mpsc::Receiver<(usize, ConnectionId)>,
}

impl Scene {
    fn new(loops: usize, limits: impl Into<LoopLimits>) -> Scene {
        let mut limits = limits.into();
        limits.each.linger_timeout = FOR_EVER;
        let plan = EventLoopGroup::builder(NonZeroUsize::new(loops).unwrap()).limits(limits);
        let plan = plan.panic_policy(PanicPolicy::Propagate).when_loop_fails(WhenLoopFails::GoOn);
        let group = plan.start().unwrap();
        let (send, made) = mpsc::channel();
        let make = move |index, _: &mut Context<'_>| {
            let made = send.clone();
            move |_: &mut Context<'_>, _: &Address| Some(Silent { index, made: made.clone() })
        };
        let listener =
            group.listen_each(GroupListen::at(any_port()).distribution(Distribution::Acceptor), make).unwrap();
        Scene { group, listener, made }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().as_inet().unwrap()
    }

    /// A client that is served at once, by which loop, and its connection there.
    #[track_caller]
    fn served(&self) -> (TcpStream, usize, ConnectionId) {
        let client = connect(self.address());
        let (index, id) = self.next();
        (client, index, id)
    }

    /// The next one that is served.
    #[track_caller]
    fn next(&self) -> (usize, ConnectionId) {
        self.made.recv_timeout(PATIENCE).expect("nobody is served")
    }

    fn counters(&self) -> Counters {
        self.group.handle().counters(PATIENCE).unwrap()
    }

    /// How many connections of each loop have not ended.
    fn each(&self) -> Vec<usize> {
        let each = self.group.handle().ask_each(PATIENCE, |_, context| context.connection_ids().len()).unwrap();
        each.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Does something on the thread of a loop, and waits until it is done.
    fn on<T: Send + 'static>(&self, index: usize, act: impl FnOnce(&mut Context<'_>) -> T + Send + 'static) -> T {
        let (done, told) = mpsc::channel();
        self.group.handle().handles()[index].post(move |context| done.send(act(context)).unwrap()).unwrap();
        told.recv_timeout(PATIENCE).unwrap()
    }

    fn pause(&self, index: usize) {
        let id = self.listener.listeners()[index];
        self.on(index, move |context| context.listener(id).unwrap().pause());
    }

    fn resume(&self, index: usize) {
        let id = self.listener.listeners()[index];
        self.on(index, move |context| context.listener(id).unwrap().resume());
    }

    fn on_acceptor(&self, act: impl FnOnce(&mut Context<'_>, ListenerId) + Send + 'static) {
        let (index, id) = self.listener.acceptor().unwrap();
        self.on(index, move |context| act(context, id));
    }

    /// Closes a connection with unread input: it lingers.
    fn linger(&self, (client, index, id): &mut (TcpStream, usize, ConnectionId)) {
        client.write_all(b"unread").unwrap();
        let id = *id;
        self.on(*index, move |context| context.connection(id).unwrap().close());
    }

    fn abort(&self, (_, index, id): &(TcpStream, usize, ConnectionId)) {
        let id = *id;
        self.on(*index, move |context| context.connection(id).unwrap().abort());
    }

    /// Waits until each loop is idle: everything that was caused before has happened.
    fn settle(&self) {
        for _ in 0..4 {
            self.each();
        }
    }
}

fn capped(connections_max: usize) -> Limits {
    Limits::default().with_connections_max(connections_max)
}

/// Returns whether a client reads an end or a reset, and nothing before it.
fn is_turned_away(client: &mut TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a4_in_a_group_a_lingering_connection_makes_room_at_once() {
    for loops in [1, 2] {
        let scene = Scene::new(loops, capped(1));
        let mut lingering: Vec<_> = (0..loops).map(|_| scene.served()).collect();
        lingering.iter_mut().for_each(|client| scene.linger(client));
        let next: Vec<_> = (0..loops).map(|_| scene.served()).collect();
        assert_eq!(scene.each(), vec![1; loops]);
        // Each of those has had all of its answer.
        for (client, index, _) in &mut lingering {
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            assert_eq!(answer, [*index as u8]);
        }
        // The same for one that already waits.
        let (mut first, waiting) = (next.into_iter().next().unwrap(), connect(scene.address()));
        scene.settle();
        assert!(scene.made.try_recv().is_err(), "all are full");
        scene.linger(&mut first);
        assert_eq!(scene.next().0, first.1);
        drop(waiting);
    }
}

#[test]
fn a4_in_a_group_nobody_who_lingers_is_given_up_while_a_loop_has_room() {
    let scene = Scene::new(2, capped(2));
    let mut first = scene.served();
    let second = scene.served();
    assert_eq!((first.1, second.1), (0, 1));
    scene.linger(&mut first);
    let clients: Vec<_> = (0..2).map(|_| scene.served()).collect();
    assert_eq!((clients[0].1, clients[1].1, scene.each()), (0, 1, vec![2, 2]));
    assert_eq!(scene.served().1, 0, "now it is");
    assert_eq!(scene.each(), [2, 2]);
}

#[test]
fn a4_in_front_of_full_loops_nothing_is_accepted_and_nobody_polls() {
    let scene = Scene::new(2, capped(1));
    let clients: Vec<_> = (0..2).map(|_| scene.served()).collect();
    let _waiting: Vec<_> = (0..3).map(|_| connect(scene.address())).collect();
    scene.settle();
    let before = scene.counters();
    assert_eq!(before.accepts, 2, "the others are the kernel's");
    // The test is that nothing happens meanwhile.
    thread::sleep(Duration::from_millis(300));
    let after = scene.counters();
    // Each takes a turn to answer, and may free a buffer.
    let turns = after.turns - before.turns;
    assert!(turns <= 4, "{turns} turns of loops that have nothing to do");
    scene.abort(&clients[1]);
    assert_eq!(scene.next().0, 1);
}

#[test]
fn a4_for_loops_that_may_have_no_connection_nothing_is_accepted_until_they_may() {
    let scene = Scene::new(2, capped(0));
    let _waiting = connect(scene.address());
    scene.settle();
    assert_eq!(scene.counters().accepts, 0);
    let id = scene.listener.listeners()[1];
    scene.on(1, move |context| context.listener(id).unwrap().set_limits(capped(1)));
    assert_eq!(scene.next().0, 1);
}

#[test]
fn a4_in_a_group_a_paused_loop_is_given_nobody_and_takes_its_share_once_it_goes_on() {
    let scene = Scene::new(2, Limits::default());
    scene.pause(0);
    let clients: Vec<_> = (0..4).map(|_| scene.served()).collect();
    assert!(clients.iter().all(|client| client.1 == 1));
    scene.resume(0);
    assert_eq!(scene.served().1, 0);
    // While all are paused new connections wait, as with a single loop.
    scene.pause(0);
    scene.pause(1);
    let _waiting: Vec<_> = (0..3).map(|_| connect(scene.address())).collect();
    scene.settle();
    assert!(scene.made.try_recv().is_err());
    scene.resume(1);
    assert!((0..3).all(|_| scene.next().0 == 1));
}

/// A loop that is busy while a connection is accepted for it; the other one already has one.
struct Held {
    scene: Scene,
    accepts: usize,
    /// Of the one that was accepted.
    _client: TcpStream,
    _other: TcpStream,
}

/// The busy loop calls `then` when `go` is sent, before it goes on.
fn held(then: impl FnOnce(&mut Context<'_>, ListenerId) + Send + 'static) -> (Held, mpsc::Sender<()>) {
    let scene = Scene::new(2, Limits::default());
    let accepts = scene.listener.acceptor().unwrap().0;
    let busy = 1 - accepts;
    let (_other, index, _) = scene.served();
    assert_eq!(index, accepts);
    let (go, told_to_go) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let id = scene.listener.listeners()[busy];
    let holds = move |context: &mut Context<'_>| {
        begin.send(()).unwrap();
        let _ = told_to_go.recv();
        then(context, id);
    };
    scene.group.handle().handles()[busy].post(holds).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let _client = connect(scene.address());
    let start = Instant::now();
    while scene.on(accepts, |context| context.counters().accepts) < 2 {
        assert!(start.elapsed() < PATIENCE);
    }
    scene.on(accepts, |_| ());
    assert!(scene.made.try_recv().is_err(), "it is for the busy one");
    (Held { scene, accepts, _client, _other }, go)
}

#[test]
fn a4_what_was_for_a_loop_that_is_paused_is_served_by_another_at_once() {
    let (release, released) = mpsc::channel::<()>();
    let (held, go) = held(move |context, id| {
        context.listener(id).unwrap().pause();
        // Its own turn may take long.
        let _ = released.recv_timeout(2 * PATIENCE);
    });
    go.send(()).unwrap();
    assert_eq!(held.scene.next().0, held.accepts);
    drop(release);
}

#[test]
fn a4_what_was_for_a_loop_that_ends_is_served_by_another() {
    let (held, go) = held(|_, _| panic!("and so it ends"));
    go.send(()).unwrap();
    assert_eq!(held.scene.next().0, held.accepts);
    assert_eq!(held.scene.served().1, held.accepts);
}

#[test]
fn a4_in_a_group_pausing_the_one_that_accepts_holds_though_room_is_made() {
    let scene = Scene::new(1, capped(1));
    let first = scene.served();
    let _waiting: Vec<_> = (0..2).map(|_| connect(scene.address())).collect();
    scene.settle();
    scene.on_acceptor(|context, id| context.listener(id).unwrap().pause());
    scene.abort(&first);
    scene.settle();
    assert_eq!((scene.counters().accepts, scene.made.try_recv()), (1, Err(mpsc::TryRecvError::Empty)));
    scene.on_acceptor(|context, id| context.listener(id).unwrap().resume());
    scene.next();
}

/// A connection that a loop has by itself, which counts towards its cap; returns its other end.
fn attach(scene: &Scene, index: usize) -> (TcpStream, usize, ConnectionId) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let client = connect(listener.local_addr().unwrap());
    let server = listener.accept().unwrap().0;
    struct Idle;
    impl Protocol for Idle {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.pause_reading();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let id = scene.on(index, move |context| context.attach(server, Idle).unwrap());
    scene.settle();
    (client, index, id)
}

#[test]
fn a4_in_a_group_a_loop_that_is_full_by_its_own_connections_is_given_nobody() {
    for (lingers, is_told) in [(false, false), (true, false), (false, true), (true, true)] {
        let scene = Scene::new(2, LoopLimits::default().with_loop_connections_max(Some(1)));
        let mut own = attach(&scene, 0);
        if is_told {
            // It checks, and reports that it has no room, before any connection arrives.
            scene.resume(0);
        }
        assert_eq!(scene.served().1, 1, "it is the other one that has room");
        let _waiting: Vec<_> = (0..2).map(|_| connect(scene.address())).collect();
        scene.settle();
        assert!(scene.made.try_recv().is_err());
        match lingers {
            true => scene.linger(&mut own),
            false => scene.abort(&own),
        }
        assert_eq!((scene.next().0, scene.each()), (0, vec![1, 1]));
    }
}

#[test]
fn a4_in_a_group_a_raised_cap_is_used_at_once() {
    let scene = Scene::new(2, capped(1));
    let _served: Vec<_> = (0..2).map(|_| scene.served()).collect();
    let _waiting: Vec<_> = (0..3).map(|_| connect(scene.address())).collect();
    scene.settle();
    let id = scene.listener.listeners()[1];
    scene.on(1, move |context| context.listener(id).unwrap().set_limits(capped(3)));
    assert_eq!([scene.next().0, scene.next().0], [1, 1]);
    scene.settle();
    assert_eq!((scene.each(), scene.counters().accepts), (vec![1, 3], 4));
}

#[test]
fn a4_who_waits_in_front_outlasts_the_one_that_accepts_and_is_reset_with_the_last_that_could_take_it() {
    for is_taken in [true, false] {
        let scene = Scene::new(1, Limits::default());
        scene.pause(0);
        let mut client = connect(scene.address());
        let start = Instant::now();
        while scene.counters().accepts == 0 {
            assert!(start.elapsed() < PATIENCE);
        }
        scene.on_acceptor(|context, id| context.listener(id).unwrap().close());
        assert_eq!(TcpStream::connect(scene.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        if is_taken {
            scene.resume(0);
            scene.next();
        } else {
            let id = scene.listener.listeners()[0];
            scene.on(0, move |context| context.listener(id).unwrap().close());
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn a4_where_nobody_is_left_to_serve_nobody_is_accepted() {
    let scene = Scene::new(2, Limits::default());
    for index in [0, 1] {
        let id = scene.listener.listeners()[index];
        scene.on(index, move |context| context.listener(id).unwrap().close());
    }
    // The first one notices it. A client whose connection is established while the listener closes is dropped by Linux
    // without a reset, and learns of that only once it sends.
    let start = Instant::now();
    while TcpStream::connect(scene.address()).is_ok_and(|mut client| {
        let _ = client.write(b"?");
        is_turned_away(&mut client)
    }) {
        assert!(start.elapsed() < PATIENCE);
    }
    scene.on_acceptor(|context, id| assert!(context.listener(id).is_none(), "it is closed"));
}

#[test]
fn a4_a_group_that_ends_leaves_nobody_waiting_in_front() {
    for drains in [true, false] {
        let scene = Scene::new(2, capped(1));
        let served: Vec<_> = (0..2).map(|_| scene.served()).collect();
        let mut waiting: Vec<_> = (0..3).map(|_| connect(scene.address())).collect();
        scene.settle();
        match drains {
            true => scene.group.drain(PATIENCE),
            false => scene.group.shutdown(PATIENCE),
        }
        assert!(waiting.iter_mut().all(is_turned_away));
        if drains {
            served.iter().for_each(|client| scene.abort(client));
        }
        scene.group.join().unwrap();
    }
}

#[test]
fn a4_in_a_group_that_refuses_a_newcomer_is_refused_only_where_every_loop_is_full() {
    let scene = Scene::new(2, capped(1).with_when_full(WhenFull::Refuse));
    let mut clients: Vec<_> = (0..2).map(|_| scene.served()).collect();
    assert!(is_turned_away(&mut connect(scene.address())));
    assert_eq!(scene.counters().connections_refused, 1);
    scene.linger(&mut clients[1]);
    assert_eq!(scene.served().1, 1);
    scene.abort(&clients[0]);
    assert_eq!(scene.served().1, 0);
    assert!(is_turned_away(&mut connect(scene.address())));
}

#[test]
fn a4_a_factory_that_refuses_takes_no_room_away() {
    let group = EventLoopGroup::builder(NonZeroUsize::new(2).unwrap()).limits(capped(1)).start().unwrap();
    let target = GroupListen::at(any_port()).distribution(Distribution::Acceptor);
    let listener = group.listen(target, |_, _| None::<Silent>).unwrap();
    for _ in 0..20 {
        assert!(is_turned_away(&mut connect(listener.local_addr().as_inet().unwrap())));
    }
}

/// Answers at once and closes, so it lingers if its client has sent something.
struct Answers {
    most: Arc<AtomicUsize>,
}

impl Protocol for Answers {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.most.fetch_max(transport.context().connection_ids().len(), Ordering::Relaxed);
        transport.write(b"answer");
        transport.close();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn a4_a_crowd_in_front_of_a_group_is_served_one_and_all_and_never_more_at_a_time_than_may_be() {
    const CLIENTS: usize = 200;
    for (loops, connections_max) in [(1, 1), (2, 1), (2, 3)] {
        let limits = capped(connections_max).with_linger_timeout(FOR_EVER);
        let group = EventLoopGroup::builder(NonZeroUsize::new(loops).unwrap()).limits(limits).start().unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let target = GroupListen::at(any_port()).distribution(Distribution::Acceptor);
        let noted = most.clone();
        let listener = group.listen(target, move |_, _| Some(Answers { most: noted.clone() })).unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = connect(listener.local_addr().as_inet().unwrap());
                client.write_all(b"unread").unwrap();
                client
            })
            .collect();
        // All of them keep their sockets open: a lingering connection ends only when its place is needed.
        for mut client in &clients {
            let mut answer = [0; 6];
            client.read_exact(&mut answer).unwrap();
        }
        group.stop();
        let counters = group.join().unwrap();
        assert_eq!((counters.accepts, counters.connections_made), (CLIENTS as u64, CLIENTS as u64));
        assert_eq!(most.load(Ordering::Relaxed), connections_max);
    }
}

#[test]
fn a4_a_group_with_a_backlog_of_0_serves() {
    for distribution in [Distribution::ReusePort, Distribution::Acceptor] {
        if distribution == Distribution::ReusePort && !cfg!(target_os = "linux") {
            continue;
        }
        let group = EventLoopGroup::new(NonZeroUsize::new(2).unwrap()).unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let target = GroupListen::at(switchboard::Listen::at(any_port()).backlog(0)).distribution(distribution);
        let listener = group.listen(target, move |_, _| Some(Answers { most: most.clone() })).unwrap();
        for _ in 0..10 {
            let mut answer = [0; 6];
            connect(listener.local_addr().as_inet().unwrap()).read_exact(&mut answer).unwrap();
        }
    }
}
