//! Rules F1 to F4: framing, through the whole loop.

mod cuts;
mod forwarding;
mod interrupting;
mod limits;
mod references;
mod telnet;

use super::*;
use crate::IntoProtocol;
use crate::framing::{FrameHandler, Framed, Framer, FramingError, LineHandler, LineReceiver, Telnet, TelnetCommand};

/// A handler that logs everything it is given, and does what a closure says: the closure gets what was logged, and may
/// set how many raw bytes come next.
struct Noting<F> {
    log: Log,
    raw_bytes: usize,
    act: F,
}

fn shown(what: &str, bytes: &[u8]) -> String {
    format!("{what} {}", crate::escape(bytes))
}

impl<F: FnMut(&str, &mut Transport<'_>, &mut usize)> Noting<F> {
    fn note(&mut self, entry: String, transport: &mut Transport<'_>) {
        (self.act)(&entry, transport, &mut self.raw_bytes);
        self.log.push(entry);
    }
}

macro_rules! noted {
    () => {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            self.note("made".into(), transport);
        }

        fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
            self.note(shown("eof", rest), transport);
            transport.close();
        }

        fn pause_writing(&mut self, transport: &mut Transport<'_>) {
            self.note("pause".into(), transport);
        }

        fn resume_writing(&mut self, transport: &mut Transport<'_>) {
            self.note("resume".into(), transport);
        }

        fn produce(&mut self, transport: &mut Transport<'_>) {
            self.note("produce".into(), transport);
        }

        fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
            self.note(format!("timed out: {timeout:?}"), transport);
        }

        fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
            self.note(format!("timer {key}"), transport);
        }

        fn draining(&mut self, transport: &mut Transport<'_>) {
            self.note("draining".into(), transport);
        }

        fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
            self.note(format!("failed: {error}"), transport);
        }

        fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
            self.note(format!("lost: {reason}"), transport);
        }

        fn framing_error(&mut self, transport: &mut Transport<'_>, error: &FramingError) {
            self.note(format!("broken: {error}"), transport);
        }
    };
}

impl<F: FnMut(&str, &mut Transport<'_>, &mut usize) + 'static> FrameHandler for Noting<F> {
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]) {
        self.note(shown("frame", frame), transport);
    }

    noted!();
}

impl<F: FnMut(&str, &mut Transport<'_>, &mut usize) + 'static> LineHandler for Noting<F> {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        self.note(shown("line", line), transport);
    }

    fn is_raw(&self) -> bool {
        self.raw_bytes > 0
    }

    fn raw_data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let taken = data.len().min(self.raw_bytes);
        self.raw_bytes -= taken;
        self.note(shown("raw", &data[..taken]), transport);
        taken
    }

    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        self.note("too long".into(), transport);
    }

    fn telnet_command(&mut self, transport: &mut Transport<'_>, command: TelnetCommand) {
        self.note(format!("command {command:?}"), transport);
    }

    noted!();
}

fn noting<F: FnMut(&str, &mut Transport<'_>, &mut usize)>(log: &Log, act: F) -> Noting<F> {
    Noting { log: log.clone(), raw_bytes: 0, act }
}

type DoesNothing = fn(&str, &mut Transport<'_>, &mut usize);

fn does_nothing(_: &str, _: &mut Transport<'_>, _: &mut usize) {}

/// A line protocol that logs its lines.
fn lines(log: &Log) -> LineReceiver<Noting<DoesNothing>> {
    LineReceiver::new(noting(log, does_nothing))
}

/// A frame protocol that logs its frames.
fn frames(log: &Log, framer: impl Framer) -> Box<dyn Protocol> {
    Box::new(Framed::new(framer, noting(log, does_nothing)))
}

impl Scene {
    /// A peer connects to this protocol, and is accepted.
    fn connect(&mut self, protocol: impl IntoProtocol) -> (ConnectionId, Peer) {
        let peer = self.knock(Some(protocol.into_protocol()));
        self.turn();
        let id = self.event_loop.core.parts.slots.by_token(sys::script::Registered::token(&peer)).expect("accepted").0;
        (ConnectionId(id), peer)
    }

    /// Returns the calls to a protocol, except `connection_made`, when these pieces arrive, each in a read of its own,
    /// and then the end.
    fn callbacks<'a>(
        &mut self,
        log: &Log,
        protocol: Box<dyn Protocol>,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<String> {
        let peer = self.knock(Some(protocol));
        peer.set_short_read_empties(false);
        self.turn();
        assert_eq!(log.take(), ["made"]);
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            peer.sends(piece);
        }
        self.end(&peer);
        self.settle();
        let mut callbacks = log.take();
        assert!(callbacks.pop().is_some_and(|last| last.starts_with("lost")), "the connection has not ended");
        callbacks
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 33) as usize) % end
    }

    /// Some bytes from an alphabet, whose letters may be several bytes long.
    fn bytes(&mut self, letters: &[&[u8]], most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).flat_map(|_| letters[self.below(letters.len())].to_vec()).collect()
    }

    /// Cuts the bytes into pieces.
    fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = [1, 3, 20][self.below(3)];
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(1 + self.below(longest.min(bytes.len())));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}
