//! Urgent data, as telnet's Synch sends it (rule R6).

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use switchboard::{Protocol, Transport};

use crate::support::{connect, event_loop, listen, turn_until};

struct Collect(Rc<RefCell<Vec<u8>>>);

impl Protocol for Collect {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

#[test]
fn r6_urgent_data_comes_in_line_and_strands_nothing_behind_it() {
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, move || Collect(into.clone()));
    let mut client = connect(address);
    let mut expected = Vec::new();
    for round in 0..20_u8 {
        client.write_all(b"before ").unwrap();
        SockRef::from(&client).send_out_of_band(&[round]).unwrap();
        client.write_all(b" after;").unwrap();
        expected.extend_from_slice(b"before ");
        expected.push(round);
        expected.extend_from_slice(b" after;");
        // All of it has arrived before the loop looks: no further event will come for what a read leaves.
        if round % 2 == 0 {
            turn_until(&mut event_loop, |_| received.borrow().len() == expected.len());
        }
    }
    turn_until(&mut event_loop, |_| received.borrow().len() == expected.len());
    assert_eq!(*received.borrow(), expected);
    // Nothing is spun on: the loop is at rest, and waits as long as it may.
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.time_to_next(), None);
    let start = std::time::Instant::now();
    event_loop.turn(Some(Duration::from_millis(50))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
}
