// Tests of a session in the harness, with its input cut at every place, and of three clients on a network with losses
// and delays.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, SILENCE, Shared, Spool, StartTls};
use switchboard::filter::{Filter, Flow};
use switchboard::testing::{Faults, Harness, Network, every_cut, seeds};
use switchboard::workers::WorkerPool;

const MAIL: &[u8] = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhello\r\n..\r\n.\r\nQUIT\r\n";

fn shared() -> Rc<Shared> {
    sharing(None)
}

fn sharing(starttls: Option<StartTls>) -> Rc<Shared> {
    let spool = Arc::new(Spool::new(None).unwrap());
    Rc::new(Shared { spool, writers: WorkerPool::new(NonZeroUsize::MIN, 100), timeout: SILENCE, starttls })
}

/// Stands in for TLS: inverts all bits, once a byte has arrived from the other side.
#[derive(Default)]
struct Turned(bool);

fn turned(data: &[u8]) -> Vec<u8> {
    data.iter().map(|byte| !byte).collect()
}

impl Filter for Turned {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        if !self.0 {
            self.0 = true;
            flow.set_ready();
            return 1;
        }
        let count = data.len().min(flow.up_room());
        flow.up().push(&turned(&data[..count]));
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        flow.down().push(&turned(data));
        data.len()
    }
}

fn offering() -> Rc<Shared> {
    sharing(Some(Rc::new(|| Box::new(Turned::default()))))
}

/// Returns the codes of replies, only once for a reply of several lines.
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
fn smtp_starttls_is_offered_where_it_can_be_done_and_once() {
    let lines = |harness: &mut Harness| String::from_utf8(harness.take_written()).unwrap();
    let mut without = Harness::new(Client::protocol(&shared()));
    without.feed(b"EHLO x\r\nSTARTTLS\r\nNOOP\r\n");
    let said = lines(&mut without);
    assert!(
        !said.contains("STARTTLS") && said.contains("\r\n502 ") && said.ends_with("250 2.0.0 nothing done\r\n"),
        "{said}"
    );

    let mut harness = Harness::new(Client::protocol(&offering()));
    harness.feed(b"EHLO x\r\nSTARTTLS now\r\n");
    let said = lines(&mut harness);
    assert!(said.contains("250-STARTTLS\r\n") && said.contains("\r\n501 "), "{said}");
    harness.feed(b"StartTLS\r\n");
    assert_eq!(lines(&mut harness), "220 2.0.0 begin TLS\r\n");
    harness.feed(&[b"!".to_vec(), turned(b"EHLO x\r\nSTARTTLS\r\n")].concat());
    let said = String::from_utf8(turned(&harness.take_written())).unwrap();
    assert!(said.starts_with("250-localhost\r\n250-SIZE ") && said.contains("\r\n503 "), "{said}");
}

#[test]
fn smtp_starttls_forgets_what_was_said_before_it_however_it_is_cut() {
    let shared = offering();
    every_cut(b"EHLO x\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n", |before| {
        let mut harness = Harness::new(Client::protocol(&shared));
        before.iter().for_each(|piece| harness.feed(piece));
        assert_eq!(codes(&harness.take_written()), ["220", "250", "250", "220"]);
        harness.feed(&[b"!".to_vec(), turned(b"RCPT TO:<c@d>\r\nMAIL FROM:<a@b>\r\n")].concat());
        assert_eq!(codes(&turned(&harness.take_written())), ["503", "503"], "who says so is not known yet");
        harness.feed(&turned(MAIL));
        let codes = codes(&turned(&harness.take_written()));
        assert_eq!(codes, ["250", "250", "250", "354", "250", "221"], "nothing of it stands");
    });
}

#[test]
fn smtp_what_comes_behind_starttls_in_the_clear_is_not_obeyed() {
    let mut harness = Harness::new(Client::protocol(&offering()));
    harness.feed(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@x>\r\n");
    let lost = harness.lost().expect("the connection is over").to_string();
    assert!(lost.contains("input arrived before the filter"), "{lost}");
    assert_eq!(codes(&harness.take_written()), ["220"], "what was not sent is dropped");
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
