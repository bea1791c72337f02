//! Values that are stored, compared, printed and sent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::fmt::{Debug, Display, Formatter};
use std::hash::Hash;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use switchboard::framing::FramingError;
use switchboard::server::RequestError;
use switchboard::workers::LoopFailure;
use switchboard::{
    Address, AnyId, CloseReason, ConnectError, ConnectionId, Context, Counters, DatagramError, Endpoint, EndpointError,
    Escaped, EventLoop, Handle, IntoProtocol, Limit, Limits, Listener, ListenerError, ListenerId, PanicPolicy,
    Protocol, Readiness, SourceAction, SourceId, Timeout, TimerId, Transport, WhenFull, escape,
};

/// What an embedder keeps along with the loop: all of it supports derives.
#[derive(Debug)]
struct Program {
    event_loop: EventLoop,
    handle: Handle,
    limits: Limits,
    panics: PanicPolicy,
    listener: Option<ListenerId>,
    names: HashMap<ConnectionId, Address>,
    timers: HashSet<TimerId>,
    sources: BTreeSet<SourceId>,
    waited_for: Vec<AnyId>,
    counted: Counters,
    ends: Vec<CloseReason>,
}

#[test]
fn what_may_cross_threads_does() {
    fn may_cross<T: Send + Sync + 'static>() {}
    may_cross::<Handle>();
    may_cross::<ConnectionId>();
    may_cross::<ListenerId>();
    may_cross::<SourceId>();
    may_cross::<TimerId>();
    may_cross::<AnyId>();
    may_cross::<Address>();
    may_cross::<Limits>();
    may_cross::<Counters>();
    may_cross::<CloseReason>();
    may_cross::<ListenerError>();
    may_cross::<Readiness>();
    may_cross::<Escaped<'static>>();
}

#[test]
fn ids_are_keys() {
    fn is_key<T: Copy + Eq + Hash + Ord + Debug>() {}
    is_key::<ConnectionId>();
    is_key::<ListenerId>();
    is_key::<SourceId>();
    is_key::<TimerId>();
    fn is_shown<T: Display>() {}
    is_shown::<ConnectionId>();
    is_shown::<ListenerId>();
    is_shown::<SourceId>();
}

#[test]
fn whatever_a_program_keeps_can_be_printed() {
    let event_loop = EventLoop::with_limits(Limits::default().with_connections_max(7)).unwrap();
    let mut program = Program {
        handle: EventLoop::new().unwrap().context().handle(),
        event_loop,
        limits: Limits::default(),
        panics: PanicPolicy::Propagate,
        listener: None,
        names: HashMap::new(),
        timers: HashSet::new(),
        sources: BTreeSet::new(),
        waited_for: Vec::new(),
        counted: Counters::default(),
        ends: vec![CloseReason::Closed],
    };
    let timer = program.event_loop.context().call_later(Duration::from_secs(1), |_| {});
    program.timers.insert(timer);
    program.waited_for.push(timer.into());
    let shown = format!("{program:?}");
    for part in ["EventLoop", "Handle", "queue_bytes_high", "Propagate", "TimerId(", "Timer(", "Closed"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    let Program { mut event_loop, handle, limits, panics, listener, names, sources, counted, ends, .. } = program;
    handle.stop(); // Its loop is gone: nothing happens.
    assert!(matches!(ends[..], [CloseReason::Closed]));
    assert_eq!((limits, listener, names.len(), sources.len()), (Limits::default(), None, 0, 0));
    assert_ne!(panics, PanicPolicy::default());
    assert_eq!(event_loop.context().counters(), counted, "nothing has happened");
}

#[test]
fn what_callbacks_are_handed_can_be_printed_too() {
    fn is_debug<T: Debug>() {}
    is_debug::<Transport<'_>>();
    is_debug::<Context<'_>>();
    is_debug::<Listener<'_>>();
    is_debug::<SourceAction>();
    is_debug::<Readiness>();
}

#[test]
fn reasons_are_errors_and_say_what_happened() {
    let full = || io::Error::other("full");
    for (reason, words) in [
        (CloseReason::PeerClosed, "peer"),
        (CloseReason::Closed, "us"),
        (CloseReason::Aborted, "aborted"),
        (CloseReason::Reset, "reset"),
        (CloseReason::Io(full().into()), ": full"),
        (CloseReason::Timeout(Timeout::Close), "in time"),
        (CloseReason::Limit(Limit::InputBytes), "input"),
        (CloseReason::Limit(Limit::QueueBytes), "output"),
        (CloseReason::Limit(Limit::LoopQueueBytes), "whole loop"),
        (CloseReason::Protocol(Arc::from(Box::from("bad verb"))), ": bad verb"),
        (CloseReason::Overconsumed { consumed: 3, given: 2 }, "3"),
        (CloseReason::Panic("oops".to_owned()), "oops"),
        (CloseReason::Shutdown, "shut down"),
    ] {
        let text = reason.to_string();
        assert!(text.contains(words), "{text:?} says nothing of {words:?}");
    }
    for error in [ListenerError::Overloaded(full()), ListenerError::Failed(full()), ListenerError::Closed(full())] {
        assert!(error.to_string().contains(": full"));
    }
}

/// An error with its own text, made from the one below it.
#[derive(Debug)]
struct Outer(io::Error);

impl Display for Outer {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn errors_say_each_text_of_their_chain_once() {
    let outer = || Outer(io::Error::other("root"));
    let failed = || io::Error::other(outer());
    let peer = || Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    let errors: [Box<dyn Error>; 13] = [
        Box::new(CloseReason::Io(failed().into())),
        Box::new(CloseReason::Protocol(Arc::new(outer()))),
        Box::new(ConnectError::Lookup(failed())),
        Box::new(ConnectError::Cancelled(CloseReason::Io(failed().into()))),
        Box::new(ListenerError::Overloaded(failed())),
        Box::new(ListenerError::Failed(failed())),
        Box::new(ListenerError::Closed(failed())),
        Box::new(DatagramError::Socket(failed())),
        Box::new(FramingError::Other(outer().into())),
        Box::new(RequestError::Io(failed())),
        Box::new(RequestError::Handler(Box::new(outer()))),
        Box::new(LoopFailure::Io(failed())),
        Box::new(io::Error::other(CloseReason::Io(failed().into()))),
    ];
    let report = |error: &dyn Error| {
        let mut texts = vec![error.to_string()];
        let mut below = error.source();
        while let Some(error) = below {
            texts.push(error.to_string());
            below = error.source();
        }
        texts.join(" <- ")
    };
    for error in errors {
        let report = report(&*error);
        assert_eq!((report.matches("outer").count(), report.matches("root").count()), (1, 1), "{report}");
    }
    let tried = ConnectError::Failed(vec![(peer(), failed()), (peer(), failed())]);
    assert_eq!(report(&tried), "cannot connect: 127.0.0.1:80: outer; 127.0.0.1:80: outer");
}

#[test]
fn c7_a_reason_can_be_kept_and_passed_on() {
    fn is_shared<T: Clone + Send + Sync>(_: &T) {}
    for reason in [CloseReason::Io(io::Error::other("full").into()), CloseReason::Protocol(Arc::from(Box::from("bad")))]
    {
        is_shared(&reason);
        assert_eq!(reason.clone().to_string(), reason.to_string());
    }
}

#[test]
fn addresses_are_made_compared_and_shown() {
    let inet: SocketAddr = "[::1]:80".parse().unwrap();
    let address = Address::from(inet);
    assert_eq!((address.as_inet(), address.to_string()), (Some(inet), inet.to_string()));
    assert!(matches!(&address, Address::Inet(found) if *found == inet));
    assert!(address == inet && SocketAddr::try_from(address.clone()) == Ok(inet));
    let mut seen = HashSet::from([address.clone()]);
    assert!(!seen.insert(address.clone()));
    #[cfg(unix)]
    {
        use switchboard::UnixAddress;

        let path = Address::from(UnixAddress::path("/run/x"));
        let name = UnixAddress::abstract_name("x");
        let shown = [&path, &name.clone().into()].map(ToString::to_string);
        assert_eq!(shown, ["unix:/run/x", "unix:@x"]);
        assert_eq!(path.as_unix().and_then(UnixAddress::as_path), Some(std::path::Path::new("/run/x")));
        assert_eq!((name.as_path(), address.as_unix(), path != inet), (None, None, true));
        assert_eq!(SocketAddr::try_from(path.clone()), Err(path.clone()));
        assert!(address < path && path < name.into());
    }
}

#[test]
fn limits_are_read_set_and_chained() {
    let mut limits = Limits::default().with_when_full(WhenFull::Refuse).with_close_timeout(Duration::from_secs(1));
    limits.input_bytes_max = 1;
    assert_eq!((limits.when_full, limits.input_bytes_max), (WhenFull::Refuse, 1));
    assert_ne!(limits, Limits::default());
}

#[test]
fn readiness_is_asked() {
    let none = Readiness::default();
    let asked = [none.is_readable(), none.is_writable(), none.is_read_closed(), none.is_error(), none.is_priority()];
    assert_eq!(asked, [false; 5]);
}

#[test]
fn what_a_peer_sent_is_shown_escaped() {
    let shown: Escaped<'_> = escape(b"\x1b[2Jhello");
    assert_eq!(shown.to_string(), r"\x1b[2Jhello");
}

/// A protocol needs only one callback, is object-safe, and is accepted with or without a box.
#[test]
fn protocols_are_objects() {
    struct Discard;

    impl Protocol for Discard {
        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }

    fn kept(protocol: impl IntoProtocol) -> Box<dyn Protocol> {
        protocol.into_protocol()
    }
    let mixed: Vec<Box<dyn Protocol>> = vec![kept(Discard), kept(kept(Discard))];
    // A boxed protocol is not boxed again.
    assert!(mixed.iter().all(|protocol| size_of_val(&**protocol) == 0));
}

#[test]
fn endpoints_come_from_a_configuration() {
    let endpoints: Result<Vec<Endpoint>, EndpointError> =
        "tcp:127.0.0.1:0 tcp:127.0.0.1:0".split(' ').map(str::parse).collect();
    let mut event_loop = EventLoop::new().unwrap();
    for endpoint in endpoints.unwrap() {
        assert!(matches!(endpoint.address(), Some(Address::Inet(_))), "{endpoint} is of another kind");
        let id = event_loop.context().listen(endpoint, |_, _| None::<Box<dyn Protocol>>).unwrap();
        let address = event_loop.context().listener(id).unwrap().local_addr().unwrap().as_inet().unwrap();
        let taken: Endpoint = format!("tcp:{address}").parse().unwrap();
        let error = event_loop.context().listen(taken, |_, _| None::<Box<dyn Protocol>>).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
    let error: Box<dyn Error + Send + Sync> = "nowhere".parse::<Endpoint>().unwrap_err().into();
    assert!(error.is::<EndpointError>());
}
