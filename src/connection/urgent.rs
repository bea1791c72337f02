//! Urgent data, and whether to believe that a read would block (rule R6).
//!
//! While a signal is pending for the thread, Linux reports that a read would block, although there is data, if the next
//! byte is the urgent one. No edge follows for that byte, and no call can see that signal. So once an event has hinted
//! at urgent data, a would-block is confirmed: the poller is asked to report the socket's readiness again, and its
//! event has that hint as long as urgent data is unread.

/// What is known of a connection's urgent data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgent {
    /// No event has ever hinted at any: a read that would block is believed.
    Never,
    /// The poller was not asked, or its event had no such hint, or something was read since.
    Unasked,
    /// The poller was asked.
    Asked,
    /// The poller will be asked after a short delay.
    Waits,
}

/// When the poller is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Now,
    /// It has been asked, and its event hinted at urgent data that cannot be read: the bytes before it are missing, or
    /// another signal was pending. Asking again at once would spin.
    Later,
    /// That is arranged already.
    Not,
}

impl Urgent {
    /// An event has hinted at urgent data.
    pub(super) fn hinted_at(self) -> Urgent {
        if self == Urgent::Never { Urgent::Unasked } else { self }
    }

    /// A read has brought something, or the poller was asked and did not hint at urgent data.
    #[inline]
    pub(super) fn confirmed(self) -> Urgent {
        if self == Urgent::Asked { Urgent::Unasked } else { self }
    }

    /// A read would block, and that is not believed.
    pub(super) fn doubted(self) -> (Urgent, Ask) {
        match self {
            Urgent::Never | Urgent::Unasked => (Urgent::Asked, Ask::Now),
            Urgent::Asked => (Urgent::Waits, Ask::Later),
            Urgent::Waits => (Urgent::Waits, Ask::Not),
        }
    }
}
