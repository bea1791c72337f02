//! What a group of loops listens on, and how connections are spread among them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};

use socket2::{Domain, Socket, Type};

use super::group_handle::GroupHandle;
#[cfg(unix)]
use switchboard::UnixAddress;
use switchboard::{Address, Context, Limits, ListenerId, PostError, Protocol, SharedBacklog};

/// How connections are spread among the loops of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distribution {
    /// Each loop has a socket of its own on the same TCP address (`SO_REUSEPORT`), and the kernel chooses among them by a
    /// hash of the peer's address and port: nothing passes between threads, many connections are spread evenly, few may
    /// not be. On Linux.
    ///
    /// Two things to know. A second program of the same user that does the same on the same address does not get
    /// `AddrInUse`: it gets a share of the connections. And a connection in the socket of a loop that is busy waits though
    /// other loops are idle; when that socket is closed, it is reset.
    ReusePort,
    /// One of the loops accepts, and each connection is served by the loop that has the fewest of them, in turn where several
    /// have. Even for few connections, for any kind of socket, on any system; a connection costs some microseconds more.
    ///
    /// A loop that has all the connections it may have, or whose listener is paused, is passed over. While none has room,
    /// nothing is accepted: newcomers wait in the kernel's backlog, and are served as soon as any loop has room again.
    Acceptor,
}

/// What a group listens on, and how: made from an address, a [`UnixAddress`] or a listener of the standard library.
///
/// # Errors
///
/// Of listening on it, beside what the system says: `Unsupported` for [`Distribution::ReusePort`] where there is no such
/// thing.
#[derive(Debug)]
#[must_use]
pub struct Listen {
    target: Target,
    distribution: Option<Distribution>,
    limits: Option<Limits>,
}

#[derive(Debug)]
enum Target {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(UnixAddress, Option<u32>),
    Ready(TcpListener),
}

impl Listen {
    /// An address: a [`SocketAddr`] (port 0 lets the system choose one), a [`UnixAddress`], or a
    /// [`TcpListener`] that listens already.
    pub fn on(target: impl Into<Listen>) -> Listen {
        target.into()
    }

    fn new(target: Target) -> Listen {
        Listen { target, distribution: None, limits: None }
    }

    /// How connections are spread. Default: [`Distribution::ReusePort`] for a TCP address on Linux, else
    /// [`Distribution::Acceptor`].
    pub fn distribution(mut self, distribution: Distribution) -> Listen {
        self.distribution = Some(distribution);
        self
    }

    /// The limits of the listener and its connections, in place of the loop's. Each loop has a listener of its own, and
    /// they hold for each of them, not for the sum: `connections_max` is that of one loop.
    pub fn limits(mut self, limits: Limits) -> Listen {
        self.limits = Some(limits);
        self
    }

    /// The mode of a Unix path, see [`Context::listen_unix`]. Of no effect on others.
    #[cfg(unix)]
    pub fn mode(mut self, mode: u32) -> Listen {
        if let Target::Unix(_, of_path) = &mut self.target {
            *of_path = Some(mode);
        }
        self
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::new(Target::Tcp(address))
    }
}

#[cfg(unix)]
impl From<UnixAddress> for Listen {
    fn from(address: UnixAddress) -> Listen {
        Listen::new(Target::Unix(address, None))
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Listen {
        Listen::new(Target::Ready(listener))
    }
}

/// What a group listens on, by [`EventLoopGroup::listen`](super::EventLoopGroup::listen). Dropping it changes nothing: to
/// pause or close it, post that to the loops, by these ids.
#[derive(Clone, Debug)]
pub struct GroupListener {
    address: Address,
    listeners: Vec<ListenerId>,
    acceptor: Option<(usize, ListenerId)>,
}

impl GroupListener {
    /// The address, with the port that the system chose.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// How connections are spread.
    pub fn distribution(&self) -> Distribution {
        if self.acceptor.is_some() { Distribution::Acceptor } else { Distribution::ReusePort }
    }

    /// The listener of each loop, by the loop's index; with an acceptor those that are given their connections by it.
    pub fn listeners(&self) -> &[ListenerId] {
        &self.listeners
    }

    /// The index of the loop that accepts for all, and its listener that does.
    pub fn acceptor(&self) -> Option<(usize, ListenerId)> {
        self.acceptor
    }
}

/// Listens for a group, whose loops have these limits.
pub(super) fn listen<M, F>(
    group: &GroupHandle,
    of_loop: &Limits,
    listen: Listen,
    make: Arc<M>,
) -> io::Result<GroupListener>
where
    M: Fn(usize, &mut Context<'_>) -> F + Send + Sync + 'static,
    F: FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>> + 'static,
{
    let Listen { target, distribution, limits } = listen;
    match (target, distribution) {
        (Target::Tcp(address), None) if REUSE_PORT_BALANCES => reuse_port(group, of_loop, address, limits, make),
        (Target::Tcp(address), Some(Distribution::ReusePort)) if REUSE_PORT_BALANCES => {
            reuse_port(group, of_loop, address, limits, make)
        }
        (_, Some(Distribution::ReusePort)) => {
            let why = "only TCP addresses on Linux are shared by their port";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        (target, _) => accept_for_all(group, target, limits, make),
    }
}

/// Whether the system spreads connections evenly among sockets that listen on the same address.
const REUSE_PORT_BALANCES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Binds and listens on an address that others bind in the same way, beside this one.
fn listen_reuse_port(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog.max(1)).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "a loop of the group has ended, or its factory could not be made")
}

/// A socket for each loop. All of them listen before the first is accepted from: else the early connections would be one
/// loop's.
fn reuse_port<M, F>(
    group: &GroupHandle,
    of_loop: &Limits,
    mut address: SocketAddr,
    limits: Option<Limits>,
    make: Arc<M>,
) -> io::Result<GroupListener>
where
    M: Fn(usize, &mut Context<'_>) -> F + Send + Sync + 'static,
    F: FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>> + 'static,
{
    let mut sockets = Vec::new();
    for _ in group.handles() {
        let socket = listen_reuse_port(address, of_loop.backlog)?;
        // The others take the port that the first one got.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    let made = group.hand_each(sockets, move |index, context, socket| {
        let factory = make(index, context);
        let id = context.listen_on(socket, factory)?;
        set_limits(context, id, limits.as_ref());
        Ok(id)
    })?;
    let listeners = all_or_none(group, made, |&id| id)?;
    Ok(GroupListener { address: address.into(), listeners, acceptor: None })
}

/// A socket for one loop, and a backlog that all of them take from.
fn accept_for_all<M, F>(
    group: &GroupHandle,
    target: Target,
    limits: Option<Limits>,
    make: Arc<M>,
) -> io::Result<GroupListener>
where
    M: Fn(usize, &mut Context<'_>) -> F + Send + Sync + 'static,
    F: FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>> + 'static,
{
    let index = group.shared.next_acceptor();
    let of_listener = limits.clone();
    // Nobody is accepted before all can be given theirs.
    let (acceptor, address) = ask_one(group, index, move |context| {
        let id = listen_on(context, target)?;
        set_limits(context, id, of_listener.as_ref());
        let mut listening = context.listener(id).ok_or(io::ErrorKind::NotConnected)?;
        listening.pause();
        Ok((id, listening.local_addr()?))
    })?;
    let backlog = SharedBacklog::new(group.handles().len());
    let (local, taken) = (address.clone(), backlog.clone());
    let made = group.ask_each_patiently(move |index, context| {
        let factory = make(index, context);
        let id = taken.listen(context, index, local.clone(), factory)?;
        set_limits(context, id, limits.as_ref());
        Ok(id)
    });
    let result = made.and_then(|made| all_or_none(group, made, |&id| id)).and_then(|listeners| {
        ask_one(group, index, move |context| {
            context.listener(acceptor).ok_or(io::ErrorKind::NotConnected)?.resume();
            backlog.accept_by(context, acceptor);
            Ok(())
        })?;
        Ok(GroupListener { address, listeners, acceptor: Some((index, acceptor)) })
    });
    if result.is_err() {
        close(group, index, acceptor);
    }
    result
}

/// Until it is accepted from, its factory is asked for nothing.
fn listen_on(context: &mut Context<'_>, target: Target) -> io::Result<ListenerId> {
    match target {
        Target::Tcp(address) => context.listen(address, |_, _| None),
        #[cfg(unix)]
        Target::Unix(address, mode) => context.listen_unix(address, mode, |_, _| None),
        Target::Ready(listener) => context.listen_on(listener, |_, _| None),
    }
}

/// Has one loop do something, and waits for what comes of it.
fn ask_one<T: Send + 'static>(
    group: &GroupHandle,
    index: usize,
    question: impl FnOnce(&mut Context<'_>) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answers) = mpsc::channel();
    let posted = group.handles()[index].post(move |context| {
        let _ = answer.send(question(context));
    });
    match posted {
        Err(PostError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
        _ => answers.recv().unwrap_or_else(|_| Err(ended())),
    }
}

/// What every loop has made; or an error, and those that some have made are closed.
fn all_or_none<T>(
    group: &GroupHandle,
    made: Vec<Option<io::Result<T>>>,
    listener: impl Fn(&T) -> ListenerId,
) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    let mut failed = None;
    for (index, made) in made.into_iter().enumerate() {
        match made.unwrap_or_else(|| Err(ended())) {
            Ok(made) => all.push((index, made)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else { return Ok(all.into_iter().map(|(_, made)| made).collect()) };
    for (index, made) in all {
        close(group, index, listener(&made));
    }
    Err(error)
}

fn close(group: &GroupHandle, index: usize, listener: ListenerId) {
    // A loop that has ended has closed it.
    let posted = group.handles()[index].post(move |context| {
        if let Some(mut listening) = context.listener(listener) {
            listening.close();
        }
    });
    if let Err(error @ PostError::Full(_)) = posted {
        log::error!("loop {index} of the group keeps listening on what others do not: {error}");
    }
}

fn set_limits(context: &mut Context<'_>, id: ListenerId, limits: Option<&Limits>) {
    if let (Some(mut listening), Some(limits)) = (context.listener(id), limits) {
        listening.set_limits(limits.clone());
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distribution::ReusePort => "reuse-port",
            Distribution::Acceptor => "acceptor",
        })
    }
}
