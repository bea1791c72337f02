//! A connected socket outside of any loop.

use std::fmt;

use super::Stream;

/// A socket that no loop has, as a connection on its way holds it. Dropped, it closes: by a reset where its peer may
/// have got half of an answer, which it must not take for the whole (rule X5).
pub(crate) struct Held<S: Into<Stream>> {
    /// None once it was taken out.
    socket: Option<S>,
    /// Something was written that has not gone out.
    is_short: bool,
}

impl<S: Into<Stream>> Held<S> {
    pub(crate) fn new(socket: S, is_short: bool) -> Held<S> {
        Held { socket: Some(socket), is_short }
    }

    pub(crate) fn get(&self) -> &S {
        self.socket.as_ref().expect("it is there until it is taken out")
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        self.socket.as_mut().expect("it is there until it is taken out")
    }

    /// Whether something that was written has not gone out, from here on.
    pub(crate) fn set_short(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    pub(crate) fn take(mut self) -> S {
        self.socket.take().expect("it is taken out once")
    }

    /// Makes another one of it.
    pub(crate) fn replace(&mut self, with: impl FnOnce(S) -> S) {
        self.socket = self.socket.take().map(with);
    }

    /// The same for another type of the socket.
    pub(crate) fn into_stream(self) -> Held<Stream> {
        let is_short = self.is_short;
        Held::new(self.take().into(), is_short)
    }

    /// Closes it with a reset.
    pub(crate) fn reset(self) {
        self.take().into().reset();
    }
}

impl<S: Into<Stream>> Drop for Held<S> {
    fn drop(&mut self) {
        // A panic may have left an answer half written as well.
        if let Some(socket) = self.socket.take().filter(|_| self.is_short || std::thread::panicking()) {
            socket.into().reset();
        }
    }
}

impl<S: Into<Stream>> fmt::Debug for Held<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("is_short", &self.is_short).finish_non_exhaustive()
    }
}
