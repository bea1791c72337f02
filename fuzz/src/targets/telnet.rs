//! Telnet, whole and cut, and a second way to take its control bytes out.

use std::cell::RefCell;
use std::rc::Rc;

use switchboard::Transport;
use switchboard::framing::{LineHandler, LineReceiver, Telnet, TelnetCommand};
use switchboard::testing::Harness;

use crate::connection;
use crate::input::{Input, is_one_in_a_thousand, pieces};

pub const WORDS: &[&[u8]] = &[
    b"\xff\xfd\x01",
    b"\xff\xfb\x1f",
    b"\xff\xfa\x1f\0\x50\0\x18\xff\xf0",
    b"\xff\xff",
    b"\xff\xf6",
    b"\xff\xf4",
    b"\xff\xf8",
    b"\xff\xf7",
    b"\r\0",
    b"\r\n",
    b"\n",
    b"\xff",
];

const IAC: u8 = 255;
const SUBNEGOTIATION_BYTES_MAX: usize = 1024;

/// What a handler is told, and what is answered.
#[derive(Debug, Default, PartialEq)]
struct Told {
    lines: Vec<Vec<u8>>,
    answers: Vec<u8>,
    is_closed: bool,
}

/// The lines of a handler, and the commands by their names.
type Lines = Rc<RefCell<Vec<Vec<u8>>>>;

struct Handler(Lines);

impl LineHandler for Handler {
    fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
        self.0.borrow_mut().push(line.to_vec());
    }

    fn telnet_command(&mut self, _: &mut Transport<'_>, command: TelnetCommand) {
        self.0.borrow_mut().push(format!("{command:?}").into_bytes());
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let data = input.rest();
    let (whole, cut) = told_whole_and_cut(data, seed);
    assert_eq!(cut, whole, "cut by {seed}, and whole");
    if is_one_in_a_thousand(data) {
        assert_eq!(told_by_a_connection(pieces(data, seed)), whole, "by a connection, cut by {seed}, and whole");
    }
    if let Some(text) = text_of(data) {
        // Without commands in it, that is what the lines are made of.
        let lines: Vec<&[u8]> = match text.strip_suffix(b"\n") {
            Some(text) => text.split(|byte| *byte == b'\n').collect(),
            None => {
                text.split(|byte| *byte == b'\n').take(text.iter().filter(|byte| **byte == b'\n').count()).collect()
            }
        };
        let lines: Vec<&[u8]> = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
        assert_eq!(whole.lines, lines);
    }
}

fn telnet() -> (Telnet<Handler>, Lines) {
    let lines = Lines::default();
    (Telnet::new(LineReceiver::new(Handler(lines.clone())).line_bytes_max(4096)), lines)
}

fn told_whole_and_cut(data: &[u8], seed: u8) -> (Told, Told) {
    let ((mut whole, cut, answers_bytes), mut answers) = connection::with(|transport| {
        let whole = told(transport, std::iter::once(data));
        let answers_bytes = transport.queued_bytes();
        // What has ended the connection once does so again, and that needs another one.
        let cut = (!whole.is_closed).then(|| told(transport, pieces(data, seed)));
        (whole, cut, answers_bytes)
    });
    let cut = match cut {
        Some(cut) => Told { answers: answers.split_off(answers_bytes), ..cut },
        None => {
            let (cut, answers) = connection::with(|transport| told(transport, pieces(data, seed)));
            Told { answers, ..cut }
        }
    };
    whole.answers = answers;
    (whole, cut)
}

/// Returns what is told, without the answers.
fn told<'a>(transport: &mut Transport<'_>, pieces: impl Iterator<Item = &'a [u8]>) -> Told {
    let (mut telnet, lines) = telnet();
    connection::feed(&mut telnet, transport, pieces);
    Told { lines: lines.take(), answers: Vec::new(), is_closed: transport.is_closing() }
}

fn told_by_a_connection<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Told {
    let (telnet, lines) = telnet();
    let mut harness = Harness::new(telnet);
    pieces.for_each(|piece| harness.feed(piece));
    let answers = harness.take_written();
    Told { lines: lines.take(), answers, is_closed: harness.saw_end() }
}

/// Returns the text, with `\n` for CR NUL, if `data` has only options, subnegotiations and doubled bytes beside it,
/// each of them complete.
fn text_of(data: &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut at) = (Vec::new(), 0);
    while at < data.len() {
        match data[at..] {
            [IAC, IAC, ..] => {
                text.push(IAC);
                at += 2;
            }
            [IAC, 251..=254, _, ..] => at += 3,
            [IAC, 250, ref rest @ ..] => at += 2 + subnegotiation_bytes(rest)?,
            [IAC, ..] => return None,
            [0, ..] if text.last() == Some(&b'\r') => {
                text.push(b'\n');
                at += 1;
            }
            [byte, ..] => {
                text.push(byte);
                at += 1;
            }
            [] => {}
        }
    }
    Some(text)
}

/// Returns the length of a subnegotiation with its end; `None` if that is not there, or it is too long.
fn subnegotiation_bytes(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match rest.get(at..)? {
            [IAC, 240, ..] if at < SUBNEGOTIATION_BYTES_MAX / 2 => return Some(at + 2),
            // Anything but a doubled byte is not a subnegotiation as others write it.
            [IAC, IAC, ..] => at += 2,
            [IAC, ..] | [] => return None,
            _ => at += 1,
        }
    }
}
