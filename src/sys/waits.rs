//! How long one call on a blocking stream waits if it makes several calls on its socket.

use std::io;
use std::time::{Duration, Instant};

use super::{Clock, Stream};

/// One call on a blocking stream, which may read and write several times: in total it waits no longer than a single
/// read or write of its socket may.
pub(crate) struct Waits {
    /// When it first waited.
    began: Option<Instant>,
    /// The socket's own timeouts, if others were set in their place.
    own: Option<[Option<Duration>; 2]>,
}

impl Waits {
    /// Calls `code` with a stream, within the time that one of its reads or writes may take.
    pub(crate) fn within<R>(stream: &mut Stream, code: impl FnOnce(&mut Stream, &mut Waits) -> R) -> R {
        let mut waits = Waits { began: None, own: None };
        let answer = code(stream, &mut waits);
        if let Some(own) = waits.own {
            // It was possible before. If it no longer is, the next call on the socket reports that.
            let _ = stream.set_timeouts(own);
        }
        answer
    }

    /// Returns the current time, for callers outside a loop.
    pub(crate) fn now(&self) -> Instant {
        Clock::System.now()
    }

    pub(crate) fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
        self.before(stream)?;
        stream.read(buffer)
    }

    pub(crate) fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        self.before(stream)?;
        stream.write(bytes)
    }

    /// The first call waits for as long as the socket does, the following ones for what is left of that.
    fn before(&mut self, stream: &Stream) -> io::Result<()> {
        let Some(began) = self.began else {
            self.began = Some(self.now());
            return Ok(());
        };
        let own = match self.own {
            Some(own) => own,
            None => stream.timeouts()?,
        };
        if own == [None, None] {
            return Ok(());
        }
        let passed = self.now() - began;
        let left = own.map(|timeout| Some(timeout?.saturating_sub(passed)));
        // Less than a microsecond would count as no timeout at all, which waits forever.
        if left.into_iter().flatten().any(|left| left < Duration::from_micros(1)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.own = Some(own);
        stream.set_timeouts(left)
    }
}
