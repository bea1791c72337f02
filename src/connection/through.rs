//! The filters of a blocking stream: its reads and writes drive them, in the thread that makes the call.
//!
//! Each call on the stream runs within [`Waits`], so that it waits as long as one on its socket does, however often it
//! reads or writes.

use std::io;
use std::mem;
use std::time::Instant;

use crate::Address;
use crate::filter::chain::Chain;
use crate::filter::{Filter, STEP_BYTES_MAX};
use crate::sys::{Stream, Waits};

/// How much is read from the socket at once: more than a TLS record.
const READ_BYTES: usize = 32 * 1024;

/// How much may arrive while a filter takes no written data before its peer has responded.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Through {
    chain: Box<Chain>,
    /// The buffer for reads; empty before the first one.
    incoming: Vec<u8>,
    /// Whether the filters have passed on everything that they can make of the input so far.
    is_dry: bool,
    has_ended: bool,
    /// How one of them has failed, as it was reported.
    failed: Option<String>,
    failed_as: io::ErrorKind,
    /// Whether a call into one of them did not return: the filter has panicked, and what it was given is lost.
    is_torn: bool,
    /// Whether the last call that was to send something failed.
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

    /// Returns its filters, for a loop, which reports again what was reported here.
    pub(super) fn into_chain(mut self) -> Box<Chain> {
        if self.is_torn {
            // Whatever that call has passed up or down is not whole.
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

    /// Returns the peer's address, if a filter has set it since the last call.
    pub(super) fn take_peer(&mut self) -> Option<Address> {
        self.chain.said.peer.take()
    }

    /// Returns whether no filter is left, nor anything that they have said or kept.
    pub(super) fn is_dissolved(&self) -> bool {
        self.chain.is_dissolved() && !self.has_ended && !self.has_failed()
    }

    /// Returns whether the peer lacks some of the written data, or we lack some of the peer's.
    pub(super) fn is_short(&self) -> bool {
        let is_cut = self.failed_as == io::ErrorKind::UnexpectedEof;
        self.has_failed_to_write || self.owes() || is_cut || self.is_torn
    }

    /// Returns whether there is output that was not sent.
    fn owes(&self) -> bool {
        self.chain.outward_bytes() > 0
    }

    /// Returns whether written data is no longer sent anywhere.
    pub(super) fn has_failed(&self) -> bool {
        self.is_torn || self.chain.has_failed()
    }

    /// Reads until something has passed through the filters, and appends that to `unread`. At the end of the stream, as
    /// the uppermost filter reports it, nothing is appended.
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

    /// Has the filters take some of `data`, and sends what they make of it. Returns how much they have taken: that
    /// belongs to them, whether or not it is sent.
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
                        // What was taken must not be written again. The next call continues with it.
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

    /// Sends the filters' output.
    pub(super) fn flush(&mut self, stream: &mut Stream, unread: &mut Vec<u8>) -> io::Result<()> {
        self.sending(stream, |this, stream, waits| this.push(stream, unread, waits))
    }

    /// Has the filters announce the end of our half after all written data, and closes it.
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

    /// Calls the filters.
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

    /// Returns an error if a filter has panicked.
    fn is_whole(&self) -> io::Result<()> {
        match self.is_torn {
            true => Err(io::Error::other("a filter of this stream panicked")),
            false => Ok(()),
        }
    }

    /// Returns an error if a filter has failed: the first time with the filter's own error as the cause, from then on
    /// with its text.
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

    /// Sends as much of the filters' output as possible without waiting: a reader must not be held up by a peer that
    /// reads nothing. If a filter has failed, that output is its last word.
    fn say(&mut self, stream: &mut Stream) -> io::Result<()> {
        if self.failed_as != io::ErrorKind::UnexpectedEof {
            let net = self.chain.net();
            while let (false, Ok(count @ 1..)) = (net.is_empty(), stream.write_at_once(net.rest())) {
                net.consume(count);
            }
        }
        if self.chain.plain().is_empty() { self.check() } else { Ok(()) }
    }

    /// Has the filters continue with what they have kept or, if they cannot, with the result of one read.
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

    /// Gives the filters what has arrived: the end of the stream, if that is empty.
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
            self.chain.fail_for("a filter left more input unread than may be buffered".into());
        }
    }

    /// Sends the filters' output; if a filter takes nothing from above, waits for its peer.
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

    /// A filter takes no written data before something has arrived from its peer: waits for that.
    fn await_peer(&mut self, stream: &mut Stream, unread: &mut Vec<u8>, waits: &mut Waits) -> io::Result<()> {
        if self.has_ended {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "a filter waits for data, but its peer has ended the stream",
            ));
        }
        if unread.len() > AHEAD_BYTES_MAX {
            return Err(io::Error::other("the peer sends data, but not what a filter needs before it can take output"));
        }
        self.pull(stream, waits)?;
        self.hand_up(unread);
        self.check()
    }
}

/// Returns whether the same call may succeed later: it has timed out, or was interrupted.
fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
