//! A server and a client, with a test between them that controls everything they send to each other.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use switchboard::testing::{Faults, Peer};
use switchboard::{Connect, ConnectionId, Transport};

use super::kit::*;

pub(crate) struct Between {
    pub(crate) world: World,
    pub(crate) id: ConnectionId,
    /// `None` once the test has hung up.
    pub(crate) to_server: Option<Peer>,
    pub(crate) to_client: Option<Peer>,
}

thread_local! {
    static CONFIGS: [(Arc<ServerConfig>, Arc<ClientConfig>); 2] = BOTH.map(|version| {
        let mut of_client = client(version);
        of_client.resumption = Resumption::disabled();
        (Arc::new(server(version)), Arc::new(of_client))
    });
}

impl Between {
    pub(crate) fn new(version: &'static SupportedProtocolVersion, server_act: Act, client_act: Act) -> Between {
        let configs = CONFIGS.with(|configs| configs[usize::from(version == V13)].clone());
        Between::with(configs, server_act, client_act)
    }

    pub(crate) fn of(of_server: ServerConfig, of_client: ClientConfig, server_act: Act, client_act: Act) -> Between {
        Between::with((Arc::new(of_server), Arc::new(of_client)), server_act, client_act)
    }

    fn with(configs: (Arc<ServerConfig>, Arc<ClientConfig>), server_act: Act, client_act: Act) -> Between {
        let make = switchboard_tls::listen(configs.0);
        let mut world = World::new(1, Faults::none(), |listen| listen.filter(make), server_act);
        let mut listener = world.network.peer_listener(80, 1).unwrap();
        let make = switchboard_tls::connect(configs.1, NAME.try_into().unwrap());
        let id = world.connect(Connect::to(listener.local_addr()).filter(make), client_act);
        let to_server = Some(world.network.peer(world.to));
        world.network.run_for(Duration::from_millis(5));
        let to_client = Some(listener.accept().unwrap());
        Between { world, id, to_server, to_client }
    }

    /// Takes what the client or the server has sent.
    pub(crate) fn take(&mut self, from_client: bool) -> Vec<u8> {
        let from = if from_client { &mut self.to_client } else { &mut self.to_server };
        from.as_mut().map(Peer::read).unwrap_or_default()
    }

    /// Passes it to the server or to the client.
    pub(crate) fn give(&mut self, to_server: bool, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let to = if to_server { &mut self.to_server } else { &mut self.to_client };
        to.as_mut().unwrap().send(bytes);
        self.pause();
    }

    /// Passes on everything that either side sends, except what follows the first `count` bytes of one side. Returns
    /// how much that side sent.
    pub(crate) fn pass(&mut self, up: bool, count: usize) -> usize {
        let mut seen = 0;
        for _ in 0..5 {
            for is_up in [true, false] {
                let piece = self.take(is_up);
                let most = if is_up == up { count - seen.min(count) } else { piece.len() };
                if is_up == up {
                    seen += piece.len();
                }
                self.give(is_up, &piece[..most.min(piece.len())]);
                if most < piece.len() {
                    return seen;
                }
            }
        }
        seen
    }

    pub(crate) fn at_client(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        act(&mut self.world.network.context(self.world.client_host).connection(self.id).unwrap());
        self.pause();
    }

    pub(crate) fn pause(&mut self) {
        self.world.network.run_for(Duration::from_millis(5));
    }
}
