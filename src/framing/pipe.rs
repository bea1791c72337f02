//! A stream in memory, for code that requires a stream.

use std::io::{self, Read, Write};

use switchboard::Transport;

/// Consumed input is freed once there is more of it than this, and more than there is unread.
const KEPT_BYTES: usize = 4096;

/// A stream in memory, for a crate that does its own reading and writing on a `Read + Write`. A protocol puts in what
/// it receives, lets the crate run, and sends what the crate has written.
///
/// A read returns what was put in, and would block if there is nothing. Everything written is kept until it is
/// [sent](Pipe::send). Neither is bounded here: the crate must bound what it reads before a message is complete, and
/// the connection's marks hold back a peer that does not read its answers.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// use switchboard::framing::Pipe;
/// use switchboard::{Protocol, Transport};
///
/// /// Stands in for a crate that owns its stream. It says hello to each name.
/// struct Greeter {
///     stream: BufReader<Pipe>,
///     name: String,
/// }
///
/// impl Greeter {
///     /// Runs until it would block.
///     fn go_on(&mut self) -> std::io::Result<()> {
///         while self.stream.read_line(&mut self.name)? > 0 {
///             write!(self.stream.get_mut(), "hello, {}", self.name)?;
///             self.name.clear();
///         }
///         Ok(())
///     }
/// }
///
/// impl Protocol for Greeter {
///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
///         self.stream.get_mut().put(data);
///         match self.go_on() {
///             Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => transport.close_for(error),
///             _ => self.stream.get_mut().send(transport),
///         }
///         data.len()
///     }
/// }
/// # #[cfg(feature = "testing")]
/// # {
/// # let new = || Greeter { stream: BufReader::new(Pipe::new()), name: String::new() };
/// # let mut harness = switchboard::testing::Harness::new(new());
/// # harness.feed(b"Ada\nGra");
/// # harness.feed(b"ce\n");
/// # assert_eq!(harness.take_written(), b"hello, Ada\nhello, Grace\n");
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Pipe {
    input: Vec<u8>,
    /// How many bytes of it were read.
    read_bytes: usize,
    output: Vec<u8>,
    has_ended: bool,
}

impl Pipe {
    /// Creates an empty pipe.
    pub fn new() -> Pipe {
        Pipe::default()
    }

    /// Adds received data, to be read.
    pub fn put(&mut self, data: &[u8]) {
        self.input.extend_from_slice(data);
    }

    /// Marks the end of the input: reads return 0 once everything that was put in was read.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// Returns how many bytes were put in and not read yet.
    pub fn unread_bytes(&self) -> usize {
        self.input.len() - self.read_bytes
    }

    /// Writes everything that was written to the pipe to the connection.
    pub fn send(&mut self, transport: &mut Transport<'_>) {
        if !self.output.is_empty() {
            transport.write_owned(std::mem::take(&mut self.output));
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = &self.input[self.read_bytes..];
        if unread.is_empty() && !self.has_ended && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        self.read_bytes += count;
        if self.unread_bytes() == 0 {
            self.input.clear();
            self.input.shrink_to(KEPT_BYTES);
            self.read_bytes = 0;
        } else if self.read_bytes > KEPT_BYTES.max(self.unread_bytes()) {
            self.input.drain(..self.read_bytes);
            self.read_bytes = 0;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(data);
        Ok(data.len())
    }

    /// Does nothing: written data is sent by [`send`](Pipe::send).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the input is split and read, it arrives whole and in order, and little of what was read is kept.
    #[test]
    fn pipe_gives_what_was_put_in_and_keeps_little_of_what_was_read() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        for (put, read) in [(1, 7), (1000, 999), (65_536, 100), (100, 65_536)] {
            let (mut pipe, mut got) = (Pipe::new(), Vec::new());
            let mut buffer = vec![0; read];
            for piece in bytes.chunks(put) {
                pipe.put(piece);
                let count = pipe.read(&mut buffer).unwrap();
                got.extend_from_slice(&buffer[..count]);
                let kept = pipe.input.len() - pipe.unread_bytes();
                assert!(kept <= KEPT_BYTES.max(pipe.unread_bytes()), "{kept} bytes kept that were read");
            }
            while pipe.unread_bytes() > 0 {
                let count = pipe.read(&mut buffer).unwrap();
                got.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(got, bytes);
            assert_eq!(pipe.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(pipe.read(&mut []).unwrap(), 0);
            pipe.put(b"last");
            pipe.end();
            assert_eq!(pipe.read(&mut [0; 9]).unwrap(), 4);
            assert_eq!(pipe.read(&mut buffer).unwrap(), 0);
            assert!(pipe.input.capacity() <= KEPT_BYTES);
        }
    }
}
