//! The header as a filter, that leaves when it has been read.

use std::fmt;

use super::carried::Carried;
use super::error::HeaderError;
use super::header::{self, Found, Header};
use super::receiver::HEADER_BYTES_MAX;
use switchboard::Address;
use switchboard::filter::{Filter, Flow};

/// Looks at what a header has carried, and says whether its client is served.
type Admit = Box<dyn FnOnce(&Carried) -> bool + Send>;

/// Reads the header below everything else, and leaves: for a listener whose connections go on with TLS or another
/// [filter](crate::filter), or whose protocols are made without regard to the header.
///
/// The protocol is made when the connection is accepted, by its usual factory, and is told of it
/// ([`connection_made`](crate::Protocol::connection_made)) once the header is there and the filters above are ready;
/// [`Transport::peer_addr`](crate::Transport::peer_addr) is the client's address from there on. No protocol hears of a
/// connection that does not come so far. What has to be known of the header beyond that goes to
/// [`admit`](ProxyHeader::admit); [`AcceptProxy`](super::AcceptProxy) is for servers that choose the protocol by it.
///
/// ```no_run
/// use switchboard::proxy::ProxyHeader;
/// use switchboard::{Address, EventLoop, Listen};
///
/// # struct Echo;
/// # impl switchboard::Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut switchboard::Transport<'_>, data: &[u8]) -> usize {
/// #         transport.write(data);
/// #         data.len()
/// #     }
/// # }
/// fn is_ours(proxy: &Address) -> bool {
///     proxy.as_inet().is_some_and(|proxy| proxy.ip().is_loopback())
/// }
///
/// let listen = Listen::at(std::net::SocketAddr::from(([0, 0, 0, 0], 1234)))
///     .filter(|proxy| is_ours(proxy).then(|| ProxyHeader::new(proxy)));
/// // What is added now is above it, as TLS would be.
/// let mut event_loop = EventLoop::new()?;
/// event_loop.context().listen(listen, |_, _| Some(Echo))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has to be the first filter of its listener. Its deadline is that of all filters
/// ([`Limits::filter_timeout`](crate::Limits::filter_timeout), 10 s). A header that is none, or no good one, ends the
/// connection with a [`HeaderError`]; that, the deadline, and a peer that leaves before the end of its header are told to
/// the hook of [`Listener::on_error`](crate::Listener::on_error), and counted
/// ([`Counters::handshakes_failed`](crate::Counters::handshakes_failed)).
pub struct ProxyHeader {
    header_bytes_max: usize,
    proxy: Address,
    admit: Option<Admit>,
}

impl ProxyHeader {
    /// For a connection from this proxy: a header of either version, of up to 4,096 bytes.
    pub fn new(proxy: &Address) -> ProxyHeader {
        ProxyHeader { header_bytes_max: HEADER_BYTES_MAX, proxy: proxy.clone(), admit: None }
    }

    /// How many bytes a header of version 2 may have in all; see
    /// [`AcceptProxy::header_bytes_max`](super::AcceptProxy::header_bytes_max). No
    /// header can have more than 65,551.
    #[must_use]
    pub fn header_bytes_max(mut self, bytes: usize) -> ProxyHeader {
        self.header_bytes_max = bytes;
        self
    }

    /// Called once, with what the header has carried. Returns whether the client is served; one that is not is ended with
    /// [`HeaderError::NotAdmitted`].
    #[must_use]
    pub fn admit(mut self, admit: impl FnOnce(&Carried) -> bool + Send + 'static) -> ProxyHeader {
        self.admit = Some(Box::new(admit));
        self
    }

    fn header_received(&mut self, header: Header<'_>, flow: &mut Flow<'_>) {
        let Header { version, ends, tlvs, .. } = header;
        let carried = Carried { version, ends, proxy: self.proxy.clone(), tlvs: tlvs.into() };
        if self.admit.take().is_some_and(|admit| !admit(&carried)) {
            return flow.fail(HeaderError::NotAdmitted);
        }
        if let Some((client, _)) = carried.ends {
            flow.set_peer_addr(client);
        }
        flow.leave();
    }
}

impl Filter for ProxyHeader {
    fn begin(&mut self, _: &mut Flow<'_>) {}

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        match header::find(data, self.header_bytes_max) {
            Found::Partial => 0,
            Found::Header(header) => {
                let bytes = header.bytes;
                self.header_received(header, flow);
                bytes
            }
            Found::Broken(error) => {
                flow.fail(error);
                data.len()
            }
        }
    }

    /// Not called: it is ready when it leaves.
    fn send(&mut self, _: &[u8], _: &mut Flow<'_>) -> usize {
        0
    }
}

impl fmt::Debug for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHeader")
            .field("header_bytes_max", &self.header_bytes_max)
            .field("proxy", &self.proxy)
            .field("admits_all", &self.admit.is_none())
            .finish()
    }
}
