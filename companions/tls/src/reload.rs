//! A configuration that is replaced while a server runs.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use switchboard::Address;

use crate::Tls;

/// A server's configuration that can be replaced from any thread without a restart: connections accepted from then on
/// use the new one, and existing ones keep theirs. Clones share it.
///
/// ```
/// use std::sync::Arc;
///
/// use rustls::ServerConfig;
/// use switchboard::{Context, Listen};
/// use switchboard_tls::Reloadable;
/// # use switchboard::{Protocol, Transport};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         transport.write(data);
/// #         data.len()
/// #     }
/// # }
///
/// fn serve(context: &mut Context<'_>, config: Arc<ServerConfig>) -> std::io::Result<Reloadable> {
///     let config = Reloadable::new(config);
///     let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1234));
///     context.listen(Listen::at(address).filter(config.listen()), |_, _| Some(Echo))?;
///     Ok(config) // for `config.set(renewed)`, once the certificate is renewed
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Reloadable(Arc<RwLock<Arc<ServerConfig>>>);

impl Reloadable {
    /// Creates one with this configuration.
    pub fn new(config: Arc<ServerConfig>) -> Reloadable {
        Reloadable(Arc::new(RwLock::new(config)))
    }

    /// Replaces it.
    pub fn set(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns the current configuration.
    pub fn get(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what [`Listen::filter`](switchboard::Listen::filter) takes to serve TLS with the configuration that is
    /// current when a connection is accepted.
    pub fn listen(&self) -> impl Fn(&Address) -> Option<Tls> + Send + Sync + 'static {
        let config = self.clone();
        move |_| Some(Tls::server(config.get()))
    }
}
