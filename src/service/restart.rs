//! How a service handles signals: it drains, or is taken over by a new process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use mio::Interest;
use sd_notify::NotifyState;

use super::handed_over::PREDECESSOR;
use super::notify::Manager;
use super::reserve::Reserve;
use super::successor::{Heard, READY, Successor};
use switchboard::signals::Signal;
use switchboard::{Context, ListenerId, SourceAction, SourceId, TimerId};

/// The first descriptor that is handed over, by systemd's protocol.
const FIRST_DESCRIPTOR: i32 = 3;

/// This program, as it was started.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    name: Option<OsString>,
    arguments: Vec<OsString>,
}

impl Program {
    /// Read when the program starts: later its file may have been replaced.
    pub(super) fn this() -> io::Result<Program> {
        let mut arguments = env::args_os();
        let name = arguments.next();
        let path = env::current_exe().or_else(|error| named(name.as_deref()).ok_or(error))?;
        Ok(Program { path, name, arguments: arguments.collect() })
    }

    /// Starts it again, with these sockets. The stream that is returned with the process is the one on which it reports
    /// that it is ready.
    fn start(&self, sockets: Vec<(String, OwnedFd)>) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (mut names, mut descriptors): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        names.push(PREDECESSOR.to_owned());
        descriptors.push(OwnedFd::from(theirs));
        let mut command = Command::new(&self.path);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command.args(&self.arguments).env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        // The id of the new process is not known before it runs. Without `LISTEN_PID`, the descriptors are meant for
        // whatever process has the environment.
        for variable in ["LISTEN_PID", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        let mapped = (FIRST_DESCRIPTOR..).zip(descriptors);
        let mappings = mapped.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok((command.spawn()?, ours))
    }
}

/// Finds the program by the name that it was started by: without `/proc`, Linux does not tell the path.
fn named(name: Option<&OsStr>) -> Option<PathBuf> {
    let name = Path::new(name.filter(|name| !name.is_empty())?);
    // A name without a slash is looked up in PATH, as it was before.
    if name.components().count() == 1 && !name.is_absolute() {
        return Some(name.to_owned());
    }
    std::path::absolute(name).ok()
}

/// Tells the process that this one replaces that this one is ready.
pub(super) fn say_ready(predecessor: &UnixStream) {
    // A plain write could raise SIGPIPE.
    let socket = socket2::SockRef::from(predecessor);
    if let Err(error) = socket.send_with_flags(READY, MSG_NOSIGNAL) {
        log::warn!("cannot report to the old process that this one is ready: {error}");
    }
}

/// Apple's systems have a socket option instead, which `UnixStream::pair` sets.
#[cfg(not(target_vendor = "apple"))]
const MSG_NOSIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const MSG_NOSIGNAL: i32 = 0;

/// The signal handler's state.
pub(super) struct Supervisor {
    handover: Rc<Handover>,
    program: Program,
    reserve: Rc<Reserve>,
    start_timeout: Duration,
    /// Whether a signal has started a drain.
    is_stopping: bool,
    /// A new process that was started: the source on which it reports that it is ready, and its state until it is ready
    /// or has exited.
    starting: Option<(SourceId, Successor)>,
}

/// What to do once another process is ready.
pub(super) struct Handover {
    listeners: Vec<(String, ListenerId)>,
    manager: Rc<Manager>,
    watchdog: Option<TimerId>,
    grace: Duration,
}

impl Supervisor {
    pub(super) fn new(sockets: usize, handover: Handover, program: Program, start_timeout: Duration) -> Supervisor {
        let reserve = Rc::new(Reserve::for_sockets(sockets));
        let handover = Rc::new(handover);
        Supervisor { handover, program, reserve, start_timeout, is_stopping: false, starting: None }
    }

    pub(super) fn handle(&mut self, context: &mut Context<'_>, signal: Signal) {
        match signal {
            Signal::USR2 => self.restart(context),
            _ => self.stop(context, signal),
        }
    }

    fn stop(&mut self, context: &mut Context<'_>, signal: Signal) {
        // A loop that has drained may be run again.
        self.is_stopping &= context.is_draining();
        if self.is_stopping {
            log::info!("{signal} again: exiting immediately");
            return context.shutdown(Duration::ZERO);
        }
        self.is_stopping = true;
        log::info!("{signal}: draining");
        if let Some((source, successor)) = self.starting.take() {
            if context.deregister(source) {
                successor.give_up(context);
            }
        }
        if !context.is_draining() {
            self.handover.manager.notify(&[NotifyState::Stopping]);
        }
        context.drain(self.handover.grace);
    }

    fn restart(&mut self, context: &mut Context<'_>) {
        let is_starting = self.starting.as_ref().is_some_and(|(_, successor)| successor.is_starting());
        if is_starting || context.is_draining() {
            return log::warn!("SIGUSR2 is ignored: a restart or a drain is under way");
        }
        log::info!("SIGUSR2: starting a new process");
        self.handover.manager.reloading();
        // No connection can take the descriptors that are closed here: the loop does not accept before this has
        // returned.
        self.reserve.release();
        let started = self.start(context);
        // The reserve lacks what the new process and its stream take, until they are gone.
        let _ = self.reserve.fill();
        match started {
            Ok(starting) => self.starting = Some(starting),
            Err(error) => self.handover.stays(&format!("cannot start a new process: {error}")),
        }
    }

    fn start(&self, context: &mut Context<'_>) -> io::Result<(SourceId, Successor)> {
        let (child, stream) = self.program.start(self.handover.sockets(context)?)?;
        let successor = Successor::new(child, stream, self.reserve.clone());
        let handover = self.handover.clone();
        let source = context.register(successor.clone(), Interest::READABLE, move |context, successor, _| {
            match successor.listen() {
                Heard::Nothing => return SourceAction::Wait,
                Heard::Ready(process) => handover.hand_over(context, process),
                Heard::End => {
                    let staying = handover.clone();
                    let stays = move |how: &str| staying.stays(&format!("the new process did not become ready: {how}"));
                    successor.end(context, stays);
                }
            }
            SourceAction::Remove
        })?;
        context.set_background(source, true);
        let (start_timeout, handover, late) = (self.start_timeout, self.handover.clone(), successor.clone());
        let timer = context.call_later(start_timeout, move |context| {
            if context.deregister(source) {
                handover.stays(&format!("the new process was not ready after {start_timeout:?}, and was killed"));
                late.give_up(context);
            }
        });
        context.set_background(timer, true);
        Ok((source, successor))
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

    /// Reports that a restart has failed and that this process goes on.
    fn stays(&self, why: &str) {
        log::error!("{why}; this process continues");
        self.manager.notify(&[NotifyState::Ready, NotifyState::Status(why)]);
    }

    /// Returns the sockets to hand on, except those of closed listeners.
    fn sockets(&self, context: &mut Context<'_>) -> io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = Vec::new();
        for (name, id) in &self.listeners {
            let Some(listener) = context.listener(*id) else { continue };
            for socket in listener.sockets() {
                sockets.push((name.clone(), socket.try_clone_to_owned()?));
            }
        }
        Ok(sockets)
    }

    /// Another process listens now: this one finishes what it has begun.
    fn hand_over(&self, context: &mut Context<'_>, process: u32) {
        log::info!("process {process} is ready: draining");
        for (_, id) in &self.listeners {
            if let Some(mut listening) = context.listener(*id) {
                if let Err(error) = listening.set_unlinks(false) {
                    log::warn!("cannot leave the path of listener {id} in place: {error}");
                }
            }
        }
        if let Some(watchdog) = self.watchdog {
            context.cancel_timer(watchdog);
        }
        self.manager.notify(&[NotifyState::MainPid(process), NotifyState::Ready]);
        context.drain(self.grace);
    }
}
