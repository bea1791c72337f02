//! Scripted peers: the clients of a run that have no loop.

use std::io;

use super::ledger::{Ledger, Phase, Side};
use crate::testing::Peer;

pub(super) struct Client {
    /// None once it has closed or reset the connection.
    peer: Option<Peer>,
    pub(super) stream: usize,
    ended: bool,
    saw_reset: bool,
    stalls: bool,
}

impl Client {
    pub(super) fn new(ledger: &mut Ledger, peer: Peer) -> Client {
        let stream = ledger.stream_of(peer.local_addr());
        ledger.streams[stream].client_stands = true;
        ledger.streams[stream].scripted = true;
        Client { peer: Some(peer), stream, ended: false, saw_reset: false, stalls: false }
    }

    /// Does one of the things that a peer can do.
    pub(super) fn act(&mut self, ledger: &mut Ledger) {
        match ledger.random.below(40) {
            0..=17 => self.send(ledger),
            18..=31 => {
                let most = match ledger.random.below(4) {
                    0 => ledger.random.between(1, 10) as usize,
                    1 => ledger.random.between(1, 2000) as usize,
                    _ => usize::MAX,
                };
                self.read(ledger, most);
            }
            32 => self.end(ledger),
            33 => self.leave(ledger, false),
            34 => self.leave(ledger, true),
            35 => self.send_urgent(ledger),
            36 => self.stall(ledger, true),
            _ => self.stall(ledger, false),
        }
    }

    fn send(&mut self, ledger: &mut Ledger) {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.ended) else { return };
        let count = match ledger.random.below(8) {
            0 | 1 => 1,
            2..=5 => ledger.random.between(1, 100),
            6 => ledger.random.between(100, 3000),
            _ => ledger.random.between(3000, 30_000),
        };
        let count = (count as usize).min(2 * ledger.write_bound);
        let from = ledger.streams[self.stream].halves[0].written;
        let sent = peer.send(&ledger.bytes(self.stream, Side::Client, from, count));
        ledger.streams[self.stream].halves[0].written += sent;
        if sent > 0 {
            ledger.coverage.hit("peer sends");
        }
    }

    fn send_urgent(&mut self, ledger: &mut Ledger) {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.ended) else { return };
        let from = ledger.streams[self.stream].halves[0].written;
        if peer.send_urgent(ledger.bytes(self.stream, Side::Client, from, 1)[0]) {
            ledger.streams[self.stream].halves[0].written += 1;
            ledger.coverage.hit("peer sends urgent");
        }
    }

    /// Reads, and checks the bytes.
    pub(super) fn read(&mut self, ledger: &mut Ledger, most: usize) {
        let Some(peer) = &mut self.peer else { return };
        let bytes = peer.read_up_to(most);
        let error = peer.error().map(io::Error::kind);
        let ended = peer.saw_end();
        let half = &mut ledger.streams[self.stream].halves[1];
        let (from, seen) = (half.received, half.end_seen);
        half.received += bytes.len();
        ledger.compare(self.stream, Side::Server, from, &bytes);
        if !bytes.is_empty() {
            ledger.coverage.hit("peer reads");
        }
        if let Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) = error {
            if !std::mem::replace(&mut self.saw_reset, true) {
                ledger.coverage.hit("peer sees a reset");
            }
        }
        if ended && error.is_none() && !seen {
            ledger.coverage.hit("peer sees an end");
            ledger.ended(self.stream, Side::Server, from + bytes.len());
        }
    }

    pub(super) fn end(&mut self, ledger: &mut Ledger) {
        let Some(peer) = &mut self.peer else { return };
        if peer.is_connected() && !std::mem::replace(&mut self.ended, true) {
            ledger.coverage.hit("peer ends");
            ledger.streams[self.stream].halves[0].end_asked = true;
            peer.end();
        }
    }

    /// Closes or resets the connection.
    pub(super) fn leave(&mut self, ledger: &mut Ledger, resets: bool) {
        let Some(peer) = self.peer.take() else { return };
        ledger.coverage.hit(if resets { "peer resets" } else { "peer closes" });
        ledger.streams[self.stream].halves[0].end_asked = true;
        ledger.streams[self.stream].client_stands = false;
        if resets { peer.reset() } else { peer.close() }
    }

    pub(super) fn stall(&mut self, ledger: &mut Ledger, stalls: bool) {
        let Some(peer) = &mut self.peer else { return };
        if std::mem::replace(&mut self.stalls, stalls) == stalls {
            return;
        }
        if stalls {
            ledger.coverage.hit("peer stalls");
            peer.stall();
        } else {
            peer.unstall();
        }
    }

    /// Checks at rest that if this peer was reset, its server's connection has ended and its protocol was told.
    pub(super) fn check_rest(&self, ledger: &mut Ledger) {
        if !self.saw_reset || ledger.fatal {
            return;
        }
        let stands = |phase| matches!(phase, Phase::Made | Phase::Ended);
        let standing = ledger.connections.iter().any(|of| of.stream == Some(self.stream) && stands(of.phase));
        ledger.check(!standing, || format!("stream {}: its client was reset, and the server stands", self.stream));
    }

    /// Checks after the run that an orderly close let the whole answer arrive, and that no reset destroyed it.
    pub(super) fn check_answer(&self, ledger: &mut Ledger, at_once: bool) {
        let [up, down] = &ledger.streams[self.stream].halves;
        let (sent, torn) = (up.written, down.torn);
        let whole = down.end_seen && down.received == down.written && !self.saw_reset;
        let told =
            format!("{} of {} bytes, end: {}, reset: {}", down.received, down.written, down.end_seen, self.saw_reset);
        let of_it = ledger.connections.iter().rev().find(|of| of.stream == Some(self.stream));
        let Some(connection) = of_it.filter(|_| self.peer.is_some() && !torn) else { return };
        let orderly = ["closed", "protocol error"].contains(&connection.lost_reason) && !connection.asked.command;
        if orderly && sent == connection.sent_to_it && (connection.was_quiet || at_once) {
            ledger.coverage.hit("answer in full");
            ledger.check(whole, || {
                format!("stream {}: closed in order, and the answer is not whole: {told}", self.stream)
            });
        }
    }
}
