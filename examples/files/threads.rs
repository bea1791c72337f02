// Copies a file into a connection that was detached from the loop, in a thread that may block on both.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::support::complain;
use super::{PATIENCE, tell};
use switchboard::workers::{WorkError, WorkerPool};
use switchboard::{Context, Detached, DetachedParts, Protocol, Transport};

pub(super) fn copy(context: &mut Context<'_>, pool: &WorkerPool, file: File, client: Detached) {
    let peer = client.peer_addr().cloned();
    let copied = move |context: &mut Context<'_>, copied: Result<io::Result<(u64, TcpStream)>, WorkError>| {
        match copied.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok((bytes, stream)) => {
                tell(peer.as_ref(), bytes, "copied by a thread");
                // Return it to the loop, which closes it in order even if the client has sent data that nobody read.
                context.attach(stream, Leaves).map_or_else(complain, drop);
            }
            Err(error) => tell(peer.as_ref(), 0, &format!("not copied: {error}")),
        }
    };
    pool.submit(context, None, move || copy_all(file, client), copied);
}

/// Copies the file, blocking. On failure the connection is reset.
fn copy_all(mut file: File, client: Detached) -> io::Result<(u64, TcpStream)> {
    let parts = client.into_tcp().map_err(|_| io::ErrorKind::Unsupported)?;
    let DetachedParts { mut stream, unsent, .. } = parts;
    let copied = stream.set_nonblocking(false).and_then(|()| {
        stream.set_write_timeout(Some(PATIENCE))?;
        // Data written before the detach goes first; here there is none.
        stream.write_all(&unsent)?;
        io::copy(&mut file, &mut stream)
    });
    match copied {
        Ok(bytes) => Ok((bytes, stream)),
        Err(error) => {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Err(error)
        }
    }
}

/// A client that has been sent its whole file.
struct Leaves;

impl Protocol for Leaves {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.close();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}
