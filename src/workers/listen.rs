//! The listeners of a group, and how connections are spread among its loops.

use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};

use super::group_handle::GroupHandle;
use switchboard::{Address, Context, Listen, ListenerId, PostError, Protocol, SharedBacklog};

/// How connections are spread among the loops of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distribution {
    /// Each loop has its own socket on the same TCP address (`SO_REUSEPORT`), and the kernel chooses among them by a
    /// hash of the peer's address and port. Nothing passes between threads. Many connections are spread evenly, few may
    /// not be. Linux only.
    ///
    /// Note that a second program of the same user that does the same on the same address does not get `AddrInUse`: it
    /// gets a share of the connections. And a connection in the backlog of a busy loop waits even if other loops are
    /// idle, and is reset when that socket is closed.
    ReusePort,
    /// One of the loops accepts, and each connection is served by the loop that has the fewest, in turn among equals.
    /// Spreads evenly even for few connections, for any kind of socket, on any system; a connection costs some
    /// microseconds more.
    ///
    /// A loop that is at its limit of connections, or whose listener is paused, is skipped. While none has room,
    /// nothing is accepted: new connections wait in the kernel's backlog until any loop has room again.
    Acceptor,
}

/// What a group listens on, and how its connections are spread: made from anything that [`Listen`] can be made from.
///
/// The limits of a [`Listen`] hold for each loop's listener, not for their sum: `connections_max` is per loop.
///
/// # Errors
///
/// Listening on it fails as [`Context::listen`] does, and with `Unsupported` for [`Distribution::ReusePort`] where that
/// is not available.
#[derive(Debug)]
#[must_use]
pub struct GroupListen {
    listen: Listen,
    distribution: Option<Distribution>,
}

impl GroupListen {
    /// Creates a `GroupListen` from what to listen on.
    pub fn at(target: impl Into<GroupListen>) -> GroupListen {
        target.into()
    }

    /// Sets how connections are spread. Default: [`Distribution::ReusePort`] for TCP addresses on Linux, else
    /// [`Distribution::Acceptor`].
    pub fn distribution(mut self, distribution: Distribution) -> GroupListen {
        self.distribution = Some(distribution);
        self
    }
}

impl<T: Into<Listen>> From<T> for GroupListen {
    fn from(target: T) -> GroupListen {
        GroupListen { listen: target.into(), distribution: None }
    }
}

/// A listener of a group, returned by [`EventLoopGroup::listen`](super::EventLoopGroup::listen). Dropping it changes
/// nothing: to pause or close it, post to the loops, with the ids here.
#[derive(Clone, Debug)]
pub struct GroupListener {
    addresses: Vec<Address>,
    listeners: Vec<ListenerId>,
    acceptor: Option<(usize, ListenerId)>,
}

impl GroupListener {
    /// Returns the address, with the port that the system chose; the first, if there are several.
    pub fn local_addr(&self) -> &Address {
        &self.addresses[0]
    }

    /// Returns the addresses in the order in which they were given, with the ports that the system chose.
    pub fn local_addrs(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns how connections are spread.
    pub fn distribution(&self) -> Distribution {
        if self.acceptor.is_some() { Distribution::Acceptor } else { Distribution::ReusePort }
    }

    /// Returns the listener of each loop, by the loop's index; with an acceptor, those that it passes connections to.
    pub fn listeners(&self) -> &[ListenerId] {
        &self.listeners
    }

    /// Returns the index of the loop that accepts for all, and the listener that accepts.
    pub fn acceptor(&self) -> Option<(usize, ListenerId)> {
        self.acceptor
    }
}

/// Makes the protocols of a listener.
type Factory = Box<dyn FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>>>;

/// Makes the factory of each loop, on its thread.
pub(super) type Make = Arc<dyn Fn(usize, &mut Context<'_>) -> Factory + Send + Sync>;

/// Opens the listeners of a group.
pub(super) fn listen(group: &GroupHandle, target: GroupListen, make: Make) -> io::Result<GroupListener> {
    let GroupListen { listen, distribution } = target;
    if distribution == Some(Distribution::Acceptor) {
        return accept_for_all(group, listen, make);
    }
    match listen.into_shares(group.handles().len())? {
        Ok(shares) => reuse_port(group, shares, make),
        Err(listen) if distribution.is_none() => accept_for_all(group, listen, make),
        Err(_) => {
            let why = "only TCP addresses on Linux can share a port";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "a loop of the group has ended, or its factory could not be made")
}

/// Opens a socket on each loop. All of them listen before any connection is accepted: otherwise one loop would get all
/// early connections.
fn reuse_port(group: &GroupHandle, shares: Vec<Listen>, make: Make) -> io::Result<GroupListener> {
    let made = group.hand_each(shares, move |index, context, share| {
        let factory = make(index, context);
        let id = context.listen(share, factory)?;
        Ok((id, addresses_of(context, id)?))
    })?;
    let (listeners, mut addresses): (Vec<_>, Vec<_>) = all_or_none(group, made, |&(id, _)| id)?.into_iter().unzip();
    Ok(GroupListener { addresses: addresses.swap_remove(0), listeners, acceptor: None })
}

/// Opens the sockets on one loop, with a backlog that all loops take connections from.
fn accept_for_all(group: &GroupHandle, listen: Listen, make: Make) -> io::Result<GroupListener> {
    let index = group.shared.next_acceptor();
    let backlog = SharedBacklog::new(group.handles().len(), &listen);
    // Nothing is accepted before every loop can be passed connections; until then the factory is not called.
    let (acceptor, addresses) = ask_one(group, index, move |context| {
        let id = context.listen(listen, |_, _| None::<Box<dyn Protocol>>)?;
        context.listener(id).ok_or(io::ErrorKind::NotConnected)?.pause();
        Ok((id, addresses_of(context, id)?))
    })?;
    let (local, taken) = (addresses[0].clone(), backlog.clone());
    let made = group.ask_each_patiently(move |index, context| {
        let factory = make(index, context);
        taken.listen(context, index, local.clone(), factory)
    });
    let result = made.and_then(|made| all_or_none(group, made, |&id| id)).and_then(|listeners| {
        ask_one(group, index, move |context| {
            context.listener(acceptor).ok_or(io::ErrorKind::NotConnected)?.resume();
            backlog.accept_by(context, acceptor);
            Ok(())
        })?;
        Ok(GroupListener { addresses, listeners, acceptor: Some((index, acceptor)) })
    });
    if result.is_err() {
        close(group, index, acceptor);
    }
    result
}

fn addresses_of(context: &mut Context<'_>, id: ListenerId) -> io::Result<Vec<Address>> {
    context.listener(id).ok_or(io::ErrorKind::NotConnected)?.local_addrs()
}

/// Runs a closure on one loop, and waits for its result.
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
        Ok(()) => {}
        Err(PostError::Full(_)) => return Err(io::ErrorKind::WouldBlock.into()),
        // A loop that has ended returns the closure. It is dropped here, or its answer would be waited for.
        Err(gone) => drop(gone),
    }
    answers.recv().unwrap_or_else(|_| Err(ended()))
}

/// Returns what every loop has made; on an error, closes the listeners that some have made.
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
    // If the loop has ended, the listener is closed already.
    let posted = group.handles()[index].post(move |context| {
        if let Some(mut listening) = context.listener(listener) {
            listening.close();
        }
    });
    if let Err(error @ PostError::Full(_)) = posted {
        log::error!("loop {index} of the group keeps listening on an address that the others closed: {error}");
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
