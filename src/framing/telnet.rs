//! Telnet's control bytes, as a filter below the lines.

use memchr::memchr2;

use super::{FramingError, LineHandler, LineReceiver, TelnetCommand};
use switchboard::{Inner, Limit, Protocol, Transport};

/// The maximum length of a subnegotiation. Those in use have tens of bytes.
const SUBNEGOTIATION_BYTES_MAX: usize = 1024;

// RFC 854.
const NUL: u8 = 0;
const SE: u8 = 240;
const BREAK: u8 = 243;
const INTERRUPT_PROCESS: u8 = 244;
const ABORT_OUTPUT: u8 = 245;
const ARE_YOU_THERE: u8 = 246;
const ERASE_CHARACTER: u8 = 247;
const ERASE_LINE: u8 = 248;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

/// Lines from a telnet client: a [`LineReceiver`] without telnet's control bytes (RFC 854).
///
/// Every option that the client offers or asks for is refused, so the client stays a plain line-based terminal.
/// Subnegotiations are skipped, up to 1,024 bytes each. Commands are passed to [`LineHandler::telnet_command`], in
/// order with the lines. A doubled byte 255 is passed on as a single data byte. CR NUL ends a line as CRLF does (RFC
/// 1123, 3.3.1), unless the handler takes raw data. Clients that do not speak telnet, such as netcat, are served as
/// well, as long as they do not send byte 255, which does not occur in UTF-8.
///
/// ```
/// use switchboard::Transport;
/// use switchboard::framing::{LineHandler, LineReceiver, Telnet, TelnetCommand, send_line};
///
/// struct Greeter;
///
/// impl LineHandler for Greeter {
///     fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
///         send_line(transport, &[b"hello ", line].concat());
///     }
///
///     fn telnet_command(&mut self, transport: &mut Transport<'_>, command: TelnetCommand) {
///         if command == TelnetCommand::AreYouThere {
///             send_line(transport, b"yes");
///         }
///     }
/// }
///
/// let protocol = Telnet::new(LineReceiver::new(Greeter));
/// # drop(protocol);
/// ```
///
/// Output is not escaped: to send a byte 255, write it twice.
#[derive(Debug)]
pub struct Telnet<H> {
    lines: LineReceiver<H>,
    state: State,
    /// How many of the bytes that were left with the loop are known to be text.
    clean_bytes: usize,
    /// The beginning of a line that contains a control byte: the text before that.
    begun: Vec<u8>,
    /// Whether the last byte that the lines consumed was a carriage return.
    after_return: bool,
}

/// The state after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After an IAC.
    Command,
    /// After WILL, WONT, DO or DONT.
    Option(u8),
    /// In a subnegotiation, of which this many bytes have arrived.
    Subnegotiation(usize),
    /// After an IAC in a subnegotiation.
    SubnegotiationCommand(usize),
}

impl<H: LineHandler> Telnet<H> {
    /// Creates a protocol that removes telnet's control bytes from what `lines` receives.
    pub fn new(lines: LineReceiver<H>) -> Telnet<H> {
        Telnet { lines, state: State::Text, clean_bytes: 0, begun: Vec::new(), after_return: false }
    }

    /// Passes on the text at the beginning of `data`, up to the next command or CR NUL. Returns how many bytes were
    /// consumed, or `None` if more data is needed.
    fn receive_text(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Option<usize> {
        let known = std::mem::take(&mut self.clean_bytes);
        let end = self.end_of_text(data, known);
        if end == 0 && data[0] == NUL {
            return Some(self.receive_nul(transport));
        }
        if end == 0 {
            self.state = State::Command;
            return Some(1);
        }
        if !self.begun.is_empty() {
            return Some(self.complete_begun(transport, &data[..end]));
        }
        let count = self.lines.data_received(transport, &data[..end]);
        if count > end {
            return Some(usize::MAX); // the loop treats this as an error
        }
        if count > 0 {
            self.after_return = data[count - 1] == b'\r';
        }
        if count == 0 && end < data.len() && transport.is_reading() {
            // The command that follows splits a line, so its parts must be joined here.
            self.begun.extend_from_slice(&data[..end]);
            return Some(end);
        }
        // The loop keeps it, as it does without a filter.
        self.clean_bytes = end - count;
        (count > 0).then_some(count)
    }

    /// Returns the position of the first IAC, or of a NUL after a carriage return. The first `known` bytes are known to
    /// be text.
    fn end_of_text(&self, data: &[u8], known: usize) -> usize {
        let mut from = known;
        while let Some(found) = memchr2(IAC, NUL, &data[from..]) {
            let at = from + found;
            let is_behind_return = match at {
                0 if self.begun.is_empty() => self.after_return,
                0 => self.begun.ends_with(b"\r"),
                _ => data[at - 1] == b'\r',
            };
            if data[at] == IAC || is_behind_return {
                return at;
            }
            from = at + 1;
        }
        data.len()
    }

    /// Handles a NUL after a carriage return: it ends the line that contains the latter, or is a byte like any other.
    fn receive_nul(&mut self, transport: &mut Transport<'_>) -> usize {
        let is_in_line = !self.begun.is_empty() || self.lines.is_skipping();
        if self.lines.handler().is_raw() || !is_in_line {
            self.clean_bytes += 1;
            return 0;
        }
        if self.begun.is_empty() {
            self.after_return = false;
            return self.lines.data_received(transport, b"\n");
        }
        let count = self.complete_begun(transport, b"\n");
        if count == 0 {
            // The NUL has still to be looked at.
            self.clean_bytes = 0;
        }
        count
    }

    /// Passes on `text` together with the beginning of the line that was put aside; returns how much of `text` was
    /// consumed.
    fn complete_begun(&mut self, transport: &mut Transport<'_>, text: &[u8]) -> usize {
        let mut begun = std::mem::take(&mut self.begun);
        let before = begun.len();
        begun.extend_from_slice(text);
        let mut done = 0;
        // Only a handler that takes raw data can consume less than was put aside.
        while done < before {
            match self.lines.data_received(transport, &begun[done..]) {
                0 => break,
                count => done = done.saturating_add(count),
            }
            if !transport.is_reading() {
                break;
            }
        }
        if done > begun.len() {
            return usize::MAX; // the loop treats this as an error
        }
        if done > 0 {
            self.after_return = begun[done - 1] == b'\r';
        }
        if done >= before {
            self.clean_bytes = begun.len() - done;
            return done - before;
        }
        let taken = if transport.is_reading() { text.len() } else { 0 };
        begun.truncate(before + taken);
        begun.drain(..done);
        self.clean_bytes = text.len() - taken;
        if begun.len() > transport.input_bytes_max() && taken > 0 {
            transport.abort_over_limit(Limit::InputBytes);
        }
        self.begun = begun;
        taken
    }

    /// Handles the next byte of a command; returns how many bytes were consumed.
    fn receive_command(&mut self, transport: &mut Transport<'_>, byte: u8) -> usize {
        let state = std::mem::replace(&mut self.state, State::Text);
        match (state, byte) {
            (State::Command, IAC) => {
                // The second IAC is text.
                self.clean_bytes = 1;
                return 0;
            }
            (State::Command, WILL | WONT | DO | DONT) => self.state = State::Option(byte),
            (State::Command, SB) => self.state = State::Subnegotiation(0),
            (State::Command, _) => self.obey(transport, byte),
            // A refusal needs no further reply, and agreeing that an option is off needs none at all.
            (State::Option(WILL), option) => transport.write(&[IAC, DONT, option]),
            (State::Option(DO), option) => transport.write(&[IAC, WONT, option]),
            (State::Option(_) | State::Text, _) | (State::SubnegotiationCommand(_), SE) => {}
            (State::Subnegotiation(bytes), IAC) => self.state = State::SubnegotiationCommand(bytes),
            (State::Subnegotiation(bytes), _) => self.skip(transport, bytes + 1),
            (State::SubnegotiationCommand(bytes), _) => self.skip(transport, bytes + 2),
        }
        1
    }

    fn obey(&mut self, transport: &mut Transport<'_>, byte: u8) {
        let command = match byte {
            BREAK => TelnetCommand::Break,
            INTERRUPT_PROCESS => TelnetCommand::Interrupt,
            ABORT_OUTPUT => TelnetCommand::AbortOutput,
            ARE_YOU_THERE => TelnetCommand::AreYouThere,
            ERASE_CHARACTER => TelnetCommand::EraseCharacter,
            ERASE_LINE => TelnetCommand::EraseLine,
            // No-operation, go-ahead, the urgent data mark, and unknown commands.
            _ => return,
        };
        self.lines.handler().telnet_command(transport, command);
    }

    /// Records that a subnegotiation now has this many bytes.
    fn skip(&mut self, transport: &mut Transport<'_>, bytes: usize) {
        self.state = State::Subnegotiation(bytes);
        if bytes > SUBNEGOTIATION_BYTES_MAX {
            let error = FramingError::SubnegotiationTooLong { bytes_max: SUBNEGOTIATION_BYTES_MAX };
            self.lines.handler().framing_error(transport, &error);
            transport.close_for(error);
        }
    }
}

impl<H: LineHandler> Protocol for Telnet<H> {
    fn inner(&mut self) -> Inner<'_> {
        Inner::Protocol(&mut self.lines)
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let mut consumed = 0_usize;
        while consumed < data.len() {
            let rest = &data[consumed..];
            let count = match self.state {
                State::Text => self.receive_text(transport, rest),
                _ => Some(self.receive_command(transport, rest[0])),
            };
            let Some(count) = count else { break };
            consumed = consumed.saturating_add(count);
            if consumed < data.len() && !transport.is_reading() {
                break;
            }
        }
        consumed
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(rest);
        self.lines.eof_received(transport, &begun);
    }
}
