//! Lines.

use memchr::memchr;

use super::{FRAME_BYTES_MAX, TelnetCommand, raise_input_bytes_max};
use switchboard::{Limit, Protocol, Transport};

/// After a line of so many bytes, the next one's end is not taken to be near.
const NEAR_BYTES: usize = 256;

/// What [`LineReceiver`] makes a [`Protocol`] from: only `line_received` must be written.
pub trait LineHandler: 'static {
    /// A line has come, without what ends it.
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]);

    /// Whether what comes next is not lines but raw data, as after the header of a message. Asked before each line and
    /// each piece of raw data, so that it changes in the middle of what was read, there and back.
    ///
    /// A handler answers by what it knows already, such as how much of a body is missing, rather than by a flag of its
    /// own.
    ///
    /// ```
    /// use switchboard::Transport;
    /// use switchboard::framing::LineHandler;
    ///
    /// /// Each line is a number, and so many raw bytes follow it.
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
    ///         taken // what is left is lines again
    ///     }
    /// }
    /// ```
    fn is_raw(&self) -> bool {
        false
    }

    /// Raw data has come; answers how many bytes of it were consumed, as
    /// [`Protocol::data_received`](crate::Protocol::data_received) does. What is left is looked at as lines where the
    /// handler [`is_raw`](LineHandler::is_raw) no longer. The default implementation consumes everything.
    fn raw_data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let _ = transport;
        data.len()
    }

    /// How many bytes a line may have without what ends it; `set` is the receiver's
    /// [`line_bytes_max`](LineReceiver::line_bytes_max), which the default implementation returns. Asked before each line,
    /// as [`is_raw`](LineHandler::is_raw) is, and again while only the beginning of one is there: for protocols that allow
    /// commands less than text.
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

    /// A line is longer than [`line_bytes_max`](LineHandler::line_bytes_max) allows; told once for each, as
    /// soon as that is sure. The default implementation aborts the connection with [`Limit::LineBytes`] as the reason
    /// (rule [F2](crate::guide::rules#f2)). Where it does not, the line is skipped, and the next one received.
    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        transport.abort_over_limit(Limit::LineBytes);
    }

    /// Under [`Telnet`](crate::framing::Telnet), a command has come, in its place among the lines. Does nothing as it is
    /// given here.
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
/// Lines end with CRLF or LF unless told otherwise, and are bytes: any but the line ending can be in them. An
/// unfinished line at the peer's end of stream is what `eof_received` is handed as its rest, without a `line_received`.
#[derive(Debug)]
pub struct LineReceiver<H> {
    handler: H,
    ending: LineEnding,
    line_bytes_max: usize,
    scan: Scan,
}

/// What is known of what comes next.
#[derive(Clone, Copy, Debug)]
enum Scan {
    /// A line, of which so many bytes were looked at in vain.
    Line(usize),
    /// The rest of a line that is too long already.
    TooLong,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A line of `bytes`; the next one begins at `next`.
    Line { bytes: usize, next: usize },
    /// A line that is too long.
    TooLong { next: usize },
    /// More of a line that was found too long before.
    Skipped { next: usize },
    /// The beginning of a line.
    Partial,
}

/// What `data_received` goes on with.
enum Next {
    /// A line of `bytes`; what follows it begins at `next`.
    Line { bytes: usize, next: usize },
    /// So many bytes are done with.
    Done(usize),
    /// Nothing, until more has come.
    Wait,
}

/// How the end of a line is looked for.
#[derive(Clone, Copy)]
enum Search {
    /// It is taken to be near.
    Near,
    /// It is not.
    Far,
    /// With regard to what is known of the line already, and to what ends it.
    Careful,
}

impl<H: LineHandler> LineReceiver<H> {
    /// A protocol that hands the lines it receives to `handler`.
    pub fn new(handler: H) -> LineReceiver<H> {
        LineReceiver { handler, ending: LineEnding::default(), line_bytes_max: FRAME_BYTES_MAX, scan: Scan::Line(0) }
    }

    /// Sets what ends a line.
    #[must_use]
    pub fn line_ending(mut self, ending: LineEnding) -> LineReceiver<H> {
        self.ending = ending;
        self
    }

    /// Sets how many bytes a line may have without what ends it, unless the handler
    /// [says otherwise](LineHandler::line_bytes_max). Default 16,384.
    #[must_use]
    pub fn line_bytes_max(mut self, bytes: usize) -> LineReceiver<H> {
        self.line_bytes_max = bytes;
        self
    }

    pub(super) fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Whether a line is skipped that is too long.
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

    /// A line is too long. Where its end lies farther than a line may reach, it counts as not there yet, so that cuts
    /// make no difference.
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

    /// Skips what is left of a line that is too long.
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

    /// How much of a line without an end can be skipped: not the carriage return that may be half of what ends it.
    fn skipped(&self, data: &[u8]) -> usize {
        data.len() - usize::from(self.ending == LineEnding::CrLf && data.ends_with(b"\r"))
    }

    /// Where the line feed is that ends the line, if it is there.
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

    /// How many bytes the next line may have.
    #[inline]
    fn bytes_max(&self) -> usize {
        self.handler.line_bytes_max(self.line_bytes_max)
    }

    /// A line of the maximum and its ending.
    fn window_bytes_max(&self) -> usize {
        self.bytes_max().saturating_add(if self.ending == LineEnding::Lf { 1 } else { 2 })
    }

    /// How the end of what comes next is looked for.
    #[inline]
    fn search(&self) -> Search {
        match (self.scan, self.ending) {
            (Scan::Line(0), LineEnding::Either) => Search::Near,
            _ => Search::Careful,
        }
    }

    /// How many bytes the line has that `data` begins with, and where the next one begins, if it is all there and neither
    /// too long nor looked for with care: the common case of [`next`](LineReceiver::next), in line and without a state.
    #[inline]
    fn next_quickly(&mut self, data: &[u8], search: &mut Search) -> Option<(usize, usize)> {
        let found = match search {
            Search::Near => find_near(data),
            Search::Far => memchr(b'\n', data),
            Search::Careful => return None,
        };
        let Some(end) = found else {
            // All of it was looked at, and need not be again.
            let scanned = data.len();
            self.scan = Scan::Line(scanned);
            return None;
        };
        *search = if end < NEAR_BYTES { Search::Near } else { Search::Far };
        let bytes = end - usize::from(data[..end].ends_with(b"\r"));
        (bytes <= self.bytes_max()).then_some((bytes, end + 1))
    }

    /// What is to be done with what `data` begins with. What needs no line is done.
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

    /// Hands raw data over, whose handler may wait for more of it.
    fn hand_over_raw(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Next {
        self.scan = Scan::Line(0);
        match self.handler.raw_data_received(transport, data) {
            0 if self.handler.is_raw() => Next::Wait,
            count => Next::Done(count),
        }
    }
}

/// Where the first line feed is, which is taken to be near: looked for with what every processor of the target has, since
/// that needs no call. The widest that this one has costs two or three. `benches/line_search.rs` compares the two.
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
                            // More than there was is for the loop to judge.
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

    /// Of a line that is too long nothing is passed on.
    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        match self.scan {
            Scan::Line(_) => self.handler.eof_received(transport, rest),
            Scan::TooLong => self.handler.eof_received(transport, &[]),
        }
    }
}

/// Writes a line and CRLF, which receivers of either line ending take. That the line contains no line feed is up to the
/// caller.
///
/// Allocates nothing: both are gathered with what else its callback writes.
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
