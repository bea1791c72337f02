//! A new process that is starting and will take over from this one.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::reserve::Reserve;
use switchboard::Context;

/// What a new process writes to the one that it replaces.
pub(super) const READY: &[u8] = b"READY=1\n";

/// How long after a process was killed it is first checked. It has mostly ended by then.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// The longest time between two checks: each waits twice as long as the one before.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How many times it is checked if there is no loop to wait in.
const LOOKS_AT_LAST: u32 = 100;

/// A new process until it is ready or has exited; shared by everything that waits for either. As a source it is the
/// stream on which the process reports that it is ready.
#[derive(Clone)]
pub(super) struct Successor(Rc<Cell<Option<Starting>>>);

/// The process itself. It is killed if this is dropped before it is ready.
struct Starting {
    child: Child,
    stream: mio::net::UnixStream,
    said: Vec<u8>,
    is_ready: bool,
    /// The last field, so that it is dropped after the stream is closed.
    _refill: Refill,
}

/// Refills the reserve when it is dropped, with the descriptor that has just become free, before a client can take it.
struct Refill(Rc<Reserve>);

pub(super) enum Heard {
    Nothing,
    /// The process with this id is ready.
    Ready(u32),
    /// It has exited or closed the stream; either way it will never report that it is ready.
    End,
}

impl Successor {
    /// `stream` must be non-blocking.
    pub(super) fn new(child: Child, stream: UnixStream, reserve: Rc<Reserve>) -> Successor {
        let stream = mio::net::UnixStream::from_std(stream);
        let starting = Starting { child, stream, said: Vec::new(), is_ready: false, _refill: Refill(reserve) };
        Successor(Rc::new(Cell::new(Some(starting))))
    }

    /// Returns `None` if the process is ready or has exited.
    fn with<R>(&self, call: impl FnOnce(&mut Starting) -> R) -> Option<R> {
        let mut starting = self.0.take()?;
        let result = call(&mut starting);
        self.0.set(Some(starting));
        Some(result)
    }

    /// Returns whether the process is neither ready nor has exited.
    pub(super) fn is_starting(&self) -> bool {
        self.with(|_| ()).is_some()
    }

    pub(super) fn listen(&self) -> Heard {
        let heard = self.with(Starting::listen).unwrap_or(Heard::End);
        if matches!(heard, Heard::Ready(_)) {
            self.0.take();
        }
        heard
    }

    /// Stops waiting for the process.
    pub(super) fn give_up(&self, context: &mut Context<'_>) {
        match self.listen() {
            // It may have become ready just now, and be serving a client.
            Heard::Ready(process) => log::warn!("process {process} became ready too late, and keeps running"),
            Heard::Nothing | Heard::End => self.end(context, |_| ()),
        }
    }

    /// Kills the process, unless it has exited by itself, and then calls `told` with how it ended. It was not ready, so
    /// it serves no clients.
    pub(super) fn end(&self, context: &mut Context<'_>, told: impl FnOnce(&str) + 'static) {
        if let Some(Err(error)) = self.with(|starting| starting.child.kill()) {
            log::error!("cannot kill the process that was not ready: {error}");
            self.0.take();
            return told(&error.to_string());
        }
        self.look_for_end(context, Box::new(told), FIRST_LOOK);
    }

    /// Checks whether the process has exited, and if not, again after a while: a process that waits for a disk or is
    /// traced exits some time after it was killed, and the loop must serve others meanwhile.
    fn look_for_end(&self, context: &mut Context<'_>, told: Box<dyn FnOnce(&str)>, next_look: Duration) {
        let end = match self.with(|starting| starting.child.try_wait()) {
            Some(Ok(None)) => {
                let successor = self.clone();
                let later = (next_look * 2).min(LAST_LOOK);
                let look = move |context: &mut Context<'_>| successor.look_for_end(context, told, later);
                let timer = context.call_later(next_look, look);
                context.set_background(timer, true);
                return;
            }
            Some(Ok(Some(status))) => status.to_string(),
            Some(Err(error)) => error.to_string(),
            None => "it has exited".to_owned(),
        };
        self.0.take();
        told(&end);
    }
}

impl Source for Successor {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.with(|starting| starting.stream.register(registry, token, interests)).unwrap_or(Ok(()))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.with(|starting| starting.stream.reregister(registry, token, interests)).unwrap_or(Ok(()))
    }

    /// Does nothing if the stream was closed, which has deregistered it.
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.with(|starting| starting.stream.deregister(registry)).unwrap_or(Ok(()))
    }
}

impl Starting {
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

impl Drop for Starting {
    fn drop(&mut self) {
        if self.is_ready || self.child.kill().is_err() {
            return;
        }
        // The loop is gone, or the process could not be registered in it. Waiting this long rarely leaves a zombie.
        for _ in 0..LOOKS_AT_LAST {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(FIRST_LOOK);
        }
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        let _ = self.0.fill();
    }
}
