//! tokio-rustls, on tokio's current-thread runtime: a task for each connection, like `tokio.rs` without TLS.
//!
//! - Each has its own buffer: of 4 KiB until that was filled once, then of 64 KiB.
//! - `flush` after `write_all`: without it what the kernel did not take would wait in the session for the next write.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use switchboard_compare::{READ_BYTES, announce, is_out_of_descriptors, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// The size of a read buffer until it was filled once.
const READ_BYTES_FIRST: usize = 4096;

/// An error ends this connection, like the end of its stream.
async fn echo(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut buffer = Vec::with_capacity(READ_BYTES_FIRST);
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        if stream.write_all(&buffer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let is_full = buffer.len() == buffer.capacity();
        buffer.clear();
        if is_full {
            buffer.reserve(READ_BYTES);
        }
    }
    // Sends `close_notify`.
    let _ = stream.shutdown().await;
}

async fn serve(acceptor: TlsAcceptor, listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Notify::new());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) if is_out_of_descriptors(&error) => {
                room.notified().await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (acceptor, room) = (acceptor.clone(), room.clone());
        tokio::spawn(async move {
            echo(acceptor, stream).await;
            room.notify_one();
        });
    }
}

fn main() -> io::Result<()> {
    let arguments = tls::arguments();
    let listener = tls::tcp_listener(arguments.address)?;
    announce(listener.local_addr()?)?;
    let acceptor = TlsAcceptor::from(arguments.config);
    Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(async { serve(acceptor, TcpListener::from_std(listener)?).await })
}
