//! A server that sends a file to each client in one of three ways. Choose one by what it costs.
//!
//! Run `cargo run --example files --features workers -- Cargo.lock`, then `nc 127.0.0.1 1234 | cmp - Cargo.lock`.
//!
//! - Without a flag, the file is read piece by piece as the client reads it, with at most 128 KiB of memory per client.
//!   A slow disk would hold up the loop.
//! - `--shared` reads the file once: one copy in memory for all clients, however many, and no disk access afterwards.
//!   For files of up to 16 MiB.
//! - `--threads=N` detaches the connection from the loop, and one of N threads copies the file into it. The thread may
//!   wait for a slow disk and for the client, and could call `sendfile`. While all threads serve slow clients, other
//!   clients wait.
//!
//! A client that reads nothing for a minute is reset, as is one that could mistake half a file for the whole.

#[path = "support/bounds.rs"]
#[allow(dead_code)] // Contains more than this example uses.
mod bounds;
mod support;
#[path = "files/threads.rs"]
mod threads;

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use support::{Failure, complain, say};
use switchboard::workers::WorkerPool;
use switchboard::{Address, CloseReason, Context, EventLoop, Limits, Protocol, Timeout, Transport};

const PATIENCE: Duration = Duration::from_secs(60);
/// A piece is read once no more than this is queued for the client.
const LOW_BYTES: usize = 64 << 10;
/// Pieces fill the queue up to this.
const HIGH_BYTES: usize = 128 << 10;
/// At most this many clients wait for a thread.
const WAITING_MAX: usize = 1000;

#[derive(Clone)]
enum Way {
    Pieces,
    Shared(Arc<[u8]>),
    Threads(WorkerPool),
}

/// One client.
struct Download {
    way: Way,
    path: Arc<PathBuf>,
    /// The open file, if it is sent piece by piece.
    file: Option<File>,
}

impl Download {
    fn begin(&mut self, transport: &mut Transport<'_>) -> io::Result<()> {
        match &self.way {
            Way::Shared(bytes) => {
                transport.write_shared(bytes.clone());
                transport.close();
            }
            Way::Pieces => {
                self.file = Some(File::open(&*self.path)?);
                transport.set_write_marks(HIGH_BYTES, LOW_BYTES);
                transport.start_producing();
            }
            Way::Threads(pool) => {
                let (pool, file) = (pool.clone(), File::open(&*self.path)?);
                transport.detach(move |context, client| threads::copy(context, &pool, file, client));
            }
        }
        Ok(())
    }
}

impl Protocol for Download {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_timeout(Timeout::Idle, Some(PATIENCE));
        // If the timeout expires, half a file must not look like the whole.
        transport.set_answering(true);
        if let Err(error) = self.begin(transport) {
            complain(format_args!("{}: {error}", self.path.display()));
            transport.abort();
        }
    }

    /// Called when there is room for another piece.
    fn produce(&mut self, transport: &mut Transport<'_>) {
        if self.file.as_mut().is_some_and(|file| transport.write_from(file) == 0) {
            transport.close();
        }
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    /// The client has nothing more to send, and waits for the file.
    fn eof_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if !matches!(reason, CloseReason::Detached) {
            tell(transport.peer_addr(), transport.stats().bytes_sent, &reason.to_string());
        }
    }
}

fn tell(peer: Option<&Address>, bytes: u64, how: &str) {
    say(format_args!("{bytes} bytes for {}: {how}", peer.map(ToString::to_string).unwrap_or_default()));
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads: Option<usize> = bounds::take_number(&mut arguments, "--threads")?;
    let shared = arguments.iter().position(|argument| argument == "--shared").map(|at| arguments.remove(at)).is_some();
    let usage = "usage: [--shared | --threads=N] FILE [ADDRESS]";
    let path = arguments.first().cloned().ok_or_else(|| Failure::new(usage.to_owned()))?;
    let address = support::listening_address_in(arguments.into_iter().skip(1), &[])?;
    let limits = Limits::default();
    let unreadable = |error: io::Error| Failure::new(format!("{path}: {error}"));
    let way = match threads.map(NonZeroUsize::new) {
        Some(Some(threads)) => Way::Threads(WorkerPool::new(threads, WAITING_MAX)),
        Some(None) => return Err(Failure::new(usage.to_owned())),
        None if shared => Way::Shared(std::fs::read(&path).map_err(unreadable)?.into()),
        None => Way::Pieces,
    };
    if File::open(&path).and_then(|file| file.metadata()).map_err(unreadable)?.is_dir() {
        return Err(Failure::new(format!("{path} is a folder")));
    }
    // The whole file is queued at once, and a client with more than this queued counts as one that does not read.
    if matches!(&way, Way::Shared(bytes) if bytes.len() > limits.queue_bytes_max) {
        return Err(Failure::new(format!("{path} has more than {} bytes", limits.queue_bytes_max)));
    }
    let path = Arc::new(PathBuf::from(path));
    let mut event_loop = EventLoop::with_limits(limits)?;
    let factory =
        move |_: &mut Context<'_>, _: &Address| Some(Download { way: way.clone(), path: path.clone(), file: None });
    let listener = event_loop.context().listen(address, factory).map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
