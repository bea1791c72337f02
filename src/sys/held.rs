//! A connected stream outside of any loop.

use std::fmt;

use super::Stream;

/// A stream that belongs to no loop, such as that of a connection on its way to one. Dropping it closes it, with a
/// reset if its peer may have received half of an answer, which it must not take for the whole (rule X5).
pub(crate) struct Held {
    /// `None` once it was taken out.
    stream: Option<Stream>,
    /// Something was written that was not sent.
    is_short: bool,
}

impl Held {
    pub(crate) fn new(stream: Stream, is_short: bool) -> Held {
        Held { stream: Some(stream), is_short }
    }

    pub(crate) fn get(&self) -> &Stream {
        self.stream.as_ref().expect("present until it is taken out")
    }

    pub(crate) fn get_mut(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("present until it is taken out")
    }

    /// Sets whether something was written that was not sent.
    pub(crate) fn set_short(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    pub(crate) fn take(mut self) -> Stream {
        self.stream.take().expect("it is taken out once")
    }

    /// Replaces the stream with what `with` makes of it.
    pub(crate) fn replace(&mut self, with: impl FnOnce(Stream) -> Stream) {
        self.stream = self.stream.take().map(with);
    }

    /// Closes it with a reset.
    pub(crate) fn reset(self) {
        self.take().reset();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A panic, too, may have left an answer half written.
        if self.is_short || std::thread::panicking() {
            if let Some(stream) = self.stream.take() {
                stream.reset();
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("is_short", &self.is_short).finish_non_exhaustive()
    }
}
