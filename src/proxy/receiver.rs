//! Reads the header, and then makes the application protocol.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::carried::Carried;
use super::header::{self, Found, Header, LINE_BYTES_MAX};
use switchboard::{Address, Context, IntoProtocol, Protocol, Timeout, Transport};

/// The default maximum size of a header of version 2.
pub(super) const HEADER_BYTES_MAX: usize = 4096;

/// The default time for the header to arrive.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection is refused.
const NOT_TRUSTED: &str = "it is not a trusted proxy";

/// Returns whether an address is that of a proxy.
type Trust = Rc<dyn Fn(&Address) -> bool>;

/// Makes the application protocol; `None` refuses the client.
type Make = Box<dyn FnOnce(&mut Context<'_>, &Carried) -> Option<Box<dyn Protocol>>>;

/// Makes connections begin with the header of a proxy, as HAProxy's `accept-proxy` does; see [the module](super) for an
/// example and for what is guaranteed.
#[must_use = "does nothing until it is given a protocol"]
#[derive(Clone)]
pub struct AcceptProxy {
    header_bytes_max: usize,
    timeout: Duration,
    is_trusted: Option<Trust>,
}

impl AcceptProxy {
    /// Accepts headers of both versions, of up to 4,096 bytes, within 5 s, from any address.
    pub fn new() -> AcceptProxy {
        AcceptProxy { header_bytes_max: HEADER_BYTES_MAX, timeout: TIMEOUT, is_trusted: None }
    }

    /// Sets the maximum size of a header of version 2. Without extensions it has 28 or 52 bytes for Internet addresses
    /// and 232 for Unix ones; a client's TLS certificate can add some hundred bytes. Headers of version 1 always have
    /// at most 107 bytes.
    pub fn header_bytes_max(mut self, bytes: usize) -> AcceptProxy {
        self.header_bytes_max = bytes;
        self
    }

    /// Sets the time from accept until the whole header must have arrived, however its bytes trickle in. Less than 3 s
    /// would leave no time for a lost segment.
    pub fn timeout(mut self, timeout: Duration) -> AcceptProxy {
        self.timeout = timeout;
        self
    }

    /// Sets which addresses are those of proxies. A connection from any other is refused before anything is read, and
    /// logged, at most once a second. On a Unix socket the address does not tell who connects: use its permissions.
    pub fn trusted(mut self, is_trusted: impl Fn(&Address) -> bool + 'static) -> AcceptProxy {
        self.is_trusted = Some(Rc::new(is_trusted));
        self
    }

    /// Returns a factory for [`listen`](Context::listen) and the like, whose connections begin with a header. `factory`
    /// then makes the application protocol, or returns `None` to refuse the client: that resets the connection, without
    /// a callback. A panic in it does the same (see [`PanicPolicy`](crate::PanicPolicy)).
    pub fn factory<F, P>(
        mut self,
        factory: F,
    ) -> impl FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>> + 'static
    where
        F: Fn(&mut Context<'_>, &Carried) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let factory = Rc::new(factory);
        // A peer that is not trusted takes up no slot.
        let is_trusted = self.is_trusted.take();
        move |context, proxy| {
            if is_trusted.as_ref().is_some_and(|is_trusted| !is_trusted(proxy)) {
                context.warn(format_args!("{proxy} was refused: {NOT_TRUSTED}"));
                return None;
            }
            let factory = factory.clone();
            Some(self.clone().protocol(move |context, carried| factory(context, carried)).into_protocol())
        }
    }

    /// Like [`factory`](AcceptProxy::factory) for one connection, for example to [attach](Context::attach) a stream
    /// that was accepted elsewhere.
    pub fn protocol<F, P>(self, factory: F) -> impl Protocol
    where
        F: FnOnce(&mut Context<'_>, &Carried) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let factory: Make = Box::new(|context, carried| factory(context, carried).map(P::into_protocol));
        HeaderReceiver { accept: self, factory: Some(factory) }
    }
}

impl Default for AcceptProxy {
    fn default() -> AcceptProxy {
        AcceptProxy::new()
    }
}

impl fmt::Debug for AcceptProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptProxy")
            .field("header_bytes_max", &self.header_bytes_max)
            .field("timeout", &self.timeout)
            .field("trusts_anybody", &self.is_trusted.is_none())
            .finish()
    }
}

/// A protocol that reads the header and is then replaced by the application protocol.
struct HeaderReceiver {
    accept: AcceptProxy,
    /// `None` once it was called.
    factory: Option<Make>,
}

impl HeaderReceiver {
    fn header_received(&mut self, transport: &mut Transport<'_>, header: Header<'_>) {
        let (Some(factory), Some(proxy)) = (self.factory.take(), transport.peer_addr().cloned()) else { return };
        let Header { version, ends, tlvs, .. } = header;
        let carried = Carried { version, ends, proxy, tlvs: tlvs.into() };
        let Some(protocol) = factory(&mut transport.context(), &carried) else { return transport.abort() };
        if let Some(client) = carried.source() {
            transport.set_peer_addr(client.clone());
        }
        transport.start_protocol(protocol);
    }
}

/// Logs what is wrong with a connection, whose address is still that of the proxy.
fn warn(transport: &mut Transport<'_>, what: &dyn fmt::Display) {
    if let Some(proxy) = transport.peer_addr().cloned() {
        transport.context().warn(format_args!("the connection from {proxy} was closed before it started: {what}"));
    }
}

impl Protocol for HeaderReceiver {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let proxy = transport.peer_addr();
        let is_trusted = self.accept.is_trusted.as_ref();
        if !is_trusted.zip(proxy).is_none_or(|(is_trusted, proxy)| is_trusted(proxy)) {
            warn(transport, &NOT_TRUSTED);
            return transport.abort();
        }
        // No limit of the application protocol may cut a header short.
        let needed_bytes = self.accept.header_bytes_max.max(LINE_BYTES_MAX);
        if transport.input_bytes_max() < needed_bytes {
            transport.set_input_bytes_max(needed_bytes);
        }
        transport.set_timeout(Timeout::Total, Some(self.accept.timeout));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        match header::find(data, self.accept.header_bytes_max) {
            Found::Partial => 0,
            Found::Header(header) => {
                let bytes = header.bytes;
                self.header_received(transport, header);
                bytes
            }
            Found::Broken(error) => {
                warn(transport, &error);
                transport.abort_for(error);
                data.len()
            }
        }
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        warn(transport, &"the PROXY header did not arrive in time");
        transport.abort_on_timeout(timeout);
    }

    /// The application protocol does not exist yet, and no peer waits for an answer.
    fn draining(&mut self, transport: &mut Transport<'_>) {
        transport.close();
    }
}
