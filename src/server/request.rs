//! One request: a connection, or a datagram and what is answered to it.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

use switchboard::{Address, BlockingStream, Detached, IntoProtocol, Protocol};

/// So much output is gathered before it is sent.
const OUTPUT_BYTES: usize = 8 * 1024;

/// What goes into one datagram over IPv4, and so into an answer.
pub(super) const ANSWER_BYTES_MAX: usize = 65_507;

/// Makes the protocol of a connection that goes back to the loop, there.
pub(super) type GiveBack = Box<dyn FnOnce() -> Box<dyn Protocol> + Send>;

/// A request, for its [`RequestHandler`](super::RequestHandler): `BufRead` for what the client sends, `Write` for what it
/// is answered.
///
/// Of a connection, reading waits for the client; what was written before is sent first, so nobody waits for what still
/// stands in a buffer. Beside that, output is gathered and goes out with [`flush`](Write::flush) and at the end. Once the
/// request's time is up ([`Requests::request_timeout`](super::Requests::request_timeout)) reading and writing fail with
/// `TimedOut`.
///
/// Of a datagram, reading gives its bytes and then the end, and what is written becomes one datagram in answer, of 65,507
/// bytes at most. Where nothing is written, nothing is answered; but an empty datagram is answered by an empty one, which
/// is what an echo writes.
pub struct Request {
    client: Address,
    /// `None`: it has none.
    deadline: Option<Instant>,
    /// How long one call on the socket may wait.
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
    /// It is over.
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

    /// The client's address, as accept, or the datagram, gave it.
    pub fn peer_addr(&self) -> &Address {
        &self.client
    }

    /// The datagram, if it is one.
    pub fn datagram(&self) -> Option<&[u8]> {
        match &self.channel {
            Channel::Datagram { data, .. } => Some(data.get_ref()),
            _ => None,
        }
    }

    /// The connection, if it is one, for its options and its filters. What is written to it directly goes out before what is gathered.
    pub fn stream(&self) -> Option<&BlockingStream> {
        match &self.channel {
            Channel::Stream { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// How much time is left for it; `None` if it may take for ever.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Sets how long each read and write waits for the client, as `timeout` of Python's `StreamRequestHandler` does; `None`,
    /// the default, as long as there is time for the request. One that waits for longer fails with `TimedOut`, and the handler
    /// may still tell the client why it ends.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Lets the connection go back to the loop when the handler has finished without an error, instead of being closed:
    /// to the protocol that `make` makes, on the loop's thread, with all that was not read. Does nothing of a datagram.
    pub fn give_back<P: IntoProtocol>(&mut self, make: impl FnOnce() -> P + Send + 'static) {
        self.give_back = Some(Box::new(move || make().into_protocol()));
    }

    /// A timeout for the next call on the socket; an error once there is no time left.
    fn arm(&self) -> io::Result<()> {
        let left = self.time_left();
        match &self.channel {
            _ if left == Some(Duration::ZERO) => Err(timed_out()),
            Channel::Stream { stream, .. } => stream.set_timeout(left.into_iter().chain(self.timeout).min()),
            _ => Ok(()),
        }
    }

    /// The connection, with what was not read; to whom it goes.
    pub(super) fn into_connection(mut self) -> Option<(BlockingStream, Option<GiveBack>)> {
        match std::mem::replace(&mut self.channel, Channel::Taken) {
            Channel::Stream { stream, .. } => Some((stream, self.give_back.take())),
            _ => None,
        }
    }

    /// What is answered to a datagram.
    pub(super) fn into_answer(mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.channel, Channel::Taken) {
            Channel::Datagram { answer, data } => answer_to(data.get_ref(), answer),
            _ => None,
        }
    }
}

/// What a handler has written, as an answer to its datagram. `write_all` of nothing writes nothing, so an echo of an empty
/// datagram cannot be told from silence: that one is answered.
pub(super) fn answer_to(data: &[u8], written: Vec<u8>) -> Option<Vec<u8>> {
    (!written.is_empty() || data.is_empty()).then_some(written)
}

/// Where nobody has taken the connection the handler has failed or panicked: nobody must take half an answer for the whole.
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
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the answer does not go into one datagram"));
            }
            Channel::Datagram { answer, .. } => answer.extend_from_slice(data),
            Channel::Taken => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(data.len())
    }

    /// Sends what was written; a datagram's answer waits for the end all the same.
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

/// A socket whose time is up says would-block or, on Windows, what else says that the connection itself has timed out.
fn late(error: io::Error, on_windows: bool) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => timed_out(),
        io::ErrorKind::TimedOut if on_windows => timed_out(),
        _ => error,
    }
}

pub(super) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time for this request is up")
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
            // There it is the connection that has timed out.
            (io::ErrorKind::TimedOut, false, false),
            (io::ErrorKind::ConnectionReset, true, false),
        ] {
            assert_eq!(late(kind.into(), on_windows).to_string() == text, is_up, "{kind} {on_windows}");
        }
    }
}
