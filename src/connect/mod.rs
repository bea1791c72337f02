//! What to connect to, and how.

pub(crate) mod attempts;
pub(crate) mod backoff;
pub(crate) mod reconnect;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::filter::{ConnectFilter, Filter};
use crate::{Address, Limits};

/// What to connect to, and how: the argument of [`Context::connect`](crate::Context::connect), which accepts anything
/// that converts into it.
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
/// time, up to 320 ms. This is so on Linux; BSD and macOS refuse the connection, as if nobody listened.
///
/// With several addresses, the families alternate, beginning with that of the first. The next address is tried 250 ms
/// after the last one, or at once if that has failed; the first connection to be established wins, and the others are
/// closed.
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
    /// Connects to `target`.
    pub fn to(target: impl Into<Connect>) -> Connect {
        target.into()
    }

    /// Connects from this local address; with port 0, the system chooses a port. Addresses of another family than this
    /// one fail.
    ///
    /// The port is chosen when the socket is bound, before its destination is known, so each such connection takes a
    /// port from all destinations: with Linux's default range, some 28,000 of them are possible in total, and not per
    /// destination. (Linux has an option to choose the port later, `IP_BIND_ADDRESS_NO_PORT`, which socket2 does not
    /// offer yet.) Without a local address there is no such limit.
    pub fn local_addr(mut self, address: SocketAddr) -> Connect {
        self.local = Some(address);
        self
    }

    /// Sets how long connecting may take in total, including the name lookup, in place of
    /// [`connect_timeout`](crate::LoopLimits::connect_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the limits of the connection, exactly as given. By default it has the loop's limits, except for those that
    /// are meant for incoming connections: no [`idle_timeout`](Limits::idle_timeout),
    /// [`read_idle_timeout`](Limits::read_idle_timeout), [`handshake_timeout`](Limits::handshake_timeout) or
    /// [`total_timeout`](Limits::total_timeout), no [`read_rate`](Limits::read_rate), and
    /// [`pause_reading_over_high`](Limits::pause_reading_over_high) off, since a client and a server that both stopped
    /// reading would wait for each other for ever.
    pub fn limits(mut self, limits: Limits) -> Connect {
        self.limits = Some(limits);
        self
    }

    /// Starts the connection with a [filter](crate::filter) that `make` makes when connecting begins: once for each
    /// connection, so that one that is [connected again](crate::Reconnect) has a new one. Calling this again adds
    /// another filter above.
    ///
    /// The protocol is told that the connection is made when the filter is ready. If the filter fails, or is not ready
    /// within [`filter_timeout`](Limits::filter_timeout) after the connection was established, the protocol's
    /// `connect_failed` is called with [`ConnectError::Filter`](crate::ConnectError::Filter). What is written before
    /// the filter is ready goes through it.
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
        // Not unmapped: an IPv4-mapped address is connected to as IPv6.
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
