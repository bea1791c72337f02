//! Sockets that were handed over to this process, by systemd's protocol.

use std::env;
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::process;

use listenfd::ListenFd;

use super::environment::{self, invalid};
use switchboard::Listen;

/// The name under which the process that is being replaced hands over the stream on which it waits. No endpoint has
/// this name.
pub(super) const PREDECESSOR: &str = "%predecessor";

#[derive(Debug)]
pub(super) struct HandedOver {
    listeners: Vec<(String, Listen)>,
    udp: Vec<(String, UdpSocket)>,
    predecessor: Option<UnixStream>,
}

impl HandedOver {
    pub(super) fn from_env() -> io::Result<HandedOver> {
        let mut handed_over = HandedOver { listeners: Vec::new(), udp: Vec::new(), predecessor: None };
        // Read first: the next call removes some of the variables, and does not say what is wrong with them.
        let names = environment::names(&|name| env::var_os(name), process::id())?;
        let mut descriptors = ListenFd::from_env();
        if descriptors.len() != names.len() {
            return Err(invalid(format!("LISTEN_FDS is {}, but {} are there", names.len(), descriptors.len())));
        }
        for (index, name) in names.into_iter().enumerate() {
            handed_over.take(&mut descriptors, index, name)?;
        }
        Ok(handed_over)
    }

    fn take(&mut self, descriptors: &mut ListenFd, index: usize, name: String) -> io::Result<()> {
        let wrong = |what: &str| Err(invalid(format!("descriptor {index} of LISTEN_FDS, {name:?}, {what}")));
        if name == PREDECESSOR {
            // Without it, that process would never hear that this one is ready, and would kill it while it serves.
            match descriptors.take_custom(index, libc::AF_UNIX, libc::SOCK_STREAM, "stream") {
                Ok(stream) => self.predecessor = stream,
                Err(_) => return wrong("is not a Unix stream"),
            }
            return Ok(());
        }
        // Each of these leaves a descriptor of another type alone, and marks the one that it takes as close-on-exec.
        if let Ok(Some(listener)) = descriptors.take_tcp_listener(index) {
            if !listens(&listener)? {
                return wrong("is a TCP socket that does not listen: a socket unit must have Accept=no");
            }
            self.listeners.push((name, listener.into()));
        } else if let Ok(Some(listener)) = descriptors.take_unix_listener(index) {
            if !listens(&listener)? {
                return wrong("is a Unix socket that does not listen: a socket unit must have Accept=no");
            }
            self.listeners.push((name, listener.into()));
        } else if let Ok(Some(socket)) = descriptors.take_udp_socket(index) {
            self.udp.push((name, socket));
        } else {
            return wrong("is neither a TCP, nor a Unix stream, nor a UDP socket");
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let listeners = self.listeners.iter().map(|(name, _)| name.as_str());
        listeners.chain(self.udp.iter().map(|(name, _)| name.as_str()))
    }

    /// Takes the first listener of this name that has not been taken.
    pub(super) fn take_first(&mut self, name: &str) -> Option<Listen> {
        let index = self.listeners.iter().position(|(of, _)| of == name)?;
        Some(self.listeners.remove(index).1)
    }

    /// Takes all listeners of this name.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    pub(super) fn take_all(&mut self, name: &str) -> io::Result<Option<Listen>> {
        let first = self.take_first(name).ok_or_else(|| self.not_found())?;
        Ok(Some(std::iter::from_fn(|| self.take_first(name)).fold(first, Listen::and)))
    }

    pub(super) fn take_udp(&mut self, name: &str) -> Option<UdpSocket> {
        let index = self.udp.iter().position(|(of, _)| of == name)?;
        Some(self.udp.remove(index).1)
    }

    /// Returns the error for a name that has no listener.
    fn not_found(&self) -> io::Error {
        let names: Vec<_> = self.listeners.iter().map(|(name, _)| name).collect();
        let text = match names[..] {
            [] => "no listening socket was handed over to this process, or none is left".to_owned(),
            _ => format!("no listening socket of that name was handed over; there are {names:?}"),
        };
        io::Error::new(io::ErrorKind::NotFound, text)
    }

    /// The stream to the process that waits until this one is ready.
    pub(super) fn predecessor(self) -> Option<UnixStream> {
        self.predecessor
    }
}

/// Returns whether a socket listens; on systems that cannot tell, whether its address can be read.
fn listens(socket: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let socket = socket2::SockRef::from(socket);
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return socket.is_listener();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return socket.local_addr().map(|_| true);
}
