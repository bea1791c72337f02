//! Lines, whole and cut, with every kind of ending, a maximum and raw data between them; and a second way to split.

use std::cell::RefCell;
use std::rc::Rc;

use switchboard::Transport;
use switchboard::framing::{LineEnding, LineHandler, LineReceiver};
use switchboard::testing::Harness;

use crate::connection;
use crate::input::{Input, is_one_in_a_thousand, pieces};

pub const WORDS: &[&[u8]] =
    &[b"\n", b"\r\n", b"\r", b"\r\r\n", b"raw 3\n", b"raw 0\r\n", b"raw 20\r\n", b"0123456789abcdef"];

/// What a handler is told.
#[derive(Debug, PartialEq)]
enum Event {
    Line(Vec<u8>),
    TooLong,
    /// Consecutive raw data counts as one event.
    Raw(Vec<u8>),
}

struct Handler {
    events: Rc<RefCell<Vec<Event>>>,
    raw_left: usize,
}

impl Handler {
    fn new() -> (Handler, Rc<RefCell<Vec<Event>>>) {
        let events = Rc::<RefCell<Vec<Event>>>::default();
        (Handler { events: events.clone(), raw_left: 0 }, events)
    }
}

impl LineHandler for Handler {
    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        self.raw_left = raw_bytes(line);
        self.events.borrow_mut().push(Event::Line(line.to_vec()));
    }

    fn is_raw(&self) -> bool {
        self.raw_left > 0
    }

    fn raw_data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        let taken = data.len().min(self.raw_left);
        self.raw_left -= taken;
        let mut events = self.events.borrow_mut();
        match events.last_mut() {
            Some(Event::Raw(raw)) => raw.extend_from_slice(&data[..taken]),
            _ => events.push(Event::Raw(data[..taken].to_vec())),
        }
        taken
    }

    fn line_too_long(&mut self, _: &mut Transport<'_>) {
        self.events.borrow_mut().push(Event::TooLong);
    }
}

/// Returns how many raw bytes a line announces.
fn raw_bytes(line: &[u8]) -> usize {
    let number = line.strip_prefix(b"raw ").and_then(|number| std::str::from_utf8(number).ok()?.parse::<u8>().ok());
    number.map_or(0, usize::from)
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let ending = [LineEnding::Either, LineEnding::CrLf, LineEnding::Lf][input.below(3)];
    let bytes_max = [8, 16, 300][input.below(3)];
    let data = input.rest();
    let expected = reference(data, ending, bytes_max);
    let lines = |handler| LineReceiver::new(handler).line_ending(ending).line_bytes_max(bytes_max);
    for is_cut in [false, true] {
        let (handler, events) = Handler::new();
        let (is_closing, _) = connection::with(|transport| {
            match is_cut {
                false => connection::feed(&mut lines(handler), transport, std::iter::once(data)),
                true => connection::feed(&mut lines(handler), transport, pieces(data, seed)),
            };
            transport.is_closing()
        });
        assert!(!is_closing, "no input ends the connection");
        assert_eq!(*events.borrow(), expected, "{ending:?}, at most {bytes_max}, cut: {is_cut}, by {seed}");
    }
    if is_one_in_a_thousand(data) {
        let (handler, events) = Handler::new();
        let mut harness = Harness::new(lines(handler));
        pieces(data, seed).for_each(|piece| harness.feed(piece));
        assert!(harness.lost().is_none(), "no input ends the connection: {:?}", harness.lost());
        assert_eq!(*events.borrow(), expected, "{ending:?}, at most {bytes_max}, by a connection, cut by {seed}");
    }
}

/// Splits all of `data` at once.
fn reference(data: &[u8], ending: LineEnding, bytes_max: usize) -> Vec<Event> {
    let (mut events, mut at) = (Vec::new(), 0);
    while at < data.len() {
        let rest = &data[at..];
        let end = rest.iter().enumerate().position(|(index, byte)| {
            *byte == b'\n' && (ending != LineEnding::CrLf || index > 0 && rest[index - 1] == b'\r')
        });
        let line = &rest[..end.unwrap_or(rest.len())];
        let Some(end) = end else {
            // What cannot become a line any more: the maximum, and what of the ending has no line feed.
            let ending_bytes = usize::from(ending != LineEnding::Lf);
            if line.len() > bytes_max + ending_bytes {
                events.push(Event::TooLong);
            }
            break;
        };
        at += end + 1;
        let line = if ending == LineEnding::Lf { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        if line.len() > bytes_max {
            events.push(Event::TooLong);
            continue;
        }
        events.push(Event::Line(line.to_vec()));
        let raw = raw_bytes(line).min(data.len() - at);
        if raw > 0 {
            events.push(Event::Raw(data[at..at + raw].to_vec()));
            at += raw;
        }
    }
    events
}
