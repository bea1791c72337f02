//! What to listen on, and how.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::sync::Arc;

#[cfg(unix)]
use crate::UnixAddress;
use crate::filter::{AcceptFilter, Filter, MakeForPeer};
#[cfg(any(feature = "workers", feature = "testing"))]
use crate::sys;
use crate::{Address, Limits};

/// How many connections the kernel queues until they are accepted, by default.
const BACKLOG: u32 = 1024;

/// What to listen on, and how: the argument of [`Context::listen`](crate::Context::listen), which accepts anything that
/// converts into it.
///
/// | made from | what it listens on |
/// | --- | --- |
/// | `SocketAddr`, [`Address`], [`UnixAddress`](crate::UnixAddress) | that address |
/// | `[SocketAddr; N]`, `Vec<SocketAddr>`, `&[SocketAddr]` | each of them, as one listener |
/// | [`TcpListener`], [`UnixListener`](std::os::unix::net::UnixListener) | a socket that is already listening |
/// | `testing::PeerListener` (feature `testing`) | a listener of a simulated host |
/// | [`Endpoint`](crate::Endpoint) | what it describes |
///
/// Names are not looked up. Targets can be combined with [`and`](Listen::and): however many addresses and sockets there
/// are, they form one listener, with one id, one factory and one set of limits. They take turns, one connection each.
///
/// ```
/// use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
/// use switchboard::{Limits, Listen};
///
/// let both = [SocketAddr::from((Ipv6Addr::LOCALHOST, 8080)), SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))];
/// let web = Listen::at(both).limits(Limits::default().with_connections_max(100)).backlog(64);
/// # let _ = web;
/// ```
///
/// # Addresses
///
/// With port 0 the system chooses a port, separately for each address; see
/// [`Listener::local_addrs`](crate::Listener::local_addrs). An IPv6 address serves only IPv6, unless it is IPv4-mapped.
/// On Unix an address can be used again immediately after a restart.
///
/// # Unix sockets
///
/// A [`UnixAddress`](crate::UnixAddress) is a path, or an abstract name on systems that have them (Linux). A socket at
/// that path on which nobody listens any more, such as a crash leaves behind, is replaced: one that refuses twice, 50
/// ms apart, during which this blocks. (On BSD and macOS only on request: see
/// [`remove_stale_socket`](crate::remove_stale_socket).) When the listener is closed, it removes its own path.
///
/// # Sockets that listen already
///
/// These sockets and the connections in their backlogs are made non-blocking; `TCP_NODELAY` and `SO_OOBINLINE` are set
/// where they are supported, and `SO_LINGER` is turned off, since a close that waits blocks the loop. MPTCP sockets are
/// accepted too, but each message then costs a second read. The path of a Unix socket is not removed when the listener
/// is closed, since the process that created it may still use it; see
/// [`Listener::set_unlinks`](crate::Listener::set_unlinks).
#[derive(Debug)]
#[must_use]
pub struct Listen {
    targets: Vec<Target>,
    limits: Option<Limits>,
    backlog: Option<u32>,
    refusal: Vec<u8>,
    filters: Vec<AcceptFilter>,
    shares_port: bool,
}

/// One socket to listen on.
#[derive(Debug)]
pub(crate) enum Target {
    Inet(SocketAddr),
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixAddress, Option<u32>),
    #[cfg(unix)]
    UnixSocket(UnixListener),
    /// A listener of a simulated host, which is already listening.
    #[cfg(feature = "testing")]
    Simulated(sys::sim::Listener),
    /// Cannot be listened on: listening fails with this error.
    Refused(io::ErrorKind, &'static str),
}

impl Listen {
    /// Listens on `target`.
    pub fn at(target: impl Into<Listen>) -> Listen {
        target.into()
    }

    /// Listens on `other` as well, with the same listener. Settings apply to all of it; if both have a setting, the
    /// first one is used.
    pub fn and(mut self, other: impl Into<Listen>) -> Listen {
        let other = other.into();
        self.targets.extend(other.targets);
        self.limits = self.limits.or(other.limits);
        self.backlog = self.backlog.or(other.backlog);
        if self.refusal.is_empty() {
            self.refusal = other.refusal;
        }
        if self.filters.is_empty() {
            self.filters = other.filters;
        }
        self.shares_port |= other.shares_port;
        self
    }

    /// Sets the limits of the listener and of the connections it accepts. Default: the loop's.
    pub fn limits(mut self, limits: Limits) -> Listen {
        self.limits = Some(limits);
        self
    }

    /// Sets the mode, such as `0o600`, of each Unix path added so far that has none; nobody can connect before it is
    /// set. Without a mode the umask decides; abstract names have no mode, so every process on the machine can connect
    /// to them. If there is no path that could have the mode, listening fails with `InvalidInput`.
    #[cfg(unix)]
    pub fn mode(mut self, mode: u32) -> Listen {
        let mut has_path = false;
        for target in &mut self.targets {
            if let Target::Unix(UnixAddress::Path(_), of_path) = target {
                if of_path.is_none() {
                    *of_path = Some(mode);
                }
                has_path = true;
            }
        }
        if !has_path {
            let why = "a mode needs a Unix socket with a path";
            self.targets.push(Target::Refused(io::ErrorKind::InvalidInput, why));
        }
        self
    }

    /// Sets how many connections the kernel queues until they are accepted, for each address; the kernel may have a
    /// lower limit of its own. Default 1,024; 0 counts as 1. Sockets that are already listening keep theirs.
    pub fn backlog(mut self, connections: u32) -> Listen {
        self.backlog = Some(connections);
        self
    }

    /// Sets what a peer is sent before its connection is closed because a cap refuses it (rule
    /// [A4](crate::guide::rules#a4)): [`connections_per_peer_max`](Limits::connections_per_peer_max), or
    /// [`connections_max`](Limits::connections_max) and
    /// [`loop_connections_max`](crate::LoopLimits::loop_connections_max) if [`when_full`](Limits::when_full) is
    /// [`Refuse`](crate::WhenFull::Refuse). If it is empty, the default, nothing is sent. Peers that the factory turns
    /// away are sent nothing either.
    ///
    /// ```
    /// use switchboard::{Limits, Listen, WhenFull};
    ///
    /// let limits = Limits::default().with_connections_max(100).with_when_full(WhenFull::Refuse);
    /// let mail = Listen::at(std::net::SocketAddr::from(([127, 0, 0, 1], 2525)))
    ///     .limits(limits)
    ///     .refusal("421 too many connections\r\n");
    /// # let _ = mail;
    /// ```
    ///
    /// It is sent in one piece, followed by the end of the stream. The socket is then held, without taking a place in
    /// the loop, for [`linger_timeout`](Limits::linger_timeout), so that what the peer has sent or still sends does not
    /// make the kernel send a reset, which could destroy the refusal before it is read. A loop holds at most 64 such
    /// sockets: the oldest is closed for a new one, and any of them if descriptors run out. Behind a proxy, the proxy
    /// receives the refusal and passes it on.
    ///
    /// Listening fails with `InvalidInput` if it has more than 4,096 bytes, which is what the kernel takes for a new
    /// connection at once; if it takes less, the peer is reset.
    pub fn refusal(mut self, bytes: impl Into<Vec<u8>>) -> Listen {
        self.refusal = bytes.into();
        self
    }

    /// Starts each connection with a [filter](crate::filter) that `make` makes for its peer when it is accepted; `None`
    /// turns the peer away. Calling this again adds another filter above.
    ///
    /// The protocol is told that the connection is made when the filter is ready. If the filter fails, or is not ready
    /// within [`filter_timeout`](Limits::filter_timeout), no protocol is told, but the hook of
    /// [`on_error`](crate::Listener::on_error) is. A [`refusal`](Listen::refusal) is sent without the filter.
    pub fn filter<F: Filter>(mut self, make: impl Fn(&Address) -> Option<F> + Send + Sync + 'static) -> Listen {
        let make: Arc<MakeForPeer> = Arc::new(move |peer| make(peer).map(|filter| Box::new(filter) as Box<dyn Filter>));
        self.filters.push(AcceptFilter(make));
        self
    }

    /// Sets whether other sockets may listen on the same TCP address, if each of them sets this too (`SO_REUSEPORT`).
    /// On Linux the kernel then chooses among them for each connection; a second program of the same user gets a share.
    /// On other systems, for Unix sockets and in simulations, listening fails with `Unsupported`. Default false.
    pub fn reuse_port(mut self, reuse_port: bool) -> Listen {
        self.shares_port = reuse_port;
        self
    }

    pub(crate) fn of(target: Target) -> Listen {
        Listen::new(vec![target])
    }

    fn new(targets: Vec<Target>) -> Listen {
        Listen { targets, limits: None, backlog: None, refusal: Vec::new(), filters: Vec::new(), shares_port: false }
    }

    /// Returns one for which listening fails with `Unsupported`. Not part of the public interface.
    #[doc(hidden)]
    pub fn unsupported(why: &'static str) -> Listen {
        Listen::of(Target::Refused(io::ErrorKind::Unsupported, why))
    }

    #[cfg(feature = "workers")]
    pub(crate) fn own_limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    #[cfg(feature = "workers")]
    pub(crate) fn own_filters(&self) -> &[AcceptFilter] {
        &self.filters
    }

    #[cfg(feature = "workers")]
    pub(crate) fn own_refusal(&self) -> &[u8] {
        &self.refusal
    }

    /// Splits TCP addresses into as many parts as there are loops: each with sockets of its own, which are already
    /// listening and share the ports of the first. Returns the whole unchanged if there are other targets, or if ports
    /// are not shared. Not part of the public interface.
    #[cfg(feature = "workers")]
    #[doc(hidden)]
    pub fn into_shares(self, loops: usize) -> io::Result<Result<Vec<Listen>, Listen>> {
        let addresses: Option<Vec<_>> = self.targets.iter().map(Target::inet).collect();
        let Some(mut addresses) = addresses.filter(|_| sys::HERE.spreads_shared_ports) else { return Ok(Err(self)) };
        let mut shares = Vec::new();
        for _ in 0..loops {
            let (limits, refusal, filters) = (self.limits.clone(), self.refusal.clone(), self.filters.clone());
            let mut share = Listen { limits, refusal, filters, ..Listen::new(Vec::new()) };
            for address in &mut addresses {
                let socket = sys::Listener::bind_tcp(*address, self.backlog.unwrap_or(BACKLOG), true)?;
                // The other loops use the port that the first one got.
                *address = socket.local_addr()?;
                share.targets.push(Target::Tcp(socket));
            }
            shares.push(share);
        }
        Ok(Ok(shares))
    }

    pub(crate) fn take_limits(&mut self) -> Option<Limits> {
        self.limits.take()
    }

    /// Takes what makes the filters of its connections.
    pub(crate) fn take_filters(&mut self) -> Vec<AcceptFilter> {
        std::mem::take(&mut self.filters)
    }

    /// Takes what refused peers are sent.
    pub(crate) fn take_refusal(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.refusal)
    }

    /// Takes this apart: the targets, the backlog of each, and whether they share their ports.
    pub(crate) fn into_targets(self) -> io::Result<(Vec<Target>, u32, bool)> {
        if self.shares_port && !self.targets.iter().all(|target| matches!(target, Target::Inet(_))) {
            let why = "only TCP addresses can share a port";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok((self.targets, self.backlog.unwrap_or(BACKLOG), self.shares_port))
    }
}

impl Target {
    #[cfg(feature = "workers")]
    fn inet(&self) -> Option<SocketAddr> {
        match self {
            Target::Inet(address) => Some(*address),
            _ => None,
        }
    }

    /// Returns the address to bind to, unless it is a socket already.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            Target::Inet(address) => Some(Address::Inet(*address)),
            #[cfg(unix)]
            Target::Unix(address, _) => Some(Address::Unix(address.clone())),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::of(Target::Inet(address))
    }
}

impl From<&[SocketAddr]> for Listen {
    fn from(addresses: &[SocketAddr]) -> Listen {
        let mut targets = Vec::new();
        for &address in addresses {
            targets.push(Target::Inet(address));
        }
        Listen::new(targets)
    }
}

impl From<Vec<SocketAddr>> for Listen {
    fn from(addresses: Vec<SocketAddr>) -> Listen {
        Listen::from(&addresses[..])
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Listen {
    fn from(addresses: [SocketAddr; N]) -> Listen {
        Listen::from(&addresses[..])
    }
}

impl From<Address> for Listen {
    fn from(address: Address) -> Listen {
        match address {
            Address::Inet(address) => address.into(),
            #[cfg(unix)]
            Address::Unix(address) => address.into(),
        }
    }
}

impl From<TcpListener> for Listen {
    fn from(listener: TcpListener) -> Listen {
        Listen::of(Target::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<UnixAddress> for Listen {
    fn from(address: UnixAddress) -> Listen {
        Listen::of(Target::Unix(address, None))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listen {
    fn from(listener: UnixListener) -> Listen {
        Listen::of(Target::UnixSocket(listener))
    }
}
