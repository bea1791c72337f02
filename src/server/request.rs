//! A request: a connection, or a datagram and the answer to it.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

use switchboard::{Address, BlockingStream, Detached, IntoProtocol, Protocol};

/// Output is sent once this much is buffered.
const OUTPUT_BYTES: usize = 8 * 1024;

/// The maximum size of a datagram over IPv4, and so of an answer.
pub(super) const ANSWER_BYTES_MAX: usize = 65_507;

/// Makes the protocol of a connection that is given back to the loop, on the loop's thread.
pub(super) type GiveBack = Box<dyn FnOnce() -> Box<dyn Protocol> + Send>;

/// A request, for its [`RequestHandler`](super::RequestHandler): `BufRead` for what the client sends, `Write` for the
/// answer.
///
/// For a connection, reading waits for the client. Buffered output is sent first, so that the client does not wait for
/// output that is still in the buffer. Otherwise output is buffered until [`flush`](Write::flush) or the end. Once the
/// request's time is up ([`Requests::request_timeout`](super::Requests::request_timeout)), reading and writing fail
/// with `TimedOut`.
///
/// For a datagram, reading returns its bytes and then the end. The output becomes one datagram, of at most 65,507
/// bytes. If nothing is written, no answer is sent; but an empty datagram is answered by an empty one, since that is
/// what an echo writes.
pub struct Request {
    client: Address,
    /// `None`: no deadline.
    deadline: Option<Instant>,
    /// The longest wait of one call on the socket.
    timeout: Option<Duration>,
    channel: Channel,
    give_back: Option<GiveBack>,
}

enum Channel {
    Stream {
        stream: BlockingStream,
        output: Vec<u8>,
    },
    Datagram {
        data: io::Cursor<Vec<u8>>,
        answer: Vec<u8>,
    },
    /// The request is over.
    Taken,
}

impl Request {
    pub(super) fn of_stream(stream: BlockingStream, client: Address, deadline: Option<Instant>) -> Request {
        let channel = Channel::Stream { stream, output: Vec::new() };
        Request { client, deadline, timeout: None, channel, give_back: None }
    }

    pub(super) fn of_datagram(data: Vec<u8>, client: Address, deadline: Option<Instant>) -> Request {
        let channel = Channel::Datagram { data: io::Cursor::new(data), answer: Vec::new() };
        Request { client, deadline, timeout: None, channel, give_back: None }
    }

    /// Returns the client's address, as reported by accept or with the datagram.
    pub fn peer_addr(&self) -> &Address {
        &self.client
    }

    /// Returns the datagram, if the request is one.
    pub fn datagram(&self) -> Option<&[u8]> {
        match &self.channel {
            Channel::Datagram { data, .. } => Some(data.get_ref()),
            _ => None,
        }
    }

    /// Returns the connection, if the request is one, for its options and its filters. What is written to it directly
    /// is sent before buffered output.
    pub fn stream(&self) -> Option<&BlockingStream> {
        match &self.channel {
            Channel::Stream { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// Returns how much time is left for the request; `None` if it has no limit.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Sets how long each read and write waits for the client, as `timeout` of Python's `StreamRequestHandler` does.
    /// With `None`, the default, that is as long as there is time for the request. A call that takes longer fails with
    /// `TimedOut`, and the handler can still tell the client why it ends.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Gives the connection back to the loop when the handler finishes without an error, instead of closing it. It goes
    /// to the protocol that `make` makes on the loop's thread, with all unread input. Does nothing for a datagram.
    pub fn give_back<P: IntoProtocol>(&mut self, make: impl FnOnce() -> P + Send + 'static) {
        self.give_back = Some(Box::new(move || make().into_protocol()));
    }

    /// Sets the timeout of the next call on the socket; returns an error if no time is left.
    fn arm(&self) -> io::Result<()> {
        let left = self.time_left();
        match &self.channel {
            _ if left == Some(Duration::ZERO) => Err(timed_out()),
            Channel::Stream { stream, .. } => stream.set_timeout(left.into_iter().chain(self.timeout).min()),
            _ => Ok(()),
        }
    }

    /// Returns the connection, with its unread input, and the protocol to give it back to.
    pub(super) fn into_connection(mut self) -> Option<(BlockingStream, Option<GiveBack>)> {
        match std::mem::replace(&mut self.channel, Channel::Taken) {
            Channel::Stream { stream, .. } => Some((stream, self.give_back.take())),
            _ => None,
        }
    }

    /// Returns the answer to a datagram.
    pub(super) fn into_answer(mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.channel, Channel::Taken) {
            Channel::Datagram { answer, data } => answer_to(data.get_ref(), answer),
            _ => None,
        }
    }
}

/// Returns what a handler has written, as the answer to its datagram. `write_all` of nothing writes nothing, so an echo
/// of an empty datagram looks like no answer: an empty datagram is always answered.
pub(super) fn answer_to(data: &[u8], written: Vec<u8>) -> Option<Vec<u8>> {
    (!written.is_empty() || data.is_empty()).then_some(written)
}

/// If the connection was not taken, the handler has failed or panicked. It is reset, so that the client does not take
/// half an answer for a whole one.
impl Drop for Request {
    fn drop(&mut self) {
        if let Channel::Stream { stream, .. } = std::mem::replace(&mut self.channel, Channel::Taken) {
            Detached::from(stream).abort();
        }
    }
}

impl Read for Request {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Request {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Channel::Stream { stream, .. } = &self.channel {
            if stream.unread().is_empty() {
                self.flush()?;
                self.arm()?;
            }
        }
        match &mut self.channel {
            Channel::Stream { stream, .. } => stream.fill_buf().map_err(|error| late(error, cfg!(windows))),
            Channel::Datagram { data, .. } => data.fill_buf(),
            Channel::Taken => Ok(&[]),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.channel {
            Channel::Stream { stream, .. } => stream.consume(count),
            Channel::Datagram { data, .. } => data.consume(count),
            Channel::Taken => {}
        }
    }
}

impl Write for Request {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.channel {
            Channel::Stream { output, .. } => {
                output.extend_from_slice(data);
                if output.len() >= OUTPUT_BYTES {
                    self.flush()?;
                }
            }
            Channel::Datagram { answer, .. } if answer.len() + data.len() > ANSWER_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the answer does not fit in a datagram"));
            }
            Channel::Datagram { answer, .. } => answer.extend_from_slice(data),
            Channel::Taken => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(data.len())
    }

    /// Sends the buffered output; the answer to a datagram is still sent only at the end.
    fn flush(&mut self) -> io::Result<()> {
        let Channel::Stream { output, .. } = &mut self.channel else { return Ok(()) };
        let gathered = std::mem::take(output);
        let mut left = gathered.as_slice();
        while !left.is_empty() {
            self.arm()?;
            let Channel::Stream { stream, .. } = &mut self.channel else { return Ok(()) };
            match stream.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(late(error, cfg!(windows))),
            }
        }
        Ok(())
    }
}

/// When a socket times out, the system reports would-block or, on Windows, the same error as for a connection that has
/// timed out.
fn late(error: io::Error, on_windows: bool) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => timed_out(),
        io::ErrorKind::TimedOut if on_windows => timed_out(),
        _ => error,
    }
}

pub(super) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the request timed out")
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_hear_that_their_time_is_up_whatever_the_system_calls_that() {
        let text = timed_out().to_string();
        for (kind, on_windows, is_up) in [
            (io::ErrorKind::WouldBlock, false, true),
            (io::ErrorKind::WouldBlock, true, true),
            (io::ErrorKind::TimedOut, true, true),
            // Here it is the connection that has timed out.
            (io::ErrorKind::TimedOut, false, false),
            (io::ErrorKind::ConnectionReset, true, false),
        ] {
            assert_eq!(late(kind.into(), on_windows).to_string() == text, is_up, "{kind} {on_windows}");
        }
    }
}
