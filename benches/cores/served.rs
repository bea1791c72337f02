//! What is measured: groups that serve one of the protocols.

#[allow(dead_code, unused_imports)] // Its own `main`; and its tests, which a bench does not run.
#[path = "../../examples/chat.rs"]
mod chat;
#[allow(dead_code, unused_imports, clippy::duplicate_mod)] // All programs have the modules in `support`.
#[path = "../../examples/http_server.rs"]
mod http_server;
#[allow(dead_code, unused_imports, clippy::duplicate_mod)]
#[path = "../../examples/resp_server.rs"]
mod resp_server;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use switchboard::framing::{LineHandler, LineReceiver};
use switchboard::workers::{EventLoopGroup, GroupHandle};
use switchboard::{ConnectionId, Context, Limits, ListenerId, Transport};

use crate::placing::{self, Thread};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Resp,
    /// The example `chat`, with a room for each loop.
    Rooms,
    /// One room for all loops.
    Across,
}

/// A group of loops.
pub(crate) struct Server {
    _group: EventLoopGroup,
    threads: Vec<Thread>,
    /// Of each loop.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts a loop on each of these cores. Each listens at a port of its own, so it is known which connections it has.
    pub(crate) fn start(kind: Kind, cores: &[usize]) -> Server {
        let loops = NonZeroUsize::new(cores.len()).expect("a loop needs a core");
        let group = EventLoopGroup::builder(loops).limits(limits(kind)).start().expect("threads are left");
        let handle = group.handle().clone();
        let answers = group.handle().ask_each(LIMIT, move |nth, context| {
            let listener = listen(kind, nth, context, &handle).expect("a port is left");
            let address = context.listener(listener).and_then(|listening| listening.local_addr().ok());
            let address = address.and_then(|address| address.as_inet()).expect("it listens on TCP");
            (address, Thread::this().expect("it was possible before"))
        });
        let answers: Vec<_> = answers.expect("the loops turn").into_iter().flatten().collect();
        assert_eq!(answers.len(), cores.len(), "each loop listens");
        for (&(_, thread), &core) in answers.iter().zip(cores) {
            assert!(thread.stay_on(core), "it was possible before");
        }
        let (addresses, threads) = answers.into_iter().unzip();
        Server { _group: group, threads, addresses }
    }

    pub(crate) fn cpu_at_rest(&self) -> Duration {
        placing::cpu_at_rest(&self.threads)
    }
}

fn limits(kind: Kind) -> Limits {
    let bounds = |timeout| http_server::bounds::Bounds { timeout, per_peer_max: None };
    match kind {
        Kind::Http => http_server::limits(&bounds(http_server::IDLE_TIMEOUT)),
        Kind::Resp => {
            resp_server::limits(&resp_server::bounds::Bounds { timeout: resp_server::IDLE_TIMEOUT, per_peer_max: None })
        }
        Kind::Rooms => chat::limits(&chat::bounds::Bounds { timeout: chat::NAME_TIMEOUT, per_peer_max: None }),
        Kind::Across => Limits::default().with_pause_reading_over_high(false),
    }
}

fn listen(kind: Kind, nth: usize, context: &mut Context<'_>, group: &GroupHandle) -> io::Result<ListenerId> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match kind {
        Kind::Http => {
            let answers = http_server::http::Responses::new();
            context.listen(any_port, move |_, _| Some(http_server::Client::new(answers.clone())))
        }
        Kind::Resp => {
            let server = resp_server::Server::new(resp_server::STORED_BYTES_MAX, resp_server::HELD_BYTES_MAX);
            context.listen(any_port, move |_, _| Some(resp_server::Client::new(&server, 1)))
        }
        Kind::Rooms => chat::listen(context, any_port),
        Kind::Across => {
            let group = group.clone();
            ROOM.with_borrow_mut(Vec::clear);
            context.listen(any_port, move |_, _| Some(LineReceiver::new(Member { nth, group: group.clone() })))
        }
    }
}

// --------------------------------------------------------------------------------------- one room across the loops

thread_local! {
    /// The members on this thread's loop.
    static ROOM: RefCell<Vec<ConnectionId>> = const { RefCell::new(Vec::new()) };
}

/// A member of the room that spans all loops.
struct Member {
    /// The number of its loop.
    nth: usize,
    group: GroupHandle,
}

impl LineHandler for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        ROOM.with_borrow_mut(|room| room.push(transport.id()));
    }

    /// Sends it to everybody else.
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        let line = [line, b"\r\n"].concat();
        for (_, other) in self.group.handles().iter().enumerate().filter(|(nth, _)| *nth != self.nth) {
            let line = line.clone();
            let posted = other.post(move |context| {
                ROOM.with_borrow(|room| context.broadcast(room.iter(), &line));
            });
            assert!(posted.is_ok(), "more is posted to a loop than its queue holds");
        }
        let me = transport.id();
        ROOM.with_borrow(|room| transport.context().broadcast(room.iter().filter(|id| **id != me), &line));
    }
}
