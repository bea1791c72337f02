//! tokio, on its current-thread runtime: a task for each connection.
//!
//! - Each has its own buffer, as is usual with tokio: of 4 KiB until that was filled once, then of 64 KiB. So idle ones
//!   stay small, and short-lived ones do not make the allocator request and release memory. `read_buf` does not zero it
//!   before. tokio itself does not read again after a short read.
//! - `write_all` before the next read: a peer that does not read is not read from.
//! - Fan-out: a broadcast channel. An mpsc channel for each member, emptied by `recv_many`, took 1.2 times the CPU of
//!   it at 100 members and 1.6 times at 1,000. Each member has a second task that gathers what has arrived meanwhile
//!   and sends it at once; one task for both costs 1.4 times as much at 100. The channel bounds memory: a member that
//!   falls behind is disconnected.
//! - `tokio::spawn`, as is usual, although nothing here moves between threads.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use switchboard_compare::{LINE_BYTES_MAX, Listener, Mode, READ_BYTES, arguments, is_out_of_descriptors, listener};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// The data of one read.
type Lines = Arc<[u8]>;

/// How many reads the channel holds: 4,096 reads of 4 KiB are the 16 MiB of the others.
const CHANNEL_LINES: usize = 4096;
const MEMBER_READ_BYTES: usize = 4096;

/// The size of a read buffer until it was filled once.
const READ_BYTES_FIRST: usize = 4096;

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = Vec::with_capacity(READ_BYTES_FIRST);
    // An error ends this connection, like the end of its stream.
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        if stream.write_all(&buffer).await.is_err() {
            return;
        }
        let is_full = buffer.len() == buffer.capacity();
        buffer.clear();
        if is_full {
            buffer.reserve(READ_BYTES);
        }
    }
}

/// Passes on what a member sends.
async fn read_lines(mut read: impl AsyncRead + Unpin, lines: Sender<Lines>) {
    let mut buffer = Vec::with_capacity(MEMBER_READ_BYTES);
    while let Ok(1..) = read.read_buf(&mut buffer).await {
        let end = memchr::memrchr(b'\n', &buffer).map_or(0, |at| at + 1);
        if end > 0 {
            let _ = lines.send(buffer[..end].into());
            buffer.drain(..end);
        }
        if buffer.len() > LINE_BYTES_MAX {
            return;
        }
    }
}

/// Sends a member the lines of all, until it has ended its stream and has got all of them.
async fn write_lines(mut write: impl AsyncWrite + Unpin, mut lines: Receiver<Lines>, reader: impl Future + Unpin) {
    let mut reader = reader;
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            biased;
            received = lines.recv() => {
                let Ok(received) = received else { return };
                gathered.extend_from_slice(&received);
            }
            _ = &mut reader => return,
        }
        while let Ok(received) = lines.try_recv() {
            gathered.extend_from_slice(&received);
        }
        if write.write_all(&gathered).await.is_err() {
            return;
        }
        gathered.clear();
    }
}

async fn member(read: impl AsyncRead + Unpin + Send + 'static, write: impl AsyncWrite + Unpin, lines: Sender<Lines>) {
    let received = lines.subscribe();
    let mut reader = tokio::spawn(read_lines(read, lines));
    write_lines(write, received, &mut reader).await;
    reader.abort();
}

/// A kind of listener, and of the streams that it accepts.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn accept(&self) -> io::Result<Self::Stream>;

    fn split(
        stream: Self::Stream,
    ) -> (impl AsyncRead + Unpin + Send + 'static, impl AsyncWrite + Unpin + Send + 'static);
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn split(stream: TcpStream) -> (impl AsyncRead + Unpin + Send + 'static, impl AsyncWrite + Unpin + Send + 'static) {
        stream.into_split()
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn split(
        stream: UnixStream,
    ) -> (impl AsyncRead + Unpin + Send + 'static, impl AsyncWrite + Unpin + Send + 'static) {
        stream.into_split()
    }
}

async fn serve<L: Accept>(mode: Mode, listener: L) -> io::Result<()> {
    let (lines, _) = broadcast::channel(CHANNEL_LINES);
    let room = Arc::new(Notify::new());
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) if is_out_of_descriptors(&error) => {
                room.notified().await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (lines, room) = (lines.clone(), room.clone());
        tokio::spawn(async move {
            match mode {
                Mode::Echo => echo(stream).await,
                Mode::Fanout => {
                    let (read, write) = L::split(stream);
                    member(read, write, lines).await;
                }
            }
            room.notify_one();
        });
    }
}

fn main() -> io::Result<()> {
    let (mode, address) = arguments();
    let listener = listener(&address)?;
    listener.announce()?;
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        match listener {
            Listener::Inet(listener) => serve(mode, TcpListener::from_std(listener)?).await,
            Listener::Unix(listener) => serve(mode, UnixListener::from_std(listener)?).await,
        }
    })
}
