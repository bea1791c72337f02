//! A non-blocking connection over TLS.

use std::io::{self, Read, Write};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustls::{ClientConnection, HandshakeKind};

use crate::options::{Options, Workload};
use crate::result::{Doing, Failure, Result};
use crate::turn::Deadline;

/// What a read does with the data: it verifies it.
pub type Verify<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Buffers that all clients share.
pub struct Buffers {
    came: Vec<u8>,
    plain: Vec<u8>,
}

impl Buffers {
    pub fn new() -> Self {
        Self { came: vec![0; 64 * 1024], plain: vec![0; 64 * 1024] }
    }
}

pub struct Client {
    socket: OwnedFd,
    tls: ClientConnection,
    nth: usize,
    /// The server may close: it has sent `close_notify`, or need not.
    has_ended: bool,
}

impl Client {
    /// Connects, and sends the first flight.
    pub fn connect(options: &Options, nth: usize, deadline: Deadline) -> Result<Self> {
        let socket = options.address.connect(nth, deadline)?;
        let name = "localhost".try_into().doing(|| "the name".into())?;
        let tls = ClientConnection::new(options.config.clone(), name).doing(|| "a client".into())?;
        let mut client = Self { socket, tls, nth, has_ended: options.cut_ends };
        client.flush()?;
        Ok(client)
    }

    pub fn is_shaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Checks that its handshake was of the kind that the workload measures.
    pub fn check_kind(&self, workload: Workload) -> Result<()> {
        let wanted = if workload == Workload::Resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        match self.tls.handshake_kind() {
            Some(kind) if kind == wanted => Ok(()),
            kind => Err(Failure::new(format!("the handshake of connection {} is {kind:?}, not {wanted:?}", self.nth))),
        }
    }

    /// Takes as much of this as there is room for, which the next `flush` sends.
    pub fn write(&mut self, data: &[u8]) -> Result<usize> {
        self.tls.writer().write(data).doing(|| format!("writing to connection {}", self.nth))
    }

    /// Sends. Returns whether everything was sent.
    pub fn flush(&mut self) -> Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Sending(self.socket.as_fd())) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).doing(|| format!("sending on connection {}", self.nth)),
            }
        }
        Ok(true)
    }

    /// Reads what there is. Returns `false` once the server has closed, after `close_notify`.
    pub fn read(&mut self, buffers: &mut Buffers, verify: Verify<'_>) -> Result<bool> {
        let nth = self.nth;
        loop {
            let count = match recv(&self.socket, &mut buffers.came[..], RecvFlags::empty()) {
                Ok((0, _)) if self.has_ended => return Ok(false),
                Ok((0, _)) => return Err(Failure::new(format!("connection {nth} was closed without close_notify"))),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).doing(|| format!("reading from connection {nth}")),
            };
            let mut left = &buffers.came[..count];
            while !left.is_empty() {
                self.tls.read_tls(&mut left).doing(|| format!("what came on connection {nth}"))?;
                self.tls.process_new_packets().doing(|| format!("TLS on connection {nth}"))?;
                self.read_plain(&mut buffers.plain, verify)?;
            }
            // A close in the same packet is reported by the same event.
            if count < buffers.came.len() && !self.has_ended {
                return Ok(true);
            }
        }
    }

    fn read_plain(&mut self, plain: &mut [u8], verify: Verify<'_>) -> Result<()> {
        loop {
            match self.tls.reader().read(plain) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    verify(&plain[..count])?;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).doing(|| format!("reading from connection {}", self.nth)),
            }
            return Ok(());
        }
    }

    /// Sends `close_notify`, and ends this half.
    pub fn end(&mut self) -> Result<()> {
        self.tls.send_close_notify();
        if !self.flush()? {
            return Err(Failure::new(format!("no room for the end of connection {}", self.nth)));
        }
        shutdown(&self.socket, Shutdown::Write).doing(|| format!("ending connection {}", self.nth))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Sending<'a>(BorrowedFd<'a>);

impl Write for Sending<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, data, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
