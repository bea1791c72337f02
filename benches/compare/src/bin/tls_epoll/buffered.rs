//! rustls' buffered connections.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{Error, ServerConfig, ServerConnection};

use crate::{Outcome, Scratch, Session};

/// How much is taken out of rustls at once: as much as a record has.
const PLAIN_BYTES: usize = 16 * 1024;

pub struct Buffered(ServerConnection);

impl Session for Buffered {
    fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let mut tls = ServerConnection::new(config)?;
        // All data of one read is echoed: the read buffer bounds it.
        tls.set_buffer_limit(None);
        Ok(Self(tls))
    }

    fn put_back(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn echo(&mut self, came: &mut [u8], scratch: &mut Scratch) -> Outcome {
        scratch.plain.resize(PLAIN_BYTES, 0);
        let (mut left, mut outcome) = (&*came, Outcome::GoesOn);
        while !left.is_empty() && outcome == Outcome::GoesOn {
            outcome = match self.0.read_tls(&mut left).map(|_| self.0.process_new_packets()) {
                Ok(Ok(_)) => self.echo_plain(scratch),
                _ => Outcome::Ends,
            };
        }
        if outcome == Outcome::Ends {
            self.0.send_close_notify();
        }
        while self.0.wants_write() {
            let mut out = Out(scratch);
            if self.0.write_tls(&mut out).is_err() {
                return Outcome::Ends;
            }
        }
        outcome
    }
}

impl Buffered {
    fn echo_plain(&mut self, scratch: &mut Scratch) -> Outcome {
        loop {
            match self.0.reader().read(&mut scratch.plain) {
                Ok(0) => return Outcome::Ends,
                Ok(count) => {
                    if self.0.writer().write_all(&scratch.plain[..count]).is_err() {
                        return Outcome::Ends;
                    }
                }
                // There is no more for now.
                Err(_) => return Outcome::GoesOn,
            }
        }
    }
}

/// Gathers the data to be sent.
struct Out<'a>(&'a mut Scratch);

impl Write for Out<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.room(data.len())[..data.len()].copy_from_slice(data);
        self.0.length += data.len();
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
