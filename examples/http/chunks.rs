// A chunked body (RFC 9112, section 7.1). Everything but the data is read a byte at a time, so the result does not
// depend on how the stream was split, and no byte is looked at twice.

/// The longest line with the size of a chunk, its end included: some servers sign each chunk there.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// The most digits of a size, so that it fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// The longest trailer, all of its lines together.
const TRAILER_BYTES_MAX: usize = 32 << 10;

/// Fields that say where a request ends and which host it is for: a recipient that merges the trailer into the head
/// would see a different request.
const OF_HEADS: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];

/// One more than the length of the longest of them.
const NAME_BYTES_MAX: usize = 18;

const SIZE: &str = "the size of a chunk is malformed";
const LONGER: &str = "a chunk is longer than its size";

/// How strictly everything around the data is checked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rules {
    /// For requests, whose end decides where the next one begins: everything must match the grammar. Blanks within an
    /// extension are refused too, although the grammar says to accept them: nobody sends them, and others refuse them.
    Strict,
    /// For responses: nobody uses their extensions and trailers, and clients ignore them.
    Answer,
}

pub(crate) struct Chunked {
    rules: Rules,
    state: State,
    /// How many bytes of the line with a size, or of the trailer, were read so far.
    bytes: usize,
    /// The name of the current trailer field, or at least its beginning.
    name: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    /// In the digits of a chunk's size.
    Size {
        size: u64,
        digits: u8,
    },
    /// After the digits.
    Extension(Extension, u64),
    /// Before the LF of the line with this size.
    SizeEnd(u64),
    /// This many bytes are left of a chunk.
    Data {
        left: u64,
    },
    /// The line end after a chunk, and the second byte of it.
    DataEnd,
    DataEndLf,
    /// The lines after the last chunk.
    Trailer(Line),
    Over,
}

/// What follows a chunk's size: `;name`, `;name=value` or `;name="value"`, any number of times.
#[derive(Clone, Copy, PartialEq)]
enum Extension {
    /// Blanks after the size of a response's chunk, which some servers pad.
    Blank,
    NameBegin,
    Name,
    ValueBegin,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
    /// Anything that a response has there, except controls.
    Unread,
}

/// A line of the trailer.
#[derive(Clone, Copy)]
enum Line {
    Begin,
    Name,
    Value,
    /// After the CR of a field's line.
    End,
    /// After the CR of the empty line that ends the trailer.
    LastEnd,
}

impl Chunked {
    pub(crate) fn new(rules: Rules) -> Chunked {
        Chunked { rules, state: BEGIN, bytes: 0, name: Vec::new() }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Appends the part of the body in `data` to `out`, and returns how many bytes of `data` belong to the body: all of
    /// them, or those up to its end.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut consumed = 0;
        while consumed < data.len() && !self.is_over() {
            if let State::Data { left } = &mut self.state {
                consumed += super::take(left, &data[consumed..], out);
                if *left == 0 {
                    self.state = State::DataEnd;
                }
            } else {
                self.state = self.next(data[consumed])?;
                consumed += 1;
            }
        }
        Ok(consumed)
    }

    /// Returns the state after a byte that is not data.
    fn next(&mut self, byte: u8) -> Result<State, String> {
        self.bytes += 1;
        let next = match self.state {
            _ if self.bytes > self.bytes_max() => return Err(self.too_long()),
            State::Size { size, digits } => self.in_size(size, digits, byte).ok_or(SIZE)?,
            State::Extension(extension, size) => self.in_extension(extension, size, byte).ok_or(SIZE)?,
            State::SizeEnd(size) => {
                (byte == b'\n').then_some(()).ok_or(SIZE)?;
                self.bytes = 0;
                if size == 0 { State::Trailer(Line::Begin) } else { State::Data { left: size } }
            }
            State::DataEnd => (byte == b'\r').then_some(State::DataEndLf).ok_or(LONGER)?,
            State::DataEndLf => {
                self.bytes = 0;
                (byte == b'\n').then_some(BEGIN).ok_or(LONGER)?
            }
            State::Trailer(line) => match self.rules {
                Rules::Strict => self.in_trailer(line, byte).ok_or("a trailer field is malformed")?,
                Rules::Answer => line.next_unread(byte),
            },
            State::Data { .. } | State::Over => self.state,
        };
        Ok(next)
    }

    fn in_size(&self, size: u64, digits: u8, byte: u8) -> Option<State> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            let size = size << 4 | u64::from(digit);
            return (digits < SIZE_DIGITS_MAX).then_some(State::Size { size, digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => None,
            b'\r' => Some(State::SizeEnd(size)),
            _ => self.in_extension(Extension::Blank, size, byte),
        }
    }

    fn in_extension(&self, extension: Extension, size: u64, byte: u8) -> Option<State> {
        if byte == b'\r' {
            return extension.may_end().then_some(State::SizeEnd(size));
        }
        extension.next(byte, self.rules).map(|extension| State::Extension(extension, size))
    }

    fn in_trailer(&mut self, line: Line, byte: u8) -> Option<State> {
        match line {
            Line::Begin => self.name = vec![byte.to_ascii_lowercase()],
            Line::Name if byte == b':' && OF_HEADS.contains(&&self.name[..]) => return None,
            Line::Name if self.name.len() < NAME_BYTES_MAX => self.name.push(byte.to_ascii_lowercase()),
            _ => {}
        }
        line.next(byte)
    }

    fn bytes_max(&self) -> usize {
        if matches!(self.state, State::Trailer(_)) { TRAILER_BYTES_MAX } else { SIZE_LINE_BYTES_MAX }
    }

    fn too_long(&self) -> String {
        match self.state {
            State::Trailer(_) => format!("more than {TRAILER_BYTES_MAX} bytes of trailer"),
            _ => SIZE.to_owned(),
        }
    }
}

const BEGIN: State = State::Size { size: 0, digits: 0 };

impl Extension {
    fn next(self, byte: u8, rules: Rules) -> Option<Extension> {
        use Extension::*;
        match (self, byte) {
            (Unread | Quoted | Escaped, _) if !is_text(byte) => None,
            (Unread, _) => Some(Unread),
            (Escaped, _) => Some(Quoted),
            (Quoted, b'"') => Some(QuotedEnd),
            (Quoted, b'\\') => Some(Escaped),
            (Quoted, _) => Some(Quoted),
            (NameBegin | Name, _) if is_token(byte) => Some(Name),
            (ValueBegin | Value, _) if is_token(byte) => Some(Value),
            (ValueBegin, b'"') => Some(Quoted),
            (Name, b'=') => Some(ValueBegin),
            (Blank, b';') if rules == Rules::Answer => Some(Unread),
            (Blank, b' ' | b'\t') if rules == Rules::Answer => Some(Blank),
            (Blank | Name | Value | QuotedEnd, b';') => Some(NameBegin),
            _ => None,
        }
    }

    /// Returns whether the line may end here.
    fn may_end(self) -> bool {
        !matches!(self, Extension::NameBegin | Extension::ValueBegin | Extension::Quoted | Extension::Escaped)
    }
}

impl Line {
    /// Follows the rules of header fields, except that a line must end with CR LF.
    fn next(self, byte: u8) -> Option<State> {
        let line = match (self, byte) {
            (Line::Begin, b'\r') => Line::LastEnd,
            (Line::Begin | Line::Name, _) if is_token(byte) => Line::Name,
            (Line::Name, b':') => Line::Value,
            (Line::Value, b'\r') => Line::End,
            (Line::Value, _) if is_text(byte) => Line::Value,
            (Line::End, b'\n') => Line::Begin,
            (Line::LastEnd, b'\n') => return Some(State::Over),
            _ => return None,
        };
        Some(State::Trailer(line))
    }

    /// Looks only for the ends of lines.
    fn next_unread(self, byte: u8) -> State {
        match (self, byte) {
            (Line::Begin | Line::LastEnd, b'\n') => State::Over,
            (_, b'\n') => State::Trailer(Line::Begin),
            (Line::Begin, b'\r') => State::Trailer(Line::LastEnd),
            _ => State::Trailer(Line::Value),
        }
    }
}

/// Returns whether a byte may be in a name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether a byte may be in a value: anything but controls, except that a tab is allowed.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
