//! The header as a filter, which leaves once the header was read.

use std::fmt;

use super::carried::Carried;
use super::error::HeaderError;
use super::header::{self, Found, Header};
use super::receiver::HEADER_BYTES_MAX;
use switchboard::Address;
use switchboard::filter::{Filter, Flow};

/// Looks at the header, and returns whether its client is served.
type Admit = Box<dyn FnOnce(&Carried) -> bool + Send>;

/// Reads the header below everything else, and leaves: for a listener whose connections continue with TLS or another
/// [filter](crate::filter), or whose protocols do not depend on the header.
///
/// The protocol is made by its usual factory when the connection is accepted. Its
/// [`connection_made`](crate::Protocol::connection_made) is called once the header was read and the filters above are
/// ready; [`Transport::peer_addr`](crate::Transport::peer_addr) returns the client's address from then on. If a
/// connection does not get that far, its protocol is told nothing. For anything else in the header, use
/// [`admit`](ProxyHeader::admit); servers that choose the protocol by the header use
/// [`AcceptProxy`](super::AcceptProxy).
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
/// // Filters that are added now are above it, as TLS would be.
/// let mut event_loop = EventLoop::new()?;
/// event_loop.context().listen(listen, |_, _| Some(Echo))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It must be the first filter of its listener. Its deadline is that of all filters
/// ([`Limits::filter_timeout`](crate::Limits::filter_timeout), 10 s). A missing or invalid header ends the connection
/// with a [`HeaderError`]. That, the deadline, and a peer that leaves before the end of its header are reported to the
/// hook of [`Listener::on_error`](crate::Listener::on_error), and counted
/// ([`Counters::handshakes_failed`](crate::Counters::handshakes_failed)).
pub struct ProxyHeader {
    header_bytes_max: usize,
    proxy: Address,
    admit: Option<Admit>,
}

impl ProxyHeader {
    /// Creates a filter for a connection from this proxy: accepts headers of both versions, of up to 4,096 bytes.
    pub fn new(proxy: &Address) -> ProxyHeader {
        ProxyHeader { header_bytes_max: HEADER_BYTES_MAX, proxy: proxy.clone(), admit: None }
    }

    /// Sets the maximum size of a header of version 2; see
    /// [`AcceptProxy::header_bytes_max`](super::AcceptProxy::header_bytes_max). No header can have more than 65,551
    /// bytes.
    #[must_use]
    pub fn header_bytes_max(mut self, bytes: usize) -> ProxyHeader {
        self.header_bytes_max = bytes;
        self
    }

    /// Sets a function that is called once, with the content of the header, and returns whether the client is served.
    /// If not, the connection ends with [`HeaderError::NotAdmitted`].
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

    /// Not called: this filter leaves when it is ready.
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
