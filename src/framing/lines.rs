//! Lines.

use memchr::memchr;

use super::{FRAME_BYTES_MAX, TelnetCommand, raise_input_bytes_max};
use switchboard::{Limit, Protocol, Transport};

/// After a line of this many bytes, the end of the next one is not expected to be near.
const NEAR_BYTES: usize = 256;

/// What [`LineReceiver`] makes a [`Protocol`] from; only `line_received` is required.
pub trait LineHandler: 'static {
    /// Called with each line, without its ending.
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]);

    /// Returns whether the next bytes are raw data instead of lines, as after the header of a message. Called before
    /// each line and each piece of raw data, so a handler can switch back and forth in the middle of what was read.
    ///
    /// A handler should derive this from state that it has anyway, such as how much of a body is missing, rather than
    /// keep a flag for it.
    ///
    /// ```
    /// use switchboard::Transport;
    /// use switchboard::framing::LineHandler;
    ///
    /// /// Each line is a number, and that many raw bytes follow it.
    /// struct Bodies {
    ///     bytes_missing: usize,
    /// }
    ///
    /// impl LineHandler for Bodies {
    ///     fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
    ///         match std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()) {
    ///             Some(bytes) => self.bytes_missing = bytes,
    ///             None => transport.close_for("not a number"),
    ///         }
    ///     }
    ///
    ///     fn is_raw(&self) -> bool {
    ///         self.bytes_missing > 0
    ///     }
    ///
    ///     fn raw_data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         let taken = data.len().min(self.bytes_missing);
    ///         self.bytes_missing -= taken;
    ///         taken // the rest is lines again
    ///     }
    /// }
    /// ```
    fn is_raw(&self) -> bool {
        false
    }

    /// Called with raw data. Returns how many bytes of it were consumed, as
    /// [`Protocol::data_received`](crate::Protocol::data_received) does. If [`is_raw`](LineHandler::is_raw) then
    /// returns `false`, the rest is treated as lines. The default implementation consumes everything.
    fn raw_data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let _ = transport;
        data.len()
    }

    /// Returns the maximum length of a line, not counting its ending. `set` is the receiver's
    /// [`line_bytes_max`](LineReceiver::line_bytes_max), which the default implementation returns. Called before each
    /// line, as [`is_raw`](LineHandler::is_raw) is, and again while only a part of one has arrived. Useful for
    /// protocols that allow shorter commands than text.
    ///
    /// ```
    /// use switchboard::Transport;
    /// use switchboard::framing::LineHandler;
    ///
    /// struct Mail {
    ///     is_in_text: bool,
    /// }
    ///
    /// impl LineHandler for Mail {
    ///     fn line_received(&mut self, _: &mut Transport<'_>, line: &[u8]) {
    ///         self.is_in_text = if self.is_in_text { line != b"." } else { line == b"DATA" };
    ///     }
    ///
    ///     fn line_bytes_max(&self, _: usize) -> usize {
    ///         if self.is_in_text { 998 } else { 510 }
    ///     }
    /// }
    /// ```
    fn line_bytes_max(&self, set: usize) -> usize {
        set
    }

    /// Called once for each line that is longer than [`line_bytes_max`](LineHandler::line_bytes_max), as soon as that
    /// is certain. The default implementation aborts the connection with [`Limit::LineBytes`] as the reason (rule
    /// [F2](crate::guide::rules#f2)). If the handler does not abort, the line is skipped and the next one received.
    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        transport.abort_over_limit(Limit::LineBytes);
    }

    /// Called for each telnet command under [`Telnet`](crate::framing::Telnet), in order with the lines. The default
    /// implementation does nothing.
    fn telnet_command(&mut self, transport: &mut Transport<'_>, command: TelnetCommand) {
        let _ = (transport, command);
    }

    passed_on!();
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineEnding {
    /// CRLF or LF. A carriage return alone is part of the line.
    #[default]
    Either,
    /// CRLF. Carriage returns and line feeds alone are part of the line.
    CrLf,
    /// LF. Carriage returns are part of the line.
    Lf,
}

/// A protocol that receives lines: Twisted's `LineReceiver`.
///
/// By default, lines end with CRLF or LF. They are bytes, and may contain any but the line ending. If the peer ends its
/// stream within a line, the unfinished line is passed to `eof_received` as `rest`, not to `line_received`.
#[derive(Debug)]
pub struct LineReceiver<H> {
    handler: H,
    ending: LineEnding,
    line_bytes_max: usize,
    scan: Scan,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum Scan {
    /// A line, of which this many bytes were searched already.
    Line(usize),
    /// The rest of a line that is too long.
    TooLong,
}

/// The result of a search for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A line of this many `bytes`; the next one begins at `next`.
    Line { bytes: usize, next: usize },
    /// A line that is too long.
    TooLong { next: usize },
    /// More of a line that was already reported as too long.
    Skipped { next: usize },
    /// The beginning of a line.
    Partial,
}

/// How `data_received` continues.
enum Next {
    /// A line of this many `bytes`; the next one begins at `next`.
    Line { bytes: usize, next: usize },
    /// This many bytes were consumed.
    Done(usize),
    /// Nothing to do until more data arrives.
    Wait,
}

/// How to look for the end of a line.
#[derive(Clone, Copy)]
enum Search {
    /// The end is probably near.
    Near,
    /// The end is probably far.
    Far,
    /// With regard to what was scanned already, and to the line ending.
    Careful,
}

impl<H: LineHandler> LineReceiver<H> {
    /// Creates a protocol that passes the lines it receives to `handler`.
    pub fn new(handler: H) -> LineReceiver<H> {
        LineReceiver { handler, ending: LineEnding::default(), line_bytes_max: FRAME_BYTES_MAX, scan: Scan::Line(0) }
    }

    /// Sets what ends a line.
    #[must_use]
    pub fn line_ending(mut self, ending: LineEnding) -> LineReceiver<H> {
        self.ending = ending;
        self
    }

    /// Sets the maximum length of a line, not counting its ending, unless the handler [sets
    /// another](LineHandler::line_bytes_max). Default 16,384.
    #[must_use]
    pub fn line_bytes_max(mut self, bytes: usize) -> LineReceiver<H> {
        self.line_bytes_max = bytes;
        self
    }

    pub(super) fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Returns whether a line that is too long is being skipped.
    pub(super) fn is_skipping(&self) -> bool {
        matches!(self.scan, Scan::TooLong)
    }

    /// Looks for the end of the line that `data` begins with.
    #[inline]
    fn find(&mut self, data: &[u8]) -> Found {
        let Scan::Line(scanned) = self.scan else { return self.skip(data) };
        let Some(end) = self.find_ending(data, scanned) else { return self.without_ending(data) };
        let has_return = self.ending != LineEnding::Lf && data[..end].ends_with(b"\r");
        let bytes = end - usize::from(has_return);
        if bytes > self.bytes_max() {
            return self.over_max(data, end);
        }
        self.scan = Scan::Line(0);
        Found::Line { bytes, next: end + 1 }
    }

    #[cold]
    fn without_ending(&mut self, data: &[u8]) -> Found {
        if data.len() >= self.window_bytes_max() {
            return self.over_max(data, data.len());
        }
        self.scan = Scan::Line(data.len());
        Found::Partial
    }

    /// Handles a line that is too long. An end that is farther than a line may reach counts as not there yet, so that
    /// splits make no difference.
    #[cold]
    fn over_max(&mut self, data: &[u8], end: usize) -> Found {
        let window = self.window_bytes_max();
        if end < window {
            self.scan = Scan::Line(0);
            return Found::TooLong { next: end + 1 };
        }
        self.scan = Scan::TooLong;
        Found::TooLong { next: self.skipped(&data[..window]) }
    }

    /// Skips the rest of a line that is too long.
    #[cold]
    fn skip(&mut self, data: &[u8]) -> Found {
        match self.find_ending(data, 0) {
            Some(end) => {
                self.scan = Scan::Line(0);
                Found::Skipped { next: end + 1 }
            }
            None => Found::Skipped { next: self.skipped(data) },
        }
    }

    /// Returns how much of an unfinished line can be skipped: not a final carriage return that may be half of the
    /// ending.
    fn skipped(&self, data: &[u8]) -> usize {
        data.len() - usize::from(self.ending == LineEnding::CrLf && data.ends_with(b"\r"))
    }

    /// Returns the position of the line feed that ends the line, if there is one.
    #[inline]
    fn find_ending(&self, data: &[u8], mut scanned: usize) -> Option<usize> {
        loop {
            let end = scanned + memchr(b'\n', data.get(scanned..)?)?;
            if self.ending != LineEnding::CrLf || (end > 0 && data[end - 1] == b'\r') {
                return Some(end);
            }
            scanned = end + 1;
        }
    }

    /// Returns the maximum length of the next line.
    #[inline]
    fn bytes_max(&self) -> usize {
        self.handler.line_bytes_max(self.line_bytes_max)
    }

    /// The length of a line of the maximum with its ending.
    fn window_bytes_max(&self) -> usize {
        self.bytes_max().saturating_add(if self.ending == LineEnding::Lf { 1 } else { 2 })
    }

    /// Returns how to look for the end of the next line.
    #[inline]
    fn search(&self) -> Search {
        match (self.scan, self.ending) {
            (Scan::Line(0), LineEnding::Either) => Search::Near,
            _ => Search::Careful,
        }
    }

    /// Returns the length of the line at the beginning of `data` and where the next one begins, if all of it is there,
    /// it is not too long and needs no [`Careful`](Search::Careful) search. This is the common case of
    /// [`next`](LineReceiver::next), inlined and stateless.
    #[inline]
    fn next_quickly(&mut self, data: &[u8], search: &mut Search) -> Option<(usize, usize)> {
        let found = match search {
            Search::Near => find_near(data),
            Search::Far => memchr(b'\n', data),
            Search::Careful => return None,
        };
        let Some(end) = found else {
            // All of it was searched, and need not be again.
            let scanned = data.len();
            self.scan = Scan::Line(scanned);
            return None;
        };
        *search = if end < NEAR_BYTES { Search::Near } else { Search::Far };
        let bytes = end - usize::from(data[..end].ends_with(b"\r"));
        (bytes <= self.bytes_max()).then_some((bytes, end + 1))
    }

    /// Decides how to continue with `data`. What is not a complete line is handled here.
    #[cold]
    #[inline(never)]
    fn next(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Next {
        if self.handler.is_raw() {
            return self.hand_over_raw(transport, data);
        }
        match self.find(data) {
            Found::Line { bytes, next } => Next::Line { bytes, next },
            Found::TooLong { next } => {
                self.handler.line_too_long(transport);
                Next::Done(next)
            }
            Found::Skipped { next: 0 } => Next::Wait,
            Found::Skipped { next } => Next::Done(next),
            Found::Partial => {
                raise_input_bytes_max(transport, data.len(), self.window_bytes_max());
                Next::Wait
            }
        }
    }

    /// Passes raw data to the handler, which may wait for more of it.
    fn hand_over_raw(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Next {
        self.scan = Scan::Line(0);
        match self.handler.raw_data_received(transport, data) {
            0 if self.handler.is_raw() => Next::Wait,
            count => Next::Done(count),
        }
    }
}

/// Returns the position of the first line feed, which is expected to be near. Searches with the instructions that every
/// processor of the target has, as that needs no call; the widest that this processor has would cost two or three
/// calls. `benches/line_search.rs` compares the two.
#[inline]
fn find_near(data: &[u8]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    if let Some(searcher) = memchr::arch::x86_64::sse2::memchr::One::new(b'\n') {
        return searcher.find(data);
    }
    memchr(b'\n', data)
}

impl<H: LineHandler> Protocol for LineReceiver<H> {
    pass_on_to!(handler);

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let mut consumed: usize = 0;
        let mut search = self.search();
        while consumed < data.len() {
            let rest = &data[consumed..];
            let line = if self.handler.is_raw() { None } else { self.next_quickly(rest, &mut search) };
            let (bytes, next) = match line {
                Some(line) => line,
                None => {
                    let next = self.next(transport, rest);
                    search = self.search();
                    match next {
                        Next::Line { bytes, next } => (bytes, next),
                        Next::Done(count) => {
                            // If this is more than there was, the loop treats it as an error.
                            consumed = consumed.saturating_add(count);
                            if !transport.is_reading() {
                                break;
                            }
                            continue;
                        }
                        Next::Wait => break,
                    }
                }
            };
            self.handler.line_received(transport, &rest[..bytes]);
            consumed += next;
            if consumed < data.len() && !transport.is_reading() {
                break;
            }
        }
        consumed
    }

    /// Passes on nothing of a line that is too long.
    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        match self.scan {
            Scan::Line(_) => self.handler.eof_received(transport, rest),
            Scan::TooLong => self.handler.eof_received(transport, &[]),
        }
    }
}

/// Writes a line and CRLF, which receivers of either line ending accept. The caller must make sure that the line
/// contains no line feed.
///
/// Allocates nothing: both are gathered with the other writes of the callback.
#[inline]
pub fn send_line(transport: &mut Transport<'_>, line: &[u8]) {
    transport.write(line);
    transport.write(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl LineHandler for Nobody {
        fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
    }

    #[test]
    fn f1_a_line_of_a_million_single_bytes_is_looked_at_once() {
        let million = 1_000_000;
        let mut lines = LineReceiver::new(Nobody).line_bytes_max(million);
        let data = [vec![b'x'; million], b"\n".to_vec()].concat();
        let mut looked_at = 0;
        for end in 1..=million {
            let Scan::Line(scanned) = lines.scan else { panic!("too long") };
            looked_at += end - scanned;
            assert!(looked_at <= million, "{looked_at} bytes looked at, and {end} are there");
            assert_eq!(lines.find(&data[..end]), Found::Partial);
        }
        assert_eq!(lines.find(&data), Found::Line { bytes: million, next: million + 1 });
    }
}
