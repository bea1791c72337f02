//! What the signals of a service do: it drains, or is taken over by a new process.

use std::cell::RefCell;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use mio::Interest;
use sd_notify::NotifyState;

use super::handed_over::PREDECESSOR;
use super::notify::Manager;
use crate::signals::Signal;
use crate::{Context, ListenerId, SourceAction, SourceId, TimerId};

/// What a new process says to the one that it takes over from.
const READY: &[u8] = b"READY=1\n";

/// The first descriptor that is handed over, by systemd's protocol.
const FIRST_DESCRIPTOR: i32 = 3;

/// When a process that was killed is looked at first. It mostly has ended by then.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Each time after that waits twice as long as the one before, up to this.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How often it is looked at where there is no loop to wait in.
const LOOKS_AT_LAST: u32 = 100;

/// This program, as it was started.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    name: Option<OsString>,
    arguments: Vec<OsString>,
}

impl Program {
    /// Asked when the program begins: later its file may have been replaced.
    pub(super) fn this() -> io::Result<Program> {
        let mut arguments = env::args_os();
        let name = arguments.next();
        Ok(Program { path: env::current_exe()?, name, arguments: arguments.collect() })
    }

    /// Starts it anew, with these sockets. What is answered beside the process is the stream on which it says that it is
    /// ready.
    fn start(&self, sockets: Vec<(String, OwnedFd)>) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (mut names, mut descriptors): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        names.push(PREDECESSOR.to_owned());
        descriptors.push(OwnedFd::from(theirs));
        let mut command = Command::new(&self.path);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command.args(&self.arguments).env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        // Its process id is not known before it runs: without one, whoever has the environment is meant.
        for variable in ["LISTEN_PID", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        let mapped = (FIRST_DESCRIPTOR..).zip(descriptors);
        let mappings = mapped.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok((command.spawn()?, ours))
    }
}

/// Tells the process that this one takes over from.
pub(super) fn say_ready(predecessor: &UnixStream) {
    // A plain write could raise SIGPIPE.
    let socket = socket2::SockRef::from(predecessor);
    if let Err(error) = socket.send_with_flags(READY, MSG_NOSIGNAL) {
        log::warn!("cannot tell the process before this one that this one is ready: {error}");
    }
}

/// Apple's systems have an option of the socket in its place, which `UnixStream::pair` sets.
#[cfg(not(target_vendor = "apple"))]
const MSG_NOSIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const MSG_NOSIGNAL: i32 = 0;

/// What signals do, and what that needs.
pub(super) struct Supervisor {
    handover: Rc<Handover>,
    program: Program,
    start_timeout: Duration,
    /// A signal has told it to drain.
    is_stopping: bool,
    /// A new process that was started: where it says that it is ready, and what it is until then, or until it has ended.
    starting: Option<(SourceId, Starting)>,
}

/// What is to be done once another process is ready.
pub(super) struct Handover {
    listeners: Vec<(String, ListenerId)>,
    manager: Rc<Manager>,
    watchdog: Option<TimerId>,
    grace: Duration,
}

impl Supervisor {
    pub(super) fn new(handover: Handover, program: Program, start_timeout: Duration) -> Supervisor {
        Supervisor { handover: Rc::new(handover), program, start_timeout, is_stopping: false, starting: None }
    }

    pub(super) fn handle(&mut self, context: &mut Context<'_>, signal: Signal) {
        match signal {
            Signal::USR2 => self.restart(context),
            _ => self.stop(context, signal),
        }
    }

    fn stop(&mut self, context: &mut Context<'_>, signal: Signal) {
        // A loop that has drained may be run anew.
        self.is_stopping &= context.is_draining();
        if self.is_stopping {
            log::info!("{signal} once more: ending at once");
            return context.shutdown(Duration::ZERO);
        }
        self.is_stopping = true;
        log::info!("{signal}: draining");
        if let Some((source, starting)) = self.starting.take() {
            if context.deregister(source) {
                starting.give_up(context);
            }
        }
        if !context.is_draining() {
            self.handover.manager.notify(&[NotifyState::Stopping]);
        }
        context.drain(self.handover.grace);
    }

    fn restart(&mut self, context: &mut Context<'_>) {
        let is_starting = self.starting.as_ref().is_some_and(|(_, starting)| starting.is_under_way());
        if is_starting || context.is_draining() {
            return log::warn!("SIGUSR2 is ignored: a restart or a drain is under way");
        }
        log::info!("SIGUSR2: starting a new process");
        self.handover.manager.reloading();
        match self.start(context) {
            Ok(starting) => self.starting = Some(starting),
            Err(error) => self.handover.stays(&format!("a new process cannot be started: {error}")),
        }
    }

    fn start(&self, context: &mut Context<'_>) -> io::Result<(SourceId, Starting)> {
        let (child, stream) = self.program.start(self.handover.sockets(context)?)?;
        let starting = Starting::new(Successor::new(child, stream)?);
        let stream = starting.stream()?;
        let (handover, successor) = (self.handover.clone(), starting.clone());
        let source = context.register(stream, Interest::READABLE, move |context, _, _| {
            match successor.listen() {
                Heard::Nothing => return SourceAction::Wait,
                Heard::Ready(process) => handover.hand_over(context, process),
                Heard::End => successor.end(context, Some(handover.clone())),
            }
            SourceAction::Remove
        })?;
        context.unref(source);
        let (start_timeout, handover, successor) = (self.start_timeout, self.handover.clone(), starting.clone());
        let timer = context.call_later(start_timeout, move |context| {
            if context.deregister(source) {
                handover.stays(&format!("the new process was not ready after {start_timeout:?}, and is killed"));
                successor.give_up(context);
            }
        });
        context.unref(timer);
        Ok((source, starting))
    }
}

impl Handover {
    pub(super) fn new(
        listeners: Vec<(String, ListenerId)>,
        manager: Rc<Manager>,
        watchdog: Option<TimerId>,
        grace: Duration,
    ) -> Handover {
        Handover { listeners, manager, watchdog, grace }
    }

    /// A restart has failed, and this process goes on.
    fn stays(&self, why: &str) {
        log::error!("{why}; this process goes on");
        self.manager.notify(&[NotifyState::Ready, NotifyState::Status(why)]);
    }

    /// The sockets to hand on, those of closed listeners aside.
    fn sockets(&self, context: &mut Context<'_>) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = Vec::new();
        for (name, id) in &self.listeners {
            if let Some(socket) = context.listener(*id).as_ref().and_then(|listening| listening.socket()) {
                sockets.push((name.clone(), socket.try_clone_to_owned()?));
            }
        }
        Ok(sockets)
    }

    /// Another process listens: this one only ends what it has begun.
    fn hand_over(&self, context: &mut Context<'_>, process: u32) {
        log::info!("process {process} is ready: draining");
        for (_, id) in &self.listeners {
            if let Some(mut listening) = context.listener(*id) {
                if let Err(error) = listening.set_unlinks(false) {
                    log::warn!("cannot leave the path of listener {id} alone: {error}");
                }
            }
        }
        if let Some(watchdog) = self.watchdog {
            context.cancel(watchdog);
        }
        self.manager.notify(&[NotifyState::MainPid(process), NotifyState::Ready]);
        context.drain(self.grace);
    }
}

/// A new process until it is ready, or has ended; shared by all that wait for one of these.
#[derive(Clone)]
struct Starting(Rc<RefCell<Option<Successor>>>);

impl Starting {
    fn new(successor: Successor) -> Starting {
        Starting(Rc::new(RefCell::new(Some(successor))))
    }

    fn is_under_way(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The stream on which it says that it is ready.
    fn stream(&self) -> io::Result<mio::net::UnixStream> {
        let starting = self.0.borrow();
        let successor = starting.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(mio::net::UnixStream::from_std(successor.stream.try_clone()?))
    }

    fn listen(&self) -> Heard {
        let mut starting = self.0.borrow_mut();
        let heard = starting.as_mut().map_or(Heard::End, Successor::listen);
        if matches!(heard, Heard::Ready(_)) {
            *starting = None;
        }
        heard
    }

    /// It is waited for no longer.
    fn give_up(&self, context: &mut Context<'_>) {
        match self.listen() {
            // It may have become ready just now, and serve somebody.
            Heard::Ready(process) => log::warn!("process {process} became ready too late, and goes on by itself"),
            Heard::Nothing | Heard::End => self.end(context, None),
        }
    }

    /// Ends the process, if it has not ended by itself. It has not been ready, so nobody is served by it. How it ended
    /// is why `stays` stays.
    fn end(&self, context: &mut Context<'_>, stays: Option<Rc<Handover>>) {
        let killed = self.0.borrow_mut().as_mut().map_or(Ok(()), |successor| successor.child.kill());
        if let Err(error) = killed {
            log::error!("cannot end a process that was not ready: {error}");
            return self.ended(stays.as_deref(), &error.to_string());
        }
        self.look_for_end(context, stays, FIRST_LOOK);
    }

    /// Looks whether it has ended, and once more after a while if not: a process that waits for a disk, or is traced, ends
    /// some time after it was killed, and the loop has others to serve meanwhile.
    fn look_for_end(&self, context: &mut Context<'_>, stays: Option<Rc<Handover>>, next_look: Duration) {
        let end = match self.0.borrow_mut().as_mut().map(|successor| successor.child.try_wait()) {
            Some(Ok(None)) => None,
            Some(Ok(Some(status))) => Some(status.to_string()),
            Some(Err(error)) => Some(error.to_string()),
            None => Some("it is gone".to_owned()),
        };
        let Some(end) = end else {
            let starting = self.clone();
            let later = (next_look * 2).min(LAST_LOOK);
            let timer = context.call_later(next_look, move |context| starting.look_for_end(context, stays, later));
            context.unref(timer);
            return;
        };
        self.ended(stays.as_deref(), &end);
    }

    /// It is waited for no longer: the next signal may start another one.
    fn ended(&self, stays: Option<&Handover>, how: &str) {
        self.0.take();
        if let Some(handover) = stays {
            handover.stays(&format!("the new process did not become ready: {how}"));
        }
    }
}

/// A new process. Killed when it is dropped before it is ready.
struct Successor {
    child: Child,
    stream: UnixStream,
    said: Vec<u8>,
    is_ready: bool,
}

enum Heard {
    Nothing,
    /// The process with this id is ready.
    Ready(u32),
    /// It has ended, or closed the stream, which comes to the same: it will never say that it is ready.
    End,
}

impl Successor {
    fn new(child: Child, stream: UnixStream) -> io::Result<Successor> {
        let successor = Successor { child, stream, said: Vec::new(), is_ready: false };
        successor.stream.set_nonblocking(true)?;
        Ok(successor)
    }

    fn listen(&mut self) -> Heard {
        let mut buffer = [0; READY.len()];
        while self.said.len() < READY.len() {
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.said.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Heard::End,
            }
        }
        self.is_ready = self.said.starts_with(READY);
        if self.is_ready { Heard::Ready(self.child.id()) } else { Heard::End }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.is_ready || self.child.kill().is_err() {
            return;
        }
        // The loop is gone, or nothing could be registered in it. It is waited for so long that it seldom stays a zombie.
        for _ in 0..LOOKS_AT_LAST {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(FIRST_LOOK);
        }
    }
}
