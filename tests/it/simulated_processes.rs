//! The test kit: hosts that crash, restart, are paused, are slow or have wrong clocks, and calls that fail.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use switchboard::testing::{Call, Crash, Faults, HostId, Network, Peer, seeds};
use switchboard::{
    Address, Backoff, CloseReason, ConnectError, ConnectionId, Context, DatagramProtocol, DatagramTransport, Handle,
    Protocol, Reconnect, Transport,
};

use crate::support::{Echo, pattern};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);

type Notes = Rc<RefCell<Vec<String>>>;

/// Echoes, records its callbacks and its drop, and makes its loop send something then.
struct Server {
    notes: Notes,
    handle: Handle,
    id: Option<ConnectionId>,
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.id = Some(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.notes.borrow_mut().push(format!("lost: {reason}"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let _ = self.handle.write(id, b"last words".to_vec());
            self.notes.borrow_mut().push("dropped".to_owned());
        }
    }
}

fn listen(network: &mut Network, server: HostId) -> (SocketAddr, Notes) {
    let address = network.address(server, 7);
    let (notes, handle) = (Notes::default(), network.context(server).handle());
    let noted = notes.clone();
    let factory =
        move |_: &mut Context<'_>, _: &Address| Some(Server { notes: noted.clone(), handle: handle.clone(), id: None });
    network.context(server).listen(address, factory).unwrap();
    (address, notes)
}

/// A network without faults, with a server that a peer has connected to, and the callbacks of the server's protocol.
fn served() -> (Network, HostId, Peer, Notes) {
    let mut network = Network::new(3, Faults::none());
    let server = network.host();
    let (address, notes) = listen(&mut network, server);
    let peer = network.peer(address);
    network.run_until_rest();
    (network, server, peer, notes)
}

/// What the trace says from the crash on.
fn trace_of_crash(network: &Network) -> String {
    let trace = network.trace();
    let at = trace.find(" crashes: ").expect("a host has crashed");
    trace[at..].to_owned()
}

#[test]
fn kit_a_crash_tells_no_protocol_and_nothing_is_sent_that_its_destructors_ask_for() {
    for how in [Crash::Killed, Crash::Reset, Crash::Silent] {
        let (mut network, server, mut peer, notes) = served();
        network.context(server).call_later(SECOND, |_| panic!("a timer of a loop that is gone"));
        network.crash(server, how);
        assert_eq!(*notes.borrow(), ["dropped"], "{how:?}");
        network.run_for(10 * SECOND);
        assert_eq!(peer.read(), b"", "{how:?}");
        assert!(!trace_of_crash(&network).contains("writes"), "{}", network.trace());
    }
}

#[test]
fn kit_a_crash_takes_with_it_what_its_host_asked_for_and_what_would_wake_it() {
    let (mut network, server, _peer, _) = served();
    network.name_latency(SECOND, SECOND);
    network.context(server).connect(("echo.example", 7), Echo).unwrap();
    let held = Rc::new(Cell::new(0));
    network.connect(server, network.address(server, 7), Counts(held.clone()));
    network.context(server).handle().post(|_| panic!("a command to a loop that is gone")).unwrap();
    network.crash(server, Crash::Reset);
    assert_eq!(Rc::strong_count(&held), 1, "what was to be connected is gone, too");
    network.restart(server);
    let turns = network.turns();
    network.run_for(10 * SECOND);
    assert_eq!((network.turns() - turns, network.sockets()), (0, 1), "nothing is left but the peer");
    assert!(!network.trace().contains("cannot resolve echo.example"), "{}", network.trace());
}

#[test]
fn kit_the_kernel_of_a_killed_process_sends_what_it_had_taken_and_the_end() {
    let (mut network, server, mut peer, _) = served();
    peer.stall();
    peer.queue(&pattern(1000));
    network.run_until_rest();
    network.crash(server, Crash::Killed);
    peer.unstall();
    network.run_until_rest();
    assert_eq!((peer.read(), peer.saw_end()), (pattern(1000), true));
    let refused = network.peer(network.address(server, 7));
    network.run_until_rest();
    assert!(!refused.is_connected());
    assert!(network.trace().contains("ConnectionRefused"));
}

#[test]
fn kit_a_crash_by_reset_takes_what_the_kernel_held_with_it() {
    let (mut network, server, mut peer, _) = served();
    peer.stall();
    peer.queue(&pattern(1000));
    network.run_until_rest();
    network.crash(server, Crash::Reset);
    peer.unstall();
    network.run_until_rest();
    assert_eq!((peer.read(), peer.saw_end(), peer.is_connected()), (vec![], false, false));
    assert_eq!(peer.error().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
}

#[test]
fn kit_a_host_that_is_dark_is_found_out_by_timeouts_alone() {
    let (mut network, server, mut peer, _) = served();
    network.crash(server, Crash::Silent);
    peer.queue(b"anybody?");
    let other = network.peer(network.address(server, 7));
    network.run_for(923 * SECOND);
    assert!(peer.is_connected() && !other.is_connected());
    assert!(peer.error().is_none());
    network.run_for(SECOND);
    assert_eq!(peer.error().map(|error| error.kind()), Some(ErrorKind::TimedOut));
    assert!(!trace_of_crash(&network).contains("Reset"), "{}", network.trace());
}

#[test]
fn kit_a_listener_gives_up_who_went_dark_within_a_connect() {
    let mut network = Network::new(0, Faults::none());
    let (server, client) = (network.host(), network.host());
    let (address, _) = listen(&mut network, server);
    network.slow(server, client, SECOND, SECOND);
    network.context(client).connect(address, Echo).unwrap();
    network.run_for(SECOND);
    network.crash(client, Crash::Silent);
    assert_eq!(network.sockets(), 2, "the listener, and what it has answered");
    network.run_for(63 * SECOND);
    assert_eq!(network.sockets(), 2);
    network.run_for(SECOND);
    assert_eq!(network.sockets(), 1);
}

#[test]
fn kit_after_a_restart_old_connections_are_reset_for_what_they_send_and_new_ones_served() {
    let (mut network, server, mut peer, _) = served();
    let quiet = network.peer(network.address(server, 7));
    network.run_until_rest();
    network.crash(server, Crash::Silent);
    peer.queue(b"anybody?");
    network.run_for(60 * SECOND);
    network.restart(server);
    network.run_for(3 * SECOND);
    assert_eq!(peer.error().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
    assert!(quiet.is_connected(), "it has sent nothing");
    let (address, _) = listen(&mut network, server);
    let mut peer = network.peer(address);
    peer.queue(b"hello");
    network.run_until_rest();
    assert_eq!(peer.read(), b"hello");
}

#[test]
fn kit_a_restarted_host_is_reached_again_and_its_ids_are_new_ones() {
    let mut network = Network::new(0, Faults::none());
    let (server, client) = (network.host(), network.host());
    let (address, _) = listen(&mut network, server);
    let old = network.context(server).call_later(SECOND, |_| ());
    network.set_name("echo.example", [network.ip(server)]);
    let made = Rc::new(Cell::new(0));
    let counts = made.clone();
    let factory = move |_: &mut Context<'_>| Some(Counts(counts.clone()));
    Reconnect::new(("echo.example", 7), Backoff::new(SECOND).seed(1), factory).start(&mut network.context(client));
    network.run_for(SECOND);
    network.restart(server);
    assert!(!network.context(server).cancel_timer(old), "an id of the loop that is gone");
    let new = network.context(server).call_later(SECOND, |_| ());
    assert_ne!(old, new);
    network.run_for(10 * SECOND);
    assert_eq!(made.get(), 1, "nobody listens there yet");
    assert_eq!(listen(&mut network, server).0, address);
    network.run_for(60 * SECOND);
    assert_eq!(made.get(), 2);
}

/// Counts how often it is connected.
struct Counts(Rc<Cell<u32>>);

impl Protocol for Counts {
    fn connection_made(&mut self, _: &mut Transport<'_>) {
        self.0.set(self.0.get() + 1);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn kit_the_kernel_of_a_paused_host_goes_on_until_its_buffers_are_full() {
    let (mut network, server, mut peer, _) = served();
    let fired = Rc::new(Cell::new(Duration::ZERO));
    let note = fired.clone();
    let begun = network.context(server).now();
    network.context(server).call_later(SECOND, move |context| note.set(context.now() - begun));
    network.pause(server);
    peer.queue(&pattern(10_000_000));
    let other = network.peer(network.address(server, 7));
    network.run_for(10 * SECOND);
    assert!(other.is_connected(), "the kernel answers");
    let taken = 10_000_000 - peer.queued();
    assert!((256 * 1024..9_000_000).contains(&taken), "{taken}");
    assert_eq!((peer.read().len(), fired.get()), (0, Duration::ZERO));
    network.resume(server);
    assert!(network.read_exactly(&mut peer, 10_000_000) == pattern(10_000_000));
    assert_eq!(fired.get(), 10 * SECOND);
}

/// Returns when a host's timer with this delay fires, by the network's clock, after `set` was applied to the host.
fn fires_after(time: Duration, set: impl FnOnce(&mut Network, HostId)) -> Duration {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    network.run_for(SECOND);
    let fired = Rc::new(Cell::new(false));
    let note = fired.clone();
    network.context(host).call_later(time, move |_| note.set(true));
    set(&mut network, host);
    assert!(network.run_until(|_| fired.get()));
    network.now() - SECOND
}

#[test]
fn kit_timers_go_by_the_clock_of_their_host() {
    assert_eq!(fires_after(10 * SECOND, |_, _| ()), 10 * SECOND);
    assert_eq!(fires_after(10 * SECOND, |network, host| network.set_clock_rate(host, 2.0)), 5 * SECOND);
    assert_eq!(fires_after(10 * SECOND, |network, host| network.set_clock_rate(host, 0.5)), 20 * SECOND);
    assert_eq!(fires_after(10 * SECOND, |network, host| network.jump_clock(host, 4 * SECOND)), 6 * SECOND);
    let both = |network: &mut Network, host| {
        network.set_clock_rate(host, 3.0);
        network.run_for(SECOND);
        network.jump_clock(host, SECOND);
        network.set_clock_rate(host, 0.75);
    };
    // Three seconds in the first one, and one by the jump; the other six take eight.
    assert_eq!(fires_after(10 * SECOND, both), 9 * SECOND);
    assert_eq!(fires_after(SECOND, |network, host| network.jump_clock(host, 4 * SECOND)), Duration::ZERO);
}

#[test]
fn kit_a_timer_by_a_wrong_clock_is_neither_early_nor_tried_twice() {
    for rate in [0.001, 0.333_333, 0.999_999, 1.0, 1.000_001, 7.777_777, 1000.0] {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        network.run_for(Duration::from_nanos(12_345));
        network.set_clock_rate(host, rate);
        let fired = Rc::new(Cell::new(None));
        for wait in [1, 2, 3, 1_000, 999_999_937].map(Duration::from_nanos) {
            let note = fired.clone();
            let begun = network.context(host).now();
            network.context(host).call_later(wait, move |context| note.set(Some(context.now() - begun)));
            let turns = network.turns();
            network.run_until(|_| fired.get().is_some());
            let late = fired.take().and_then(|passed| passed.checked_sub(wait)).expect("it is not early");
            // Its clock goes on in steps, of a nanosecond of the network's.
            assert!(late <= Duration::from_nanos(rate as u64), "{rate} {wait:?}: {late:?}");
            assert_eq!(network.turns() - turns, 1, "{rate} {wait:?}");
        }
    }
}

#[test]
fn kit_a_loop_that_waits_by_itself_goes_by_its_clock_too() {
    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    network.set_clock_rate(host, 4.0);
    let begun = network.context(host).now();
    network.context(host).call_later(SECOND, |context| context.stop());
    network.event_loop(host).run().unwrap();
    assert_eq!((network.now(), network.context(host).now() - begun), (SECOND / 4, SECOND));
}

#[test]
fn kit_turns_of_a_slow_host_take_their_time_and_those_of_others_none() {
    let (mut network, server, mut peer, _) = served();
    network.slow_host(server, 30 * MS, 30 * MS);
    let turns = network.turns();
    peer.queue(b"one");
    network.run_for(30 * MS - NS);
    peer.queue(b", two");
    assert_eq!((peer.read().len(), network.turns() - turns), (0, 0));
    network.run_for(NS);
    assert_eq!(peer.read(), b"one, two");
    peer.queue(b"!");
    network.run_for(30 * MS - NS);
    assert_eq!(peer.read(), b"", "the next turn takes as long");
    network.run_for(NS);
    assert_eq!(peer.read(), b"!");
    assert_eq!(network.trace().matches("a turn of host 0 takes 30ms").count(), 2);
    network.slow_host(server, Duration::ZERO, Duration::ZERO);
    peer.queue(b"three");
    network.run_for(Duration::ZERO);
    assert_eq!(peer.read(), b"three");
}

#[test]
fn kit_the_kth_call_fails_and_no_other() {
    let (mut network, server, mut peer, notes) = served();
    network.fail_call(server, Call::Write, 2, io::Error::from_raw_os_error(libc::ENOBUFS));
    network.fail_call(server, Call::Read, 4, ErrorKind::ConnectionReset.into());
    let mut say = |network: &mut Network, what: &str| {
        peer.queue(what.as_bytes());
        network.run_for(Duration::ZERO);
        String::from_utf8(peer.read()).unwrap()
    };
    assert_eq!(say(&mut network, "one"), "one");
    assert_eq!(say(&mut network, "two"), "", "the kernel has no buffers");
    network.run_for(SECOND);
    assert_eq!(say(&mut network, ", three"), "two, three");
    assert_eq!(say(&mut network, "four"), "");
    assert_eq!(*notes.borrow(), ["lost: reset by the peer", "dropped"]);
    let trace = network.trace();
    let failed: Vec<_> = trace.lines().filter_map(|line| line.split_once("as requested: ")).collect();
    let failed: Vec<_> = failed.into_iter().map(|(_, what)| what).collect();
    assert!(failed[0].starts_with("Write: ") && failed[1..] == ["Read: ConnectionReset"], "{failed:?}");
}

#[test]
fn kit_calls_of_every_kind_fail() {
    struct Silent;

    impl DatagramProtocol for Silent {
        fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
            transport.send_to(data, from);
        }
    }

    let mut network = Network::new(0, Faults::none());
    let (host, other) = (network.host(), network.host());
    let denied = || io::Error::from(ErrorKind::PermissionDenied);
    for call in [Call::Accept, Call::Bind, Call::Connect, Call::Listen, Call::Receive, Call::Send] {
        network.fail_call(host, call, 1, denied());
    }
    let (tcp, udp, nowhere) = (network.address(host, 7), network.address(host, 9), network.address(other, 7));
    let mut context = network.context(host);
    let kinds = [
        context.listen(tcp, |_, _| Some(Echo)).err().map(|error| error.kind()),
        context.connect(nowhere, Echo).err().map(|error| error.kind()),
        context.bind_datagram(udp, Silent).err().map(|error| error.kind()),
    ];
    assert_eq!(kinds, [Some(ErrorKind::PermissionDenied); 3]);
    context.listen(tcp, |_, _| Some(Echo)).unwrap();
    context.bind_datagram(udp, Silent).unwrap();
    let mut peer = network.datagram_peer(0).unwrap();
    let mut count = 0;
    for _ in 0..3 {
        peer.send(b"ping", Some(udp)).unwrap();
        network.run_for(10 * SECOND);
        count += usize::from(peer.receive().unwrap().is_some());
    }
    let connected = network.peer(tcp);
    network.run_for(10 * SECOND);
    assert!(connected.is_connected());
    assert_eq!(count, 2, "the answer that could not be sent is lost");
    let trace = network.trace();
    for call in ["Accept", "Bind", "Connect", "Listen", "Receive", "Send"] {
        assert_eq!(trace.matches(&format!("as requested: {call}: ")).count(), 1, "{call}: {trace}");
    }
}

#[test]
fn kit_a_host_without_descriptors_accepts_again_when_it_has_one() {
    let (mut network, server, first, _) = served();
    network.set_descriptors_max(server, 2);
    let mut second = network.peer(network.address(server, 7));
    second.queue(b"two");
    network.run_for(10 * SECOND);
    assert!(second.is_connected() && second.read().is_empty());
    let address = network.address(server, 7);
    let error = network.context(server).connect(address, Echo).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    drop(first);
    network.run_for(10 * SECOND);
    assert_eq!(second.read(), b"two");
    network.set_descriptors_max(server, None);
    let mut third = network.peer(network.address(server, 7));
    third.queue(b"three");
    network.run_for(10 * SECOND);
    assert_eq!(third.read(), b"three");
}

/// Records how its connections end.
struct Ends(Notes);

impl Protocol for Ends {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&pattern(5000));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.0.borrow_mut().push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(format!("lost: {reason}"));
    }
}

/// A client that connects again and again, to a server that crashes in every way, is paused and is slow.
fn life(seed: u64) -> (String, Vec<String>) {
    let mut network = Network::new(seed, Faults::all());
    let (server, client) = (network.host(), network.host());
    network.set_name("echo.example", [network.ip_v6(server), network.ip(server)]);
    network.name_latency(Duration::ZERO, SECOND);
    network.slow_host(server, Duration::ZERO, 20 * MS);
    network.set_clock_rate(client, 1.001);
    listen(&mut network, server);
    let notes = Notes::default();
    let noted = notes.clone();
    let factory = move |_: &mut Context<'_>| Some(Ends(noted.clone()));
    Reconnect::new(("echo.example", 7), Backoff::new(SECOND).seed(seed), factory).start(&mut network.context(client));
    for how in [Crash::Killed, Crash::Reset, Crash::Silent] {
        network.run_for(10 * SECOND);
        network.pause(server);
        network.run_for(SECOND);
        network.resume(server);
        network.crash(server, how);
        network.run_for(SECOND);
        network.restart(server);
        listen(&mut network, server);
    }
    network.run_for(20 * SECOND);
    assert!(network.turns_without_progress_most() < 10, "{}", network.turns_without_progress_most());
    (network.trace(), notes.take())
}

#[test]
fn kit_a_seed_tells_the_same_of_crashes_and_all_else_to_the_byte() {
    seeds(|seed| {
        let (trace, told) = life(seed);
        if seed < 5 {
            assert!(trace == life(seed).0, "seed {seed}");
        }
        assert!(!told.is_empty(), "{trace}");
    });
}
