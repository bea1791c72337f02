//! A read that is put off: the one that would tell that a short one has left nothing.

/// How it stands with that read of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PutOff {
    /// None is put off.
    #[default]
    No,
    /// It is put off until the moment is over.
    Waits,
    /// Another short read has come since: what the one before has left, that has brought.
    Renewed,
}

impl PutOff {
    /// A short read has come. Returns how it stood before.
    pub(super) fn renew(&mut self) -> PutOff {
        let next = if *self == PutOff::No { PutOff::Waits } else { PutOff::Renewed };
        std::mem::replace(self, next)
    }

    /// A moment is over. Returns how it stood before: where that is `Waits`, the read is due.
    pub(super) fn pass(&mut self) -> PutOff {
        let next = if *self == PutOff::Renewed { PutOff::Waits } else { PutOff::No };
        std::mem::replace(self, next)
    }
}
