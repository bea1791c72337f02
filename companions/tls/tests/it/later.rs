//! TLS in the middle of a stream: STARTTLS, at both ends.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use switchboard::testing::{Faults, Harness, seeds};
use switchboard::{Protocol, Transport};
use switchboard_tls::Tls;

use super::kit::*;

/// Replies to each line, and begins TLS when it is told to.
struct LinesServer {
    config: Arc<ServerConfig>,
}

impl Protocol for LinesServer {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        if &data[..end] == b"STARTTLS" {
            transport.write(b"go\n");
            assert!(transport.set_filter(Tls::server(self.config.clone())));
        } else {
            let is_secret = transport.filter::<Tls>().is_some();
            transport.write(if is_secret { b"secret " } else { b"plain " });
            transport.write(&data[..=end]);
        }
        end + 1
    }
}

/// Sends a line in plain text, begins TLS, and sends another one.
struct LinesClient {
    config: Arc<ClientConfig>,
    heard: Noted,
}

impl Protocol for LinesClient {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.heard.borrow_mut().events.push("made".into());
        transport.write(b"one\n");
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        self.heard.borrow_mut().data.extend(&data[..=end]);
        match &data[..end] {
            b"plain one" => transport.write(b"STARTTLS\n"),
            b"go" => {
                assert!(transport.set_filter(Tls::client(self.config.clone(), NAME.try_into().unwrap())));
                transport.write(b"two\n");
            }
            _ => transport.close(),
        }
        end + 1
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: switchboard::CloseReason) {
        self.heard.borrow_mut().events.push(format!("lost: {reason}"));
    }
}

#[test]
fn tls_may_begin_behind_a_command_whatever_the_network_does() {
    for version in BOTH {
        let (of_server, of_client) = (Arc::new(server(version)), Arc::new(client(version)));
        seeds(|seed| {
            let mut world = World::new(seed, Faults::all(), |listen| listen, idle);
            let to = world.network.address(world.server_host, 25);
            let config = of_server.clone();
            let made = move |_: &mut switchboard::Context<'_>, _: &switchboard::Address| {
                Some(LinesServer { config: config.clone() })
            };
            world.network.context(world.server_host).listen(to, made).unwrap();
            let protocol = LinesClient { config: of_client.clone(), heard: world.client.clone() };
            world.network.context(world.client_host).connect(to, protocol).unwrap();
            let client = world.client.clone();
            assert!(world.network.run_until(|_| client.borrow().events.len() == 2), "it is over");
            assert_eq!(client.borrow().events, ["made", "lost: closed by us"], "made once");
            assert_eq!(client.borrow().data, b"plain one\ngo\nsecret two\n");
            world.network.run_until_rest();
            assert_eq!(world.connections(), (0, 0));
        });
    }
}

#[test]
fn what_comes_behind_the_command_in_the_clear_ends_the_connection() {
    let mut harness = Harness::new(LinesServer { config: Arc::new(server(V13)) });
    harness.feed(b"STARTTLS\nevil\n");
    let lost = harness.lost().unwrap().to_string();
    assert_eq!(lost, "protocol error: input arrived before the filter for it had started");
}
