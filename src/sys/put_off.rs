//! A read that is put off: it would only tell that a short one has emptied the socket.

/// Whether that read of a stream is put off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PutOff {
    /// None is put off.
    #[default]
    No,
    /// It is put off until the moment is over.
    Waits,
    /// There was another short read since, which returned whatever the one before had left.
    Renewed,
}

impl PutOff {
    /// There was a short read. Returns the state before.
    pub(super) fn renew(&mut self) -> PutOff {
        let next = if *self == PutOff::No { PutOff::Waits } else { PutOff::Renewed };
        std::mem::replace(self, next)
    }

    /// A moment is over. Returns the state before: if that is `Waits`, the read is due.
    pub(super) fn pass(&mut self) -> PutOff {
        let next = if *self == PutOff::Renewed { PutOff::Waits } else { PutOff::No };
        std::mem::replace(self, next)
    }
}
