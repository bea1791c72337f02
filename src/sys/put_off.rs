//! A deferred read, which would only tell whether a short one has emptied the socket.

/// Whether a stream's read is deferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PutOff {
    /// No read is deferred.
    #[default]
    No,
    /// A read is deferred until a short delay is over.
    Waits,
    /// There has been another short read since, which returned whatever the one before had left.
    Renewed,
}

impl PutOff {
    /// Records a short read. Returns the previous state.
    pub(super) fn renew(&mut self) -> PutOff {
        let next = if *self == PutOff::No { PutOff::Waits } else { PutOff::Renewed };
        std::mem::replace(self, next)
    }

    /// The delay is over. Returns the previous state: if that is `Waits`, the read is due.
    pub(super) fn pass(&mut self) -> PutOff {
        let next = if *self == PutOff::Renewed { PutOff::Waits } else { PutOff::No };
        std::mem::replace(self, next)
    }
}
