//! TLS between two other filters: one that counts the bytes on the network, and one that counts the protocol's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard::Connect;
use switchboard::filter::{Filter, Flow};
use switchboard::testing::{Faults, seeds};

use super::kit::*;

#[derive(Default)]
struct Counted {
    up: AtomicUsize,
    down: AtomicUsize,
}

impl Counted {
    fn both(&self) -> (usize, usize) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

/// Passes everything on, and counts it.
struct Counting(Arc<Counted>);

impl Filter for Counting {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(flow.up_room());
        self.0.up.fetch_add(count, Ordering::Relaxed);
        flow.up().push(&data[..count]);
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.0.down.fetch_add(data.len(), Ordering::Relaxed);
        flow.down().push(data);
        data.len()
    }
}

const MESSAGE: &[u8] = &[b'x'; 2_000];

fn sends_and_closes(event: Event<'_>, transport: &mut switchboard::Transport<'_>) {
    match event {
        Event::Made => {
            transport.write(MESSAGE);
            transport.shutdown_write();
        }
        Event::Data(_) => {}
        Event::Eof => transport.close(),
    }
}

#[test]
fn filters_below_and_above_tls_see_what_it_makes_and_what_it_is_given() {
    for version in BOTH {
        let configs = (Arc::new(server(version)), Arc::new(client(version)));
        seeds(|seed| {
            let counted: [Arc<Counted>; 4] = Default::default();
            let [below, above, below_client, above_client] = counted.clone();
            let tls = switchboard_tls::listen(configs.0.clone());
            let filtered = move |listen: switchboard::Listen| {
                listen
                    .filter(move |_| Some(Counting(below.clone())))
                    .filter(tls)
                    .filter(move |_| Some(Counting(above.clone())))
            };
            let mut world = World::new(seed, Faults::all(), filtered, echo);
            let tls = switchboard_tls::connect(configs.1.clone(), NAME.try_into().unwrap());
            let connect = Connect::to(world.to)
                .filter(move || Counting(below_client.clone()))
                .filter(tls)
                .filter(move || Counting(above_client.clone()));
            world.connect(connect, sends_and_closes);
            world.network.run_for(3600 * SECOND);
            assert!(world.client.borrow().data == MESSAGE, "{:?}", world.client.borrow().events);
            let [below, above, below_client, above_client] = counted;
            assert_eq!((above.both(), above_client.both()), ((2_000, 2_000), (2_000, 2_000)));
            let ((up, down), (client_up, client_down)) = (below.both(), below_client.both());
            assert!(up > 2_000 && down > 2_000, "records are larger than what is in them");
            // Tickets and ends that arrive at the very end may be left unread.
            assert!(up <= client_down && client_up <= down, "{up} of {client_down}, {client_up} of {down}");
        });
    }
}
