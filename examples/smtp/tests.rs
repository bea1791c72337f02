// A session by the harness, with every cut; and three clients on a network that loses and delays.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, SILENCE, Shared, Spool};
use switchboard::testing::{Faults, Harness, Network, every_cut, seeds};
use switchboard::workers::WorkerPool;

const MAIL: &[u8] = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhello\r\n..\r\n.\r\nQUIT\r\n";

fn shared() -> Rc<Shared> {
    let spool = Arc::new(Spool::new(None).unwrap());
    Rc::new(Shared { spool, writers: WorkerPool::new(NonZeroUsize::MIN, 100), timeout: SILENCE })
}

/// The codes of replies, without those lines of a reply that others follow.
fn codes(replies: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(replies).unwrap().lines();
    lines.filter(|line| line.as_bytes().get(3) == Some(&b' ')).map(|line| line[..3].to_owned()).collect()
}

#[test]
fn smtp_a_session_is_answered_however_it_is_cut() {
    let shared = shared();
    every_cut(MAIL, |pieces| {
        let mut harness = Harness::new(Client::protocol(&shared));
        pieces.iter().for_each(|piece| harness.feed(piece));
        assert_eq!(codes(&harness.take_written()), ["220", "250", "250", "250", "354", "250", "221"]);
    });
}

#[test]
fn smtp_a_message_that_never_ends_is_told_so() {
    let mut harness = Harness::new(Client::protocol(&shared()));
    harness.feed(&MAIL[..MAIL.len() - 12]);
    for _ in 0..9 {
        harness.advance(SILENCE / 4);
        harness.feed(b"more\r\n");
    }
    assert_eq!(codes(&harness.take_written()).last().unwrap(), "421");
}

#[test]
fn smtp_clients_are_served_on_a_bad_network() {
    seeds(|seed| {
        let mut network = Network::new(seed, Faults::all());
        let server = network.host();
        let address = network.address(server, 25);
        let shared = shared();
        network.context(server).listen(address, move |_, _| Some(Client::protocol(&shared))).unwrap();
        let mut peers = [0; 3].map(|_| network.peer(address));
        peers.iter_mut().for_each(|peer| peer.queue(MAIL));
        let mut replies = [const { Vec::new() }; 3];
        let done = network.run_until(|_| {
            peers.iter_mut().zip(&mut replies).for_each(|(peer, replies)| replies.extend(peer.read()));
            replies.iter().all(|replies| codes(replies).len() == 7)
        });
        assert!(done, "{replies:?}");
        network.run_for(Duration::from_secs(1));
    });
}
