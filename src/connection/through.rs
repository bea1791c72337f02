//! The filters of a blocking stream: those who read and write it drive them, in a thread of their own.
//!
//! One call on the stream is within [`Waits`], so that it waits as one on its socket does, however often it reads or writes.

use std::io;
use std::mem;
use std::time::Instant;

use crate::Address;
use crate::filter::chain::Chain;
use crate::filter::{Filter, STEP_BYTES_MAX};
use crate::sys::{Stream, Waits};

/// How much is read from the socket at once: a record of TLS, and more.
const READ_BYTES: usize = 32 * 1024;

/// So much may come while a filter takes nothing of what is written before its peer has answered.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Through {
    chain: Box<Chain>,
    /// What a read brings; none before the first.
    incoming: Vec<u8>,
    /// Whether filters were asked for all that they make of what has come.
    is_dry: bool,
    has_ended: bool,
    /// How one of them has failed, as was told.
    failed: Option<String>,
    failed_as: io::ErrorKind,
    /// One of them has not returned from its call: it has panicked, and what it was given is lost.
    is_torn: bool,
    /// Whether the last call failed that was to send something.
    has_failed_to_write: bool,
}

impl Through {
    pub(super) fn new(chain: Box<Chain>) -> Through {
        let has_ended = chain.has_ended();
        Through {
            chain,
            incoming: Vec::new(),
            is_dry: false,
            has_ended,
            failed: None,
            failed_as: io::ErrorKind::InvalidData,
            is_torn: false,
            has_failed_to_write: false,
        }
    }

    /// Its filters, for a loop. What was told here is told there again.
    pub(super) fn into_chain(mut self) -> Box<Chain> {
        if self.is_torn {
            // Whatever that call has put up and down, it is not whole.
            self.chain.plain().clear();
            self.chain.drop_output();
        }
        self.chain.said.end = self.has_ended;
        if self.chain.said.failure.is_none() {
            if let Err(error) = self.check() {
                self.chain.fail_for(error.into());
            }
        }
        self.chain
    }

    pub(super) fn find<T: Filter>(&self) -> Option<&T> {
        self.chain.find()
    }

    /// Who the peer is, where a filter has said so since the last call.
    pub(super) fn take_peer(&mut self) -> Option<Address> {
        self.chain.said.peer.take()
    }

    /// Whether no filter is left, nor anything that they have said or kept.
    pub(super) fn is_dissolved(&self) -> bool {
        self.chain.is_dissolved() && !self.has_ended && !self.has_failed()
    }

    /// Whether its peer has not got all that was written, or we have not got all of the peer's.
    pub(super) fn is_short(&self) -> bool {
        let is_cut = self.failed_as == io::ErrorKind::UnexpectedEof;
        self.has_failed_to_write || self.owes() || is_cut || self.is_torn
    }

    /// Whether something that goes out stands here still.
    fn owes(&self) -> bool {
        self.chain.outward_bytes() > 0
    }

    /// Whether what is written goes nowhere any more.
    pub(super) fn has_failed(&self) -> bool {
        self.is_torn || self.chain.has_failed()
    }

    /// Reads until something has come through the filters, and appends that to `unread`. Nothing is appended at the end of the
    /// stream, as the uppermost filter has it.
    pub(super) fn fill(&mut self, stream: &mut Stream, unread: &mut Vec<u8>) -> io::Result<()> {
        self.is_whole()?;
        Waits::within(stream, |stream, waits| {
            loop {
                self.hand_up(unread);
                if !unread.is_empty() {
                    return Ok(());
                }
                self.say(stream)?;
                if self.has_ended && self.chain.plain().is_empty() {
                    return Ok(());
                }
                self.pull(stream, waits)?;
            }
        })
    }

    /// Has the filters take some of `data`, and sends what they make of it. Returns how much they have taken: that is theirs,
    /// whether or not it is out.
    pub(super) fn write(&mut self, stream: &mut Stream, unread: &mut Vec<u8>, data: &[u8]) -> io::Result<usize> {
        self.sending(stream, |this, stream, waits| {
            loop {
                this.push(stream, unread, waits)?;
                this.check()?;
                if this.chain.is_finishing() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let some = &data[..data.len().min(STEP_BYTES_MAX)];
                let taken = this.call(waits, |chain, now| chain.send(some, now));
                if taken > 0 {
                    return match this.push(stream, unread, waits) {
                        // What was taken must not be written again. The next call goes on with it.
                        Err(error) if may_go_on(&error) => Ok(taken),
                        result => result.and_then(|()| this.check()).map(|()| taken),
                    };
                }
                if !this.owes() {
                    this.await_peer(stream, unread, waits)?;
                }
            }
        })
    }

    /// Sends what the filters have put down.
    pub(super) fn flush(&mut self, stream: &mut Stream, unread: &mut Vec<u8>) -> io::Result<()> {
        self.sending(stream, |this, stream, waits| this.push(stream, unread, waits))
    }

    /// Has the filters say the end of our half behind all that was written, and ends it.
    pub(super) fn finish(&mut self, stream: &mut Stream, unread: &mut Vec<u8>) -> io::Result<()> {
        self.sending(stream, |this, stream, waits| {
            this.push(stream, unread, waits)?;
            let had_failed = this.has_failed();
            if !had_failed {
                this.call(waits, |chain, now| chain.finish(now));
                this.push(stream, unread, waits)?;
            }
            stream.shutdown_write()?;
            if had_failed { Ok(()) } else { this.check() }
        })
    }

    fn sending<R>(
        &mut self,
        stream: &mut Stream,
        code: impl FnOnce(&mut Through, &mut Stream, &mut Waits) -> io::Result<R>,
    ) -> io::Result<R> {
        self.is_whole()?;
        let result = Waits::within(stream, |stream, waits| code(self, stream, waits));
        self.has_failed_to_write = result.is_err();
        result
    }

    /// Calls filters.
    fn call<R>(&mut self, waits: &Waits, code: impl FnOnce(&mut Chain, Instant) -> R) -> R {
        self.is_torn = true;
        let answer = code(&mut self.chain, waits.now());
        self.is_torn = false;
        self.is_dry = false;
        self.has_ended |= mem::take(&mut self.chain.said.end);
        answer
    }

    fn hand_up(&mut self, unread: &mut Vec<u8>) {
        let plain = self.chain.plain();
        unread.extend_from_slice(plain.rest());
        plain.clear();
    }

    /// An error where a filter has panicked.
    fn is_whole(&self) -> io::Result<()> {
        match self.is_torn {
            true => Err(io::Error::other("a filter of this stream has panicked")),
            false => Ok(()),
        }
    }

    /// An error where a filter has failed: its own the first time, which then is the cause, and what that said from then on.
    fn check(&mut self) -> io::Result<()> {
        self.is_whole()?;
        if let Some(failure) = self.chain.said.failure.take() {
            self.failed = Some(failure.to_string());
            return Err(io::Error::new(self.failed_as, failure));
        }
        match &self.failed {
            Some(text) => Err(io::Error::new(self.failed_as, text.clone())),
            None => Ok(()),
        }
    }

    /// What was put down goes out as far as it can without waiting: a reader must not be held up by a peer that reads
    /// nothing. Where a filter has failed that is its last word.
    fn say(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.failed_as != io::ErrorKind::UnexpectedEof {
            let net = self.chain.net();
            while let (false, Ok(count @ 1..)) = (net.is_empty(), stream.write_at_once(net.rest())) {
                net.consume(count);
            }
        }
        if self.chain.plain().is_empty() { self.check() } else { Ok(()) }
    }

    /// Has the filters go on with what they have kept or, where they cannot, with what one read brings.
    fn pull(&mut self, stream: &mut Stream, waits: &mut Waits) -> io::Result<()> {
        if !self.is_dry {
            let (_, moved) = self.call(waits, |chain, now| chain.receive(&mut [], now));
            self.is_dry = !moved;
            if moved || self.has_failed() || !self.chain.net().is_empty() {
                return Ok(());
            }
        }
        let mut incoming = mem::take(&mut self.incoming);
        incoming.resize(READ_BYTES, 0);
        let result = waits.read(stream, &mut incoming).map(|count| self.receive(waits, &mut incoming[..count]));
        self.incoming = incoming;
        result
    }

    /// Gives the filters what has come: the end of the stream, if that is nothing.
    fn receive(&mut self, waits: &Waits, data: &mut [u8]) {
        if data.is_empty() {
            self.call(waits, |chain, now| chain.receive_end(now));
            if self.chain.has_failed() {
                self.failed_as = io::ErrorKind::UnexpectedEof;
            }
            return;
        }
        let (moved, is_kept) = self.call(waits, |chain, now| {
            let answer = chain.receive(data, now);
            (answer.1, chain.keep(&data[answer.0..]))
        });
        self.is_dry = !moved;
        if !is_kept {
            self.chain.fail_for("more has come than is kept for a filter that leaves it".into());
        }
    }

    /// Sends what the filters have put down; one that takes nothing from above waits for its peer.
    fn push(&mut self, stream: &mut Stream, unread: &mut Vec<u8>, waits: &mut Waits) -> io::Result<()> {
        loop {
            let net = self.chain.net();
            while !net.is_empty() {
                match waits.write(stream, net.rest())? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => net.consume(count),
                }
            }
            if !self.owes() || self.has_failed() {
                return Ok(());
            }
            self.await_peer(stream, unread, waits)?;
        }
    }

    /// A filter takes nothing of what comes from above before something has come from below.
    fn await_peer(&mut self, stream: &mut Stream, unread: &mut Vec<u8>, waits: &mut Waits) -> io::Result<()> {
        if self.has_ended {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "a filter waits for what its peer will not say any more",
            ));
        }
        if unread.len() > AHEAD_BYTES_MAX {
            return Err(io::Error::other("much comes, and not what a filter waits for before it can be written to"));
        }
        self.pull(stream, waits)?;
        self.hand_up(unread);
        self.check()
    }
}

/// Whether the same call may succeed later: it has only waited for long enough, or was interrupted.
fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
