//! Requests in child processes, as with inetd.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use shared_child::SharedChild;

use super::RequestError;
use super::request::{ANSWER_BYTES_MAX, answer_to, timed_out};
use super::task::{Outcome, Task};
use switchboard::workers::{WorkError, WorkerPool};
use switchboard::{Address, BlockingStream, Context, Detached};

/// The running children, so that they can be killed: a thread waits for each.
#[derive(Default)]
pub(super) struct Children(Mutex<State>);

#[derive(Default)]
struct State {
    children: BTreeMap<u64, Child>,
    next_number: u64,
}

enum Child {
    Starting,
    Running(Arc<SharedChild>),
    /// Killed before it ran.
    Doomed,
}

/// A request for a child that is not started yet.
pub(super) struct Spawn {
    pub(super) command: Command,
    pub(super) task: Task,
    /// How long it may take in all.
    pub(super) timeout: Option<Duration>,
}

impl Children {
    pub(super) fn new() -> Arc<Children> {
        if is_sigchld_ignored() {
            hear_sigchld();
        }
        Arc::default()
    }

    /// Makes a thread of `pool` start the child and wait for it.
    pub(super) fn begin(
        self: &Arc<Children>,
        context: &mut Context<'_>,
        pool: &WorkerPool,
        mut spawn: Spawn,
        client: &Address,
        end: impl FnOnce(&mut Context<'_>, Result<Outcome, WorkError>) + 'static,
    ) {
        if let Some(client) = client.as_inet() {
            spawn.command.env("REMOTE_ADDR", client.ip().to_string()).env("REMOTE_PORT", client.port().to_string());
        }
        let number = self.expect();
        let children = self.clone();
        let timer = spawn.timeout.map(|timeout| context.call_later(timeout, move |_| children.kill(number)));
        let deadline = spawn.timeout.and_then(|timeout| context.now().checked_add(timeout));
        let children = self.clone();
        let work = move || match spawn.task {
            Task::Stream(accepted) => accepted
                .take()
                .map_or_else(Outcome::default, |stream| children.serve_stream(number, spawn.command, stream)),
            Task::Datagram(data) => {
                children.serve_datagram(number, spawn.command, &data, deadline).unwrap_or_else(Outcome::from)
            }
        };
        let children = self.clone();
        let over = move |context: &mut Context<'_>, outcome| {
            timer.map(|timer| context.cancel_timer(timer));
            children.lock().children.remove(&number);
            end(context, outcome);
        };
        pool.submit(context, None, work, over);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number for a child that will be started.
    fn expect(&self) -> u64 {
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.children.insert(number, Child::Starting);
        number
    }

    fn started(&self, number: u64, child: &Arc<SharedChild>) {
        match self.lock().children.insert(number, Child::Running(child.clone())) {
            Some(Child::Starting) => {}
            // Its time was up, or its result is no longer wanted.
            _ => kill(child),
        }
    }

    pub(super) fn kill(&self, number: u64) {
        if let Some(child) = self.lock().children.get_mut(&number) {
            child.kill();
        }
    }

    pub(super) fn kill_all(&self) {
        self.lock().children.values_mut().for_each(Child::kill);
    }

    /// The connection is the child's standard input and output. It stays open here, so that it can be closed in an
    /// orderly way.
    fn serve_stream(&self, number: u64, mut command: Command, stream: BlockingStream) -> Outcome {
        let stdio = duplicate(&stream).and_then(|input| Ok((input, duplicate(&stream)?)));
        let status = stdio.and_then(|(input, output)| wait(&*self.run(number, &mut command, input, output)?));
        match status {
            Ok(status) if status.signal().is_none() => {
                Outcome { connection: Some((stream, None)), error: failure(status), ..Outcome::default() }
            }
            // The client must not take half an answer for a whole one.
            Ok(status) => {
                Detached::from(stream).abort();
                Outcome { error: failure(status), ..Outcome::default() }
            }
            Err(error) => {
                Detached::from(stream).abort();
                error.into()
            }
        }
    }

    /// The datagram is the child's standard input, and its output the answer. Both use a socket pair instead of pipes:
    /// pipes have no timeout, and processes that a killed child has started may keep them open.
    fn serve_datagram(
        &self,
        number: u64,
        mut command: Command,
        data: &[u8],
        deadline: Option<Instant>,
    ) -> io::Result<Outcome> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = self.run(number, &mut command, theirs.as_fd().try_clone_to_owned()?, theirs.into())?;
        // The command holds one end of the pair, so the answer would have no end.
        drop(command);
        let answered = talk(ours, data, deadline);
        if answered.is_err() {
            kill(&child);
        }
        let status = wait(&child)?;
        let answer = answer_to(data, answered?);
        match status.signal() {
            None => Ok(Outcome { answer, error: failure(status), ..Outcome::default() }),
            Some(_) => Ok(Outcome { error: failure(status), ..Outcome::default() }),
        }
    }

    fn run(&self, number: u64, command: &mut Command, input: OwnedFd, output: OwnedFd) -> io::Result<Arc<SharedChild>> {
        // A terminal sends its interrupt to the whole process group. It is meant for the server, which decides what
        // happens to its requests.
        command.process_group(0).stdin(Stdio::from(input)).stdout(Stdio::from(output));
        let child = Arc::new(SharedChild::spawn(command)?);
        self.started(number, &child);
        Ok(child)
    }
}

impl Child {
    fn kill(&mut self) {
        match self {
            Child::Running(child) => kill(child),
            Child::Starting | Child::Doomed => *self = Child::Doomed,
        }
    }
}

fn kill(child: &SharedChild) {
    if let Err(error) = child.kill() {
        log::error!("cannot kill the child process {}: {error}", child.id());
    }
}

/// Waits for a child to end.
fn wait(child: &SharedChild) -> io::Result<ExitStatus> {
    let status = child.wait();
    if status.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ECHILD)) {
        log::warn!(
            "the status of a child process was lost: other code waited for it, or SIGCHLD was ignored, which it no longer is"
        );
        hear_sigchld();
    }
    status
}

/// Returns whether the system discards the status of children that end: a process inherits this, for example from `trap
/// '' CHLD`. Returns `false` if it cannot be known.
fn is_sigchld_ignored() -> bool {
    let status = if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/self/status") } else { return false };
    let ignored = status.ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    ignored.is_some_and(|mask| mask & (1 << (libc::SIGCHLD - 1)) != 0)
}

/// Makes sure that SIGCHLD is not ignored: a handler that does nothing preserves the status of children, and is reset
/// in the child.
fn hear_sigchld() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = signal_hook::flag::register(libc::SIGCHLD, Arc::new(AtomicBool::new(false))) {
            log::error!("cannot handle SIGCHLD, so child processes cannot be waited for: {error}");
        }
    });
}

/// Sends a child its input and reads its output.
fn talk(stream: UnixStream, data: &[u8], deadline: Option<Instant>) -> io::Result<Vec<u8>> {
    let mut stream = Detached::from(stream).into_blocking(None)?;
    arm(&stream, deadline)?;
    match stream.write_all(data) {
        // A child need not read its input.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    // The child may have ended already.
    let _ = stream.shutdown_write();
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        arm(&stream, deadline)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The child has ended without reading its input.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not fit in a datagram"));
        }
    }
}

fn duplicate(stream: &BlockingStream) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn arm(stream: &BlockingStream, deadline: Option<Instant>) -> io::Result<()> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match left {
        Some(Duration::ZERO) => Err(timed_out()),
        left => stream.set_timeout(left),
    }
}

fn failure(status: ExitStatus) -> Option<RequestError> {
    (!status.success()).then_some(RequestError::Child(status))
}
