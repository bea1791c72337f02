//! compio: a task for each connection, on io_uring, or with `--epoll` on its other driver.
//!
//! - Buffers are handed to the runtime for each operation. Each connection has one: of 4 KiB until that was filled once,
//!   then of 64 KiB, so that idle ones stay small. On io_uring a read is in flight for each idle connection, too.
//! - On epoll compio registers a socket anew for each operation that waits.
//! - `write_all` before the next read: a peer that does not read is not read from.
//! - Fan-out: two tasks for each member. Lines are appended to a buffer of each member, as if not all members got the
//!   same lines; the first of them wakes the writing task, which runs behind all tasks that have read meanwhile, and
//!   sends the buffer in one piece. A member with 16 MiB of unsent output is dropped.
//! - The ring has room for 4,096 operations: with the default of 1,024 a thousand clients would fill it.
//! - The kernel completes operations when the ring is entered, and interrupts nothing for them (`coop_taskrun`); and
//!   tasks are polled up to 1,024 times, not 61, before it is entered again. With both it takes 0.9 of the CPU with
//!   1,000 clients, and in a fan-out to 100. `defer_taskrun` in place of the former takes twice as much in a fan-out:
//!   fewer lines gather.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use compio::BufResult;
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use compio::runtime::RuntimeBuilder;
use switchboard_compare::tasks::{Member, Room, Vacancy};
use switchboard_compare::{
    EVENTS_MAX, LINE_BYTES_MAX, Listener, Mode, READ_BYTES, arguments_with, is_out_of_descriptors, listener,
    whole_lines,
};

/// The size of a read buffer until it was filled once.
const READ_BYTES_FIRST: usize = 4096;

const RING_ENTRIES: u32 = 4096;

async fn echo(mut stream: impl AsyncRead + AsyncWrite) {
    let mut buffer = Vec::with_capacity(READ_BYTES_FIRST);
    loop {
        let BufResult(read, filled) = stream.read(buffer).await;
        // An error ends this connection, like the end of its stream.
        let Ok(1..) = read else { return };
        let is_full = filled.len() == filled.capacity();
        let BufResult(written, mut sent) = stream.write_all(filled).await;
        if written.is_err() {
            return;
        }
        // A read leaves the length of what was there before, if that is more.
        sent.clear();
        buffer = if is_full && sent.capacity() < READ_BYTES { Vec::with_capacity(READ_BYTES) } else { sent };
    }
}

/// Passes on what a member sends.
async fn read_lines(mut read: impl AsyncRead, room: Rc<Room>, member: Rc<Member>) {
    let mut buffer = Vec::with_capacity(READ_BYTES_FIRST);
    let mut begun = Vec::new();
    while let Some(BufResult(result, mut filled)) = member.reading(read.read(buffer)).await {
        match result {
            Ok(1..) => {
                let lines = whole_lines(&mut begun, &filled);
                if !lines.is_empty() {
                    room.say(&lines);
                }
            }
            Ok(0) => return member.ended(),
            Err(_) => return member.fail(),
        }
        if begun.len() > LINE_BYTES_MAX {
            return member.fail();
        }
        filled.clear();
        buffer = filled;
    }
}

/// Sends a member the lines of all, until it has ended its stream and has got all of them.
async fn write_lines(mut write: impl AsyncWrite, room: Rc<Room>, member: Rc<Member>) {
    let mut buffer = Vec::new();
    while let Some(gathered) = member.gathered(buffer).await {
        let Some(BufResult(Ok(()), sent)) = member.writing(write.write_all(gathered)).await else { break };
        buffer = sent;
    }
    room.leave(&member);
}

/// A kind of listener, and of the streams that it accepts.
trait Accept {
    type Stream: AsyncRead + AsyncWrite + Clone + 'static;

    async fn accept(&self) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn serve<L: Accept>(mode: Mode, listener: L) -> io::Result<()> {
    let (room, vacancy) = (Rc::<Room>::default(), Rc::<Vacancy>::default());
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(error) if is_out_of_descriptors(&error) => {
                vacancy.wait().await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (room, vacancy) = (room.clone(), vacancy.clone());
        let connection = async move {
            match mode {
                Mode::Echo => echo(stream).await,
                Mode::Fanout => {
                    let member = room.join();
                    compio::runtime::spawn(read_lines(stream.clone(), room.clone(), member.clone())).detach();
                    write_lines(stream, room, member).await;
                }
            }
            vacancy.notify();
        };
        compio::runtime::spawn(connection).detach();
    }
}

async fn serve_any(mode: Mode, listener: Listener) -> io::Result<()> {
    match listener {
        Listener::Inet(listener) => serve(mode, TcpListener::from_std(listener)?).await,
        Listener::Unix(listener) => serve(mode, UnixListener::from_std(listener)?).await,
    }
}

fn main() -> io::Result<()> {
    let (on_epoll, mode, address) = arguments_with("--epoll");
    let listener = listener(&address)?;
    listener.announce()?;
    let mut driver = ProactorBuilder::new();
    driver.driver_type(if on_epoll { DriverType::Poll } else { DriverType::IoUring });
    driver.capacity(RING_ENTRIES).coop_taskrun(true).taskrun_flag(true);
    // A ring does not wait for what does not block.
    listener.set_nonblocking(on_epoll)?;
    let mut runtime = RuntimeBuilder::new();
    runtime.with_proactor(driver).event_interval(EVENTS_MAX);
    runtime.build()?.block_on(async {
        // A task, since what is blocked on is polled in each turn.
        compio::runtime::spawn(serve_any(mode, listener)).await.unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    })
}
