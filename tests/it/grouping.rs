//! Loops on several threads: their connections are spread, and they begin and end together.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::workers::{
    Distribution, EventLoopGroup, GroupBuilder, GroupListen, GroupListener, LoopFailure, WhenLoopFails,
};
use switchboard::{Address, CloseReason, Context, Limits, Listen, LoopLimits, PanicPolicy, Protocol, Transport};

use crate::support::{PATIENCE, any_port, connect, read_all};

/// How connections can be spread here.
const WAYS: &[Distribution] = match cfg!(target_os = "linux") {
    true => &[Distribution::ReusePort, Distribution::Acceptor],
    false => &[Distribution::Acceptor],
};

/// Sends which loop it is on, echoes, panics at a `!`, and reports why it ended.
struct Member {
    index: usize,
    ends: Option<mpsc::Sender<(usize, String)>>,
}

impl Protocol for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&[self.index as u8]);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        assert!(data != b"!", "somebody said {}", String::from_utf8_lossy(data));
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        if let Some(ends) = &self.ends {
            let _ = ends.send((self.index, reason.to_string()));
        }
    }
}

fn builder(loops: usize) -> GroupBuilder {
    EventLoopGroup::builder(NonZeroUsize::new(loops).unwrap())
}

fn group(loops: usize) -> EventLoopGroup {
    builder(loops).start().unwrap()
}

fn inet(listener: &GroupListener) -> SocketAddr {
    listener.local_addr().as_inet().unwrap()
}

/// Listens with a `Member` for each connection.
fn listen(group: &EventLoopGroup, target: impl Into<GroupListen>) -> GroupListener {
    let make = |index, _: &mut Context<'_>| move |_: &mut Context<'_>, _: &Address| Some(Member { index, ends: None });
    group.listen_each(target, make).unwrap()
}

/// A client, and which loop serves it.
fn client(address: SocketAddr) -> (TcpStream, usize) {
    let mut client = connect(address);
    let mut index = [0];
    client.read_exact(&mut index).unwrap();
    (client, index[0] as usize)
}

/// Two clients, one on each of two loops.
fn one_on_each(address: SocketAddr) -> [TcpStream; 2] {
    let mut of_loop = [None, None];
    let mut surplus = Vec::new();
    while of_loop.iter().any(Option::is_none) {
        let (client, index) = client(address);
        surplus.extend(of_loop[index].replace(client));
    }
    of_loop.map(Option::unwrap)
}

fn echoes(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

/// Waits until a condition holds.
#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited for {PATIENCE:?} in vain");
        thread::yield_now();
    }
}

#[test]
fn group_spreads_connections_over_all_loops_and_sums_what_they_count() {
    const CLIENTS: usize = 60;
    for &distribution in WAYS {
        let group = group(2);
        let listener = listen(&group, GroupListen::at(any_port()).distribution(distribution));
        assert_eq!((listener.distribution(), listener.listeners().len()), (distribution, 2));
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(inet(&listener))).collect();
        let on_first = clients.iter().filter(|(_, index)| *index == 0).count();
        match distribution {
            // The kernel's hash gives each loop some; taking turns gives each half.
            Distribution::ReusePort => assert!((1..CLIENTS).contains(&on_first), "{on_first}"),
            _ => assert_eq!(on_first, CLIENTS / 2),
        }
        clients.iter_mut().for_each(|(client, _)| echoes(client, b"hello"));
        let counters = group.handle().counters(PATIENCE).unwrap();
        assert_eq!((counters.connections_made, counters.connections_lost), (CLIENTS as u64, 0));
        let each = group.handle().ask_each(PATIENCE, |_, context| context.connection_count()).unwrap();
        assert_eq!(each, [Some(on_first), Some(CLIENTS - on_first)]);
        drop(clients);
        wait_until(|| group.handle().counters(PATIENCE).unwrap().connections_lost == CLIENTS as u64);
        group.stop();
        let counters = group.join().unwrap();
        let of_connections = [counters.accepts, counters.connections_made, counters.connections_lost];
        assert_eq!(of_connections, [CLIENTS as u64; 3]);
        assert_eq!((counters.losses.peer_closed, counters.bytes_received), (CLIENTS as u64, 5 * CLIENTS as u64));
    }
}

#[test]
fn group_gives_a_new_connection_to_the_loop_that_has_the_fewest() {
    let group = group(3);
    let listener = listen(&group, GroupListen::at(any_port()).distribution(Distribution::Acceptor));
    let mut clients: Vec<_> = (0..9).map(|_| client(inet(&listener))).collect();
    assert_eq!(clients.iter().map(|(_, index)| index % 3).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    clients.retain(|(_, index)| *index != 1);
    wait_until(|| group.handle().counters(PATIENCE).unwrap().connections_lost == 3);
    for _ in 0..3 {
        clients.push(client(inet(&listener)));
        assert_eq!(clients.last().unwrap().1, 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn group_has_one_port_for_all_and_each_listener_has_its_loops_limits() {
    let group = group(3);
    let limits = Limits::default().with_connections_max(1).with_when_full(switchboard::WhenFull::Refuse);
    let listener =
        listen(&group, GroupListen::at(Listen::at(any_port()).limits(limits)).distribution(Distribution::ReusePort));
    let (address, ids) = (listener.local_addr().clone(), listener.listeners().to_vec());
    assert_ne!(inet(&listener).port(), 0);
    let local = group
        .handle()
        .ask_each(PATIENCE, move |index, context| context.listener(ids[index]).unwrap().local_addr().unwrap());
    assert_eq!(local.unwrap(), vec![Some(address); 3]);
    let mut served: Vec<TcpStream> = Vec::new();
    wait_until(|| {
        // A client of a full loop reads an end, or a reset, instead of its index.
        let mut client = connect(inet(&listener));
        if client.read(&mut [0]).is_ok_and(|count| count == 1) {
            served.push(client);
        }
        served.len() == 3
    });
    assert!(!connect(inet(&listener)).read(&mut [0]).is_ok_and(|count| count == 1));
    assert!(group.handle().counters(PATIENCE).unwrap().connections_refused > 0);
}

#[test]
fn group_loops_have_state_of_their_own() {
    let group = group(2);
    let (send, made) = mpsc::channel();
    let make = move |index: usize, context: &mut Context<'_>| {
        // Neither of these could leave the loop's thread.
        let (shared, handle) = (Rc::new(index), context.handle());
        let send = send.clone();
        move |_: &mut Context<'_>, _: &Address| {
            send.send((thread::current().name().map(str::to_owned), handle.clone())).unwrap();
            Some(Member { index: *shared, ends: None })
        }
    };
    let listener = group.listen_each(any_port(), make).unwrap();
    for _ in 0..20 {
        let (_client, index) = client(inet(&listener));
        let (name, handle) = made.recv_timeout(PATIENCE).unwrap();
        assert_eq!(name, Some(format!("event-loop-{index}")));
        let (tell, told) = mpsc::channel();
        handle.post(move |_| tell.send(thread::current().name().map(str::to_owned)).unwrap()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), name);
    }
}

/// Listens with members that report their ends.
fn telling(group: &EventLoopGroup, target: impl Into<GroupListen>) -> (SocketAddr, mpsc::Receiver<(usize, String)>) {
    let (send, ends) = mpsc::channel();
    let make = move |index, _: &mut Context<'_>| {
        let send = send.clone();
        move |_: &mut Context<'_>, _: &Address| Some(Member { index, ends: Some(send.clone()) })
    };
    (inet(&group.listen_each(target, make).unwrap()), ends)
}

#[test]
fn group_stops_all_loops_at_once_and_tells_every_connection() {
    for &distribution in WAYS {
        let group = group(2);
        let (address, ends) = telling(&group, GroupListen::at(any_port()).distribution(distribution));
        let clients: Vec<_> = (0..10).map(|_| client(address)).collect();
        group.handle().clone().stop();
        let counters = group.join().unwrap();
        assert_eq!((counters.connections_made, counters.losses.shutdown), (10, 10));
        let told: Vec<_> = ends.iter().map(|(_, reason)| reason).collect();
        assert_eq!(told, vec!["the loop was shut down"; 10]);
        for (mut client, _) in clients {
            assert_eq!(read_all(&mut client), b"");
        }
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

/// Sends which loop it is on, and then more than the kernel takes at once.
struct Floods(usize);

const FLOOD_BYTES: usize = 12 << 20;

impl Protocol for Floods {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&[self.0 as u8]);
        transport.write_owned(vec![b'x'; FLOOD_BYTES]);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// A client on each of two loops, with unsent output.
fn with_output_pending(group: &EventLoopGroup) -> [TcpStream; 2] {
    let make = |index, _: &mut Context<'_>| move |_: &mut Context<'_>, _: &Address| Some(Floods(index));
    let target = GroupListen::at(any_port()).distribution(Distribution::Acceptor);
    let listener = group.listen_each(target, make).unwrap();
    let clients = [client(inet(&listener)), client(inet(&listener))];
    assert_eq!((clients[0].1, clients[1].1), (0, 1));
    clients.map(|(client, _)| client)
}

#[test]
fn group_shutdown_lets_output_out_on_every_loop() {
    let group = group(2);
    let clients = with_output_pending(&group);
    group.shutdown(PATIENCE);
    let readers = clients.map(|mut client| thread::spawn(move || read_all(&mut client).len()));
    let counters = group.join().unwrap();
    readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), FLOOD_BYTES));
    assert_eq!((counters.connections_made, counters.losses.shutdown), (2, 2));
}

#[test]
fn group_shutdown_has_one_deadline_which_can_be_brought_nearer() {
    let group = builder(2).limits(Limits::default().with_close_timeout(6 * PATIENCE)).start().unwrap();
    let clients = with_output_pending(&group);
    let start = Instant::now();
    group.shutdown(Duration::from_secs(3600));
    group.shutdown(Duration::MAX);
    let handle = group.handle().clone();
    // All of them are shutting down: the listeners are closed, connections wait for their peers.
    let waits = |_, context: &mut Context<'_>| {
        context.listen(any_port(), |_, _| None::<Member>).is_err().then_some(context.connection_count())
    };
    wait_until(|| handle.ask_each(PATIENCE, waits).unwrap() == [Some(Some(1)); 2]);
    group.shutdown(Duration::from_millis(100));
    let counters = group.join().unwrap();
    assert!((Duration::from_millis(100)..3 * PATIENCE).contains(&start.elapsed()));
    assert_eq!(counters.connections_made, counters.connections_lost);
    // Half an answer ends by reset.
    for mut client in clients {
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn group_drain_lets_connections_end_by_themselves_on_every_loop() {
    for &distribution in WAYS {
        let group = group(2);
        let listener = listen(&group, GroupListen::at(any_port()).distribution(distribution));
        let mut clients = one_on_each(inet(&listener));
        group.drain(PATIENCE);
        let handle = group.handle().clone();
        let drains = |_, context: &mut Context<'_>| context.is_draining();
        wait_until(|| handle.ask_each(PATIENCE, drains).unwrap() == [Some(true); 2]);
        assert!(TcpStream::connect(inet(&listener)).is_err(), "nobody else is let in");
        clients.iter_mut().for_each(|client| echoes(client, b"still here"));
        drop(clients);
        let counters = group.join().unwrap();
        assert_eq!((counters.connections_lost, counters.losses.shutdown), (counters.connections_made, 0));
    }
}

#[test]
fn group_drain_has_one_deadline_which_can_be_brought_nearer() {
    let group = group(2);
    let listener = listen(&group, any_port());
    let clients = one_on_each(inet(&listener));
    group.drain(Duration::MAX);
    group.drain(Duration::from_millis(50));
    let counters = group.join().unwrap();
    assert_eq!(counters.losses.shutdown, 2);
    clients.into_iter().for_each(|mut client| assert!(read_all(&mut client).is_empty()));
}

#[test]
fn group_ends_though_no_loop_takes_commands() {
    for shuts_down in [true, false] {
        let group = builder(2).limits(LoopLimits::default().with_commands_max(0)).start().unwrap();
        assert_eq!(group.handle().counters(PATIENCE).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(group.listen(any_port(), |_, _| None::<Member>).unwrap_err().kind(), ErrorKind::WouldBlock);
        match shuts_down {
            true => group.shutdown(PATIENCE),
            false => group.stop(),
        }
        group.join().unwrap();
    }
}

#[test]
fn group_ends_when_one_of_its_loops_is_stopped() {
    let group = group(3);
    group.handle().handles()[1].post(|context| context.stop()).unwrap();
    group.join().unwrap();
}

#[test]
fn group_stops_when_a_loop_panics_and_reports_it() {
    let group = builder(2).panic_policy(PanicPolicy::Propagate).start().unwrap();
    let (address, ends) = telling(&group, any_port());
    let mut clients = one_on_each(address);
    clients[1].write_all(b"!").unwrap();
    let error = group.join().unwrap_err();
    assert_eq!(error.loop_index(), 1);
    assert!(matches!(error.failure(), LoopFailure::Panic(message) if message == "somebody said !"), "{error:?}");
    assert_eq!(error.to_string(), "loop 1 panicked: somebody said !");
    let counters = error.counters();
    assert_eq!((counters.connections_made, counters.panics), (counters.connections_lost, 1));
    assert_eq!(read_all(&mut clients[0]), b"");
    assert_eq!(ends.iter().filter(|(_, reason)| reason.contains("somebody said")).count(), 1);
    assert_eq!(io::Error::from(error).to_string(), "loop 1 panicked: somebody said !");
}

#[test]
fn group_ends_in_order_though_its_callbacks_panic_at_the_end_too() {
    struct Panics;
    impl Protocol for Panics {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            transport.write(&[0]);
        }

        fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
            panic!("at data")
        }

        fn connection_lost(&mut self, _: &mut Transport<'_>, _: CloseReason) {
            panic!("at the end")
        }
    }
    let group = builder(2).panic_policy(PanicPolicy::Propagate).start().unwrap();
    let listener = group.listen(any_port(), |_, _| Some(Panics)).unwrap();
    let mut clients: Vec<_> = (0..10).map(|_| client(inet(&listener)).0).collect();
    clients[0].write_all(b"x").unwrap();
    let error = group.join().unwrap_err();
    assert!(matches!(error.failure(), LoopFailure::Panic(message) if message == "at data"), "{error}");
    assert_eq!((error.counters().connections_lost, error.counters().panics), (10, 11));
}

#[test]
fn group_goes_on_without_a_loop_that_panicked_where_it_is_told_to() {
    let plan = builder(2).panic_policy(PanicPolicy::Propagate).when_loop_fails(WhenLoopFails::GoOn);
    let group = plan.start().unwrap();
    for &distribution in WAYS {
        // Connections that the first has accepted for all end with it, so the other one should have this one.
        listen(&group, GroupListen::at(any_port()).distribution(distribution));
    }
    let listener = listen(&group, GroupListen::at(any_port()).distribution(Distribution::Acceptor));
    assert_eq!(listener.acceptor().map(|(index, _)| index), Some(1));
    let mut clients = one_on_each(inet(&listener));
    clients[0].write_all(b"!").unwrap();
    assert_eq!(clients[0].read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ask = || group.handle().ask_each(PATIENCE, |index, _| index).unwrap();
    wait_until(|| ask() == [None, Some(1)]);
    echoes(&mut clients[1], b"still there");
    for _ in 0..5 {
        let (mut client, index) = client(inet(&listener));
        assert_eq!(index, 1);
        echoes(&mut client, b"hello");
    }
    // Everything that the first one counted is in the sum.
    let counters = group.handle().counters(PATIENCE).unwrap();
    assert_eq!((counters.connections_made, counters.panics), (7, 1));
    for &distribution in WAYS {
        let target = GroupListen::at(any_port()).distribution(distribution);
        assert_eq!(group.listen(target, |_, _| None::<Member>).unwrap_err().kind(), ErrorKind::NotConnected);
    }
    group.stop();
    assert_eq!(group.join().unwrap_err().loop_index(), 0);
}

#[test]
fn group_does_not_start_where_a_setup_fails_and_leaves_nothing() {
    for panics in [false, true] {
        let held = Arc::new(());
        let holds = held.clone();
        let plan = builder(3).setup(move |index, context| {
            let held = holds.clone();
            // Lives as long as the loop does.
            context.call_later(Duration::from_secs(3600), move |_| drop(held));
            context.listen(any_port(), |_, _| None::<Member>)?;
            match index {
                1 if panics => panic!("the second one's setup"),
                1 => Err(io::Error::new(ErrorKind::AddrNotAvailable, "no address")),
                _ => Ok(()),
            }
        });
        let error = plan.start().unwrap_err();
        assert_eq!(error.loop_index(), 1);
        match error.failure() {
            LoopFailure::Panic(message) => assert!(panics && message == "the second one's setup"),
            LoopFailure::Io(error) => assert!(!panics && error.kind() == ErrorKind::AddrNotAvailable),
            _ => unreachable!("there is no third"),
        }
        assert_eq!(Arc::strong_count(&held), 1, "a loop is left");
    }
}

#[test]
fn group_listens_on_all_loops_or_on_none() {
    let group = group(2);
    // The second loop's factory cannot be made.
    for &distribution in WAYS {
        let reserved = TcpListener::bind(any_port()).unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let make = |index, _: &mut Context<'_>| {
            assert!(index != 1, "the second one's factory");
            |_: &mut Context<'_>, _: &Address| None::<Member>
        };
        let error = group.listen_each(GroupListen::at(address).distribution(distribution), make).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
        wait_until(|| TcpStream::connect(address).is_err());
    }
    // The address is in use.
    let taken = TcpListener::bind(any_port()).unwrap();
    for &distribution in WAYS {
        let target = GroupListen::at(taken.local_addr().unwrap()).distribution(distribution);
        assert_eq!(group.listen(target, |_, _| None::<Member>).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
    // A loop cannot wait for itself.
    let (group, (send, answer)) = (Arc::new(group), mpsc::channel());
    let same = group.clone();
    group.handle().handles()[0]
        .post(move |_| send.send(same.listen(any_port(), |_, _| None::<Member>).map(drop).unwrap_err().kind()).unwrap())
        .unwrap();
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), ErrorKind::Deadlock);
}

#[test]
fn a4_where_all_loops_are_full_who_comes_waits_in_front_of_them_and_none_is_lost() {
    const CLIENTS: usize = 12;
    let group = group(2);
    let limits = Limits::default().with_connections_max(2);
    let target = GroupListen::at(Listen::at(any_port()).limits(limits)).distribution(Distribution::Acceptor);
    let listener = listen(&group, target);
    let mut waiting: Vec<_> = (0..CLIENTS).map(|_| connect(inet(&listener))).collect();
    for served in 4..=CLIENTS {
        wait_until(|| group.handle().counters(PATIENCE).unwrap().connections_made == served as u64);
        let most = group.handle().ask_each(PATIENCE, |_, context| context.connection_count()).unwrap();
        assert!(most.iter().all(|count| count.unwrap() <= 2), "{most:?}");
        // In the order in which they came.
        drop(waiting.remove(0));
    }
    // Each was served by some loop that had room.
    group.stop();
    assert_eq!(group.join().unwrap().connections_made, CLIENTS as u64);
}

#[test]
fn group_takes_a_listener_that_somebody_else_made() {
    let group = group(2);
    let ready = TcpListener::bind(any_port()).unwrap();
    let address = ready.local_addr().unwrap();
    let listener = listen(&group, ready);
    assert_eq!((inet(&listener), listener.distribution()), (address, Distribution::Acceptor));
    one_on_each(address).iter_mut().for_each(|client| echoes(client, b"hello"));
}

#[cfg(unix)]
#[test]
fn group_serves_a_unix_socket_from_all_loops() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use switchboard::UnixAddress;

    let path = std::env::temp_dir().join(format!("switchboard-group-{}", std::process::id()));
    let target = || Listen::at(UnixAddress::Path(path.clone())).mode(0o600);
    let group = group(2);
    let forced = group.listen(GroupListen::at(target()).distribution(Distribution::ReusePort), |_, _| None::<Member>);
    assert_eq!(forced.unwrap_err().kind(), ErrorKind::Unsupported);
    let listener = listen(&group, target());
    assert_eq!(listener.local_addr(), &Address::Unix(UnixAddress::Path(path.clone())));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for index in [0, 1, 0, 1] {
        let client = Box::leak(Box::new(UnixStream::connect(&path).unwrap()));
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = [0];
        client.read_exact(&mut first).unwrap();
        assert_eq!(first, [index]);
    }
    drop(group);
    assert!(!path.exists());
}

#[test]
fn group_asks_no_longer_than_it_is_told_to() {
    let group = group(2);
    let (release, released) = mpsc::channel::<()>();
    group.handle().handles()[1].post(move |_| assert!(released.recv().is_err())).unwrap();
    let asked = group.handle().counters(Duration::from_millis(20));
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(release);
    group.handle().counters(PATIENCE).unwrap();
}

#[test]
fn group_that_is_dropped_has_ended() {
    let held = Arc::new(());
    let group = group(2);
    let holds = held.clone();
    let listener = group.listen(any_port(), move |_, _| {
        let _ = &holds;
        Some(Member { index: 0, ends: None })
    });
    let (mut client, _) = client(inet(&listener.unwrap()));
    drop(group);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(read_all(&mut client), b"");
}

#[cfg(target_os = "linux")]
mod in_a_process_of_its_own {
    use super::*;

    fn count(folder: &str) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    /// One group from its start to its end, by each of the ways to it.
    fn one_life(round: usize) {
        let plan = builder(2).panic_policy(PanicPolicy::Propagate);
        let group = plan.setup(move |_, _| if round % 4 == 3 { Err(ErrorKind::Other.into()) } else { Ok(()) }).start();
        let Ok(group) = group else { return };
        let listener = listen(&group, GroupListen::at(any_port()).distribution(WAYS[round % WAYS.len()]));
        let mut clients: Vec<_> = (0..4).map(|_| client(inet(&listener))).collect();
        clients.iter_mut().for_each(|(client, _)| echoes(client, b"hello"));
        match round % 4 {
            0 => group.stop(),
            1 => group.shutdown(PATIENCE),
            _ => clients[0].0.write_all(b"!").unwrap(),
        }
        assert_eq!(group.join().is_err(), round % 4 == 2);
    }

    #[test]
    #[ignore = "counts what the process has, so it has to be alone: the test below runs it"]
    fn nothing_is_left() {
        one_life(0);
        let before = (count("/proc/self/task"), count("/proc/self/fd"));
        (0..40).for_each(one_life);
        let after = || (count("/proc/self/task"), count("/proc/self/fd"));
        // A thread is joined a moment before the kernel has forgotten it.
        wait_until(|| after() == before);
    }

    #[test]
    fn group_leaves_no_thread_and_no_descriptor_behind() {
        if !crate::support::has_proc() {
            return;
        }
        let name = "grouping::in_a_process_of_its_own::nothing_is_left";
        let mut command = std::process::Command::new(crate::support::this_program());
        let output = command.args(["--exact", name, "--ignored"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
