//! TLS behind a proxy that passes it on, after a header that names the client.

use std::sync::Arc;

use switchboard::filter::{Filter, Flow};
use switchboard::proxy::ProxyHeader;
use switchboard::testing::{Faults, seeds};
use switchboard::{Address, Connect, Transport};

use super::kit::*;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";

const ANSWER: &[u8] = b"192.0.2.7:4711hello";

/// Sends what a proxy sends, and leaves.
struct SaysWhoConnects;

impl Filter for SaysWhoConnects {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        flow.down().push(HEADER);
        flow.leave();
    }

    fn receive(&mut self, _: &mut [u8], _: &mut Flow<'_>) -> usize {
        0
    }

    fn send(&mut self, _: &[u8], _: &mut Flow<'_>) -> usize {
        0
    }
}

fn answers_who_it_is(event: Event<'_>, transport: &mut Transport<'_>) {
    if let Event::Made = event {
        let peer = transport.peer_addr().map(Address::to_string);
        transport.write(peer.unwrap_or_default().as_bytes());
    }
    echo(event, transport);
}

fn says_hello(event: Event<'_>, transport: &mut Transport<'_>) {
    match event {
        Event::Made => transport.write(b"hello"),
        Event::Data(data) if data.ends_with(b"hello") => transport.close(),
        _ => idle(event, transport),
    }
}

#[test]
fn the_header_of_a_proxy_comes_before_tls_and_names_the_client() {
    for version in BOTH {
        let configs = (Arc::new(server(version)), Arc::new(client(version)));
        let mut whole = 0;
        seeds(|seed| {
            let make = switchboard_tls::listen(configs.0.clone());
            let mut world = World::new(
                seed,
                Faults::all(),
                |listen| listen.filter(|proxy| Some(ProxyHeader::new(proxy))).filter(make),
                answers_who_it_is,
            );
            let make = switchboard_tls::connect(configs.1.clone(), NAME.try_into().unwrap());
            let connect = Connect::to(world.to).filter(|| SaysWhoConnects).filter(make);
            world.connect(connect, says_hello);
            world.network.run_for(600 * SECOND);
            let client = world.client.borrow();
            whole += usize::from(client.data == ANSWER);
            assert!(ANSWER.starts_with(&client.data), "{:?}", client.data.escape_ascii().to_string());
        });
        assert_ne!(whole, 0);
        // Without faults everything arrives.
        let make = switchboard_tls::listen(configs.0.clone());
        let filtered = |listen: switchboard::Listen| listen.filter(|proxy| Some(ProxyHeader::new(proxy))).filter(make);
        let mut world = World::new(1, Faults::none(), filtered, answers_who_it_is);
        let make = switchboard_tls::connect(configs.1, NAME.try_into().unwrap());
        world.connect(Connect::to(world.to).filter(|| SaysWhoConnects).filter(make), says_hello);
        world.network.run_until_rest();
        assert_eq!(world.client.borrow().data, ANSWER);
        assert_eq!(world.errors.take(), [""; 0]);
    }
}

#[test]
fn who_speaks_tls_without_the_header_is_refused() {
    let make = switchboard_tls::listen(Arc::new(server(V13)));
    let filtered = |listen: switchboard::Listen| listen.filter(|proxy| Some(ProxyHeader::new(proxy))).filter(make);
    let mut world = World::new(1, Faults::none(), filtered, echo);
    world.dial(&Arc::new(client(V13)), says_hello);
    world.network.run_for(600 * SECOND);
    let errors = world.errors.take();
    assert!(errors.len() == 1 && errors[0].contains("no PROXY header"), "{errors:?}");
    let events = world.client.take().events;
    assert!(events.len() == 1 && events[0].starts_with("failed: "), "{events:?}");
    assert!(world.server.borrow().events.is_empty());
}
