//! A message in steady state allocates nothing.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Echo, connect, event_loop, listen, turn_until};

#[test]
fn an_echoed_message_allocates_nothing_in_steady_state() {
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    turn_until(&mut event_loop, |context| context.connection_count() == 20);
    let mut rounds = |count: usize| {
        for _ in 0..count {
            for client in &mut clients {
                client.write_all(&[7; 64]).unwrap();
            }
            for client in &mut clients {
                client.set_nonblocking(true).unwrap();
                let mut back = [0; 64];
                while client.read_exact(&mut back).is_err() {
                    event_loop.turn(Some(Duration::from_millis(20))).unwrap();
                }
                client.set_nonblocking(false).unwrap();
                assert_eq!(back, [7; 64]);
            }
        }
    };
    rounds(3);
    let counted = allocation_counter::measure(|| rounds(50));
    assert_eq!(counted.count_total, 0, "in 1,000 messages");
}
