//! What to connect to, and how.

pub(crate) mod attempts;
pub(crate) mod backoff;
pub(crate) mod reconnect;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::filter::{ConnectFilter, Filter};
use crate::{Address, Limits};

/// What to connect to, and how: for [`Context::connect`](crate::Context::connect), which takes whatever this can be made
/// from.
///
/// | made from | what it connects to |
/// | --- | --- |
/// | `SocketAddr`, [`Address`], [`UnixAddress`](crate::UnixAddress) | that address |
/// | `Vec<SocketAddr>`, `&[SocketAddr]` | the first of them that answers (rule [K3](crate::guide::rules#k3)) |
/// | `(&str, u16)`, `(String, u16)` | a name and a port: the first of its addresses that answers (rule [K7]) |
///
/// ```
/// use std::time::Duration;
/// use switchboard::Connect;
///
/// let mail = Connect::to(("mail.example", 25)).timeout(Duration::from_secs(5));
/// # let _ = mail;
/// ```
///
/// A Unix socket whose backlog is full is tried again until the deadline: after 10 ms, then after twice as long each
/// time, up to 320 ms. That is so on Linux; BSD and macOS refuse, as where nobody listens.
///
/// Of several addresses, the families take turns, beginning with that of the first. The next one is tried 250 ms after
/// the last, or at once where that has failed; the first that stands wins, and the others are closed.
///
/// [K7]: crate::guide::rules#k7
#[must_use = "does nothing until a context connects to it"]
#[derive(Clone, Debug)]
pub struct Connect {
    pub(crate) target: Target,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Option<Limits>,
    pub(crate) filters: Vec<ConnectFilter>,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Addresses(Vec<Address>),
    Name(String, u16),
}

impl Connect {
    /// Connects to this.
    pub fn to(target: impl Into<Connect>) -> Connect {
        target.into()
    }

    /// Connects from this local address; with port 0, the system chooses one. An address of another family than this
    /// fails.
    ///
    /// A port is chosen when the socket is bound, before its destination is known, so each connection of this kind
    /// takes a port from all destinations: some 28,000 of them are possible in all, with Linux's default range, and not
    /// for each destination. (Linux has an option to choose later, `IP_BIND_ADDRESS_NO_PORT`, which socket2 does not
    /// offer yet.) Without a local address there is no such bound.
    pub fn local_addr(mut self, address: SocketAddr) -> Connect {
        self.local = Some(address);
        self
    }

    /// How long it may take in all, looking up the name included, in place of
    /// [`connect_timeout`](crate::LoopLimits::connect_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        self.timeout = Some(timeout);
        self
    }

    /// The limits of the connection, as they are given here. Otherwise it has the loop's, but for what is meant for those
    /// who connect to us: no [`idle_timeout`](Limits::idle_timeout), [`read_idle_timeout`](Limits::read_idle_timeout),
    /// [`handshake_timeout`](Limits::handshake_timeout) or [`total_timeout`](Limits::total_timeout), no
    /// [`read_rate`](Limits::read_rate), and
    /// [`pause_reading_over_high`](Limits::pause_reading_over_high) off, since a client and a server that both stopped
    /// reading would wait for each other for ever.
    pub fn limits(mut self, limits: Limits) -> Connect {
        self.limits = Some(limits);
        self
    }

    /// Has the connection begin with a [filter](crate::filter) that `make` makes when it is begun: once for each, so that one
    /// that is [connected again](crate::Reconnect) has a new one. Called again, it adds one above.
    ///
    /// The protocol is told that the connection is made when the filter is ready, and `connect_failed` by
    /// [`ConnectError::Filter`](crate::ConnectError::Filter) where it does not come to be: within
    /// [`filter_timeout`](Limits::filter_timeout), which begins when the connection is established. What is written before goes
    /// through it.
    pub fn filter<F: Filter>(mut self, make: impl Fn() -> F + Send + Sync + 'static) -> Connect {
        self.filters.push(ConnectFilter(Arc::new(move || Box::new(make()))));
        self
    }

    fn new(target: Target) -> Connect {
        Connect { target, local: None, timeout: None, limits: None, filters: Vec::new() }
    }
}

impl From<Address> for Connect {
    fn from(address: Address) -> Connect {
        Connect::new(Target::Addresses(vec![address]))
    }
}

#[cfg(unix)]
impl From<crate::UnixAddress> for Connect {
    fn from(address: crate::UnixAddress) -> Connect {
        Address::Unix(address).into()
    }
}

impl From<SocketAddr> for Connect {
    fn from(address: SocketAddr) -> Connect {
        // Not as `Address::from` makes it: what is mapped into IPv6 is connected to as IPv6.
        Address::Inet(address).into()
    }
}

impl From<&[SocketAddr]> for Connect {
    fn from(addresses: &[SocketAddr]) -> Connect {
        Connect::new(Target::Addresses(Address::all_inet(addresses)))
    }
}

impl From<Vec<SocketAddr>> for Connect {
    fn from(addresses: Vec<SocketAddr>) -> Connect {
        Connect::from(&addresses[..])
    }
}

/// A name that is a literal IP address is not looked up.
impl From<(&str, u16)> for Connect {
    fn from((name, port): (&str, u16)) -> Connect {
        match name.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port).into(),
            Err(_) => Connect::new(Target::Name(name.to_owned(), port)),
        }
    }
}

impl From<(String, u16)> for Connect {
    fn from((name, port): (String, u16)) -> Connect {
        Connect::from((&*name, port))
    }
}
