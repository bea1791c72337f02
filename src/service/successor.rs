//! A new process that is starting, to take over from this one.

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

/// What a new process says to the one that it takes over from.
pub(super) const READY: &[u8] = b"READY=1\n";

/// When a process that was killed is looked at first. It mostly has ended by then.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Each time after that waits twice as long as the one before, up to this.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How often it is looked at where there is no loop to wait in.
const LOOKS_AT_LAST: u32 = 100;

/// A new process until it is ready, or has ended; shared by all that wait for one of these. As a source it is the stream on
/// which the process says that it is ready.
#[derive(Clone)]
pub(super) struct Successor(Rc<Cell<Option<Starting>>>);

/// The process itself. Killed when it is dropped before it is ready.
struct Starting {
    child: Child,
    stream: mio::net::UnixStream,
    said: Vec<u8>,
    is_ready: bool,
    /// The last field: it is dropped when the stream is closed.
    _refill: Refill,
}

/// Fills the reserve when it is dropped, with the descriptor that has become free just now, before a client has it.
struct Refill(Rc<Reserve>);

pub(super) enum Heard {
    Nothing,
    /// The process with this id is ready.
    Ready(u32),
    /// It has ended, or closed the stream, which comes to the same: it will never say that it is ready.
    End,
}

impl Successor {
    /// `stream` does not block.
    pub(super) fn new(child: Child, stream: UnixStream, reserve: Rc<Reserve>) -> Successor {
        let stream = mio::net::UnixStream::from_std(stream);
        let starting = Starting { child, stream, said: Vec::new(), is_ready: false, _refill: Refill(reserve) };
        Successor(Rc::new(Cell::new(Some(starting))))
    }

    /// `None` where it is ready, or has ended.
    fn with<R>(&self, call: impl FnOnce(&mut Starting) -> R) -> Option<R> {
        let mut starting = self.0.take()?;
        let result = call(&mut starting);
        self.0.set(Some(starting));
        Some(result)
    }

    /// Whether it is neither ready, nor has ended.
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

    /// It is not waited for any longer.
    pub(super) fn give_up(&self, context: &mut Context<'_>) {
        match self.listen() {
            // It may have become ready just now, and serve somebody.
            Heard::Ready(process) => log::warn!("process {process} became ready too late, and goes on by itself"),
            Heard::Nothing | Heard::End => self.end(context, |_| ()),
        }
    }

    /// Ends the process, if it has not ended by itself, and then calls `told` with how it ended. It has not been ready, so
    /// nobody is served by it.
    pub(super) fn end(&self, context: &mut Context<'_>, told: impl FnOnce(&str) + 'static) {
        if let Some(Err(error)) = self.with(|starting| starting.child.kill()) {
            log::error!("cannot end a process that was not ready: {error}");
            self.0.take();
            return told(&error.to_string());
        }
        self.look_for_end(context, Box::new(told), FIRST_LOOK);
    }

    /// Looks whether it has ended, and once more after a while if not: a process that waits for a disk, or is traced, ends
    /// some time after it was killed, and the loop has others to serve meanwhile.
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
            None => "it is gone".to_owned(),
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

    /// Closing the stream has done it before.
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
        // The loop is gone, or the process could not be registered in it. Waiting this long seldom leaves a zombie.
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
