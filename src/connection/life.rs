//! The life of a connection: its states, and the table of transitions.
//!
#![doc = include_str!("life.md")]

/// A state. Nothing is delivered in `Connecting`, and no callback runs any more in `Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not established yet. Written data is queued.
    Connecting,
    /// The same, and `shutdown_write` was called.
    ConnectingFinQueued,
    /// Both halves are open.
    Open,
    /// The peer's end of stream was read; we may still write.
    ReadClosed,
    /// `shutdown_write` was called: the queue is sent, then FIN. Reading continues.
    FinQueued,
    /// FIN was sent. Reading continues.
    WriteClosed,
    /// A send failed. Input that had arrived before is still delivered, then the connection is lost.
    Failing,
    /// `close` was called: the queue is sent, then the connection ends.
    Flushing,
    /// The same, and the peer's end of stream was read.
    FlushingAfterEnd,
    /// `detach` was called: whatever can be sent at once is, then the loop releases it.
    Detaching,
    /// Everything is sent, FIN too; further input is discarded, so that no reset of ours destroys the last answer.
    Lingering,
    /// The socket is closed; `connection_lost` is due.
    Lost,
    /// `connection_lost` was called; the slot is freed at the end of the turn.
    Gone,
}

impl State {
    #[inline]
    pub(crate) fn is_connecting(self) -> bool {
        matches!(self, State::Connecting | State::ConnectingFinQueued)
    }

    /// Returns whether it has not ended.
    #[inline]
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, State::Lost | State::Gone)
    }

    /// Returns whether data that is written now will be sent, and the protocol told of marks.
    #[inline]
    pub(super) fn can_write(self) -> bool {
        matches!(self, State::Open | State::ReadClosed | State::Connecting)
    }

    /// Returns whether input is given to the protocol.
    #[inline]
    pub(crate) fn delivers_input(self) -> bool {
        matches!(self, State::Open | State::FinQueued | State::WriteClosed | State::Failing)
    }

    /// Returns whether input that the protocol has left is kept: for later, or for the receiver of a detached
    /// connection.
    pub(super) fn keeps_input(self) -> bool {
        self.delivers_input() || self == State::Detaching
    }

    /// Returns whether an end has begun that sends the queue first.
    pub(super) fn is_flushing(self) -> bool {
        matches!(self, State::Flushing | State::FlushingAfterEnd)
    }

    /// Returns whether an orderly end has begun, or it has ended.
    pub(super) fn is_closing(self) -> bool {
        self.is_flushing() || matches!(self, State::Detaching | State::Lingering) || !self.is_alive()
    }

    /// Returns whether timeouts apply: a closing connection has a deadline of its own.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, State::Open | State::ReadClosed | State::FinQueued | State::WriteClosed)
    }
}

/// What may lead to another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An attempt to connect has succeeded.
    Established,
    /// The peer's end of stream was read.
    PeerEnded,
    ShutdownWrite,
    Close,
    Detach,
    /// The queue is empty: FIN can be sent, or nothing else was waited for.
    AllSent,
    /// The same, and the peer may still be sending.
    InputLeft,
    /// A send has failed while earlier input may be left.
    SendFailed,
    /// The socket is closed: after one of the events above, or because of a failed read, an abort, a limit, a deadline
    /// or a panic.
    Ended,
    /// `connection_lost` was called.
    Told,
}

const EVENTS: usize = Event::Told as usize + 1;
const STATES: usize = State::Gone as usize + 1;

#[cfg(test)]
impl State {
    pub(crate) const ALL: [State; STATES] = {
        use State::*;
        [
            Connecting,
            ConnectingFinQueued,
            Open,
            ReadClosed,
            FinQueued,
            WriteClosed,
            Failing,
            Flushing,
            FlushingAfterEnd,
            Detaching,
            Lingering,
            Lost,
            Gone,
        ]
    };

    pub(crate) fn after(self, event: Event) -> State {
        TABLE[self as usize][event as usize]
    }
}

#[cfg(test)]
impl Event {
    pub(crate) const ALL: [Event; EVENTS] = {
        use Event::*;
        [Established, PeerEnded, ShutdownWrite, Close, Detach, AllSent, InputLeft, SendFailed, Ended, Told]
    };
}

/// The state that each event leads to. Only `Ended` enters `Lost`: if another event leads there, the loop closes the
/// socket.
#[rustfmt::skip]
const TABLE: [[State; EVENTS]; STATES] = {
    use State::{
        Connecting as C, ConnectingFinQueued as CFin, Detaching as Det, Failing as Fail, FinQueued as Fin, Flushing as Flush,
        FlushingAfterEnd as FlushE, Gone, Lingering as Ling, Lost, Open, ReadClosed as RClosed, WriteClosed as WClosed,
    };
    // Established, PeerEnded, ShutdownWrite, Close, Detach, AllSent, InputLeft, SendFailed, Ended, Told
    [
        [Open,    C,       CFin,    Lost,   C,      C,       C,       C,      Lost, C      ],
        [Fin,     CFin,    CFin,    Lost,   CFin,   CFin,    CFin,    CFin,   Lost, CFin   ],
        [Open,    RClosed, Fin,     Flush,  Det,    Open,    Open,    Fail,   Lost, Open   ],
        [RClosed, RClosed, FlushE,  FlushE, Det,    RClosed, RClosed, Lost,   Lost, RClosed],
        [Fin,     FlushE,  Fin,     Flush,  Fin,    WClosed, Fin,     Fail,   Lost, Fin    ],
        [WClosed, FlushE,  WClosed, Flush,  WClosed, WClosed, WClosed, WClosed, Lost, WClosed],
        [Fail,    Lost,    Fail,    Lost,   Fail,   Fail,    Fail,    Fail,   Lost, Fail   ],
        [Flush,   Flush,   Flush,   Flush,  Flush,  Lost,    Ling,    Lost,   Lost, Flush  ],
        [FlushE,  FlushE,  FlushE,  FlushE, FlushE, Lost,    Ling,    Lost,   Lost, FlushE ],
        [Det,     Det,     Det,     Det,    Det,    Lost,    Det,     Lost,   Lost, Det    ],
        [Ling,    Lost,    Ling,    Ling,   Ling,   Ling,    Ling,    Ling,   Lost, Ling   ],
        [Lost,    Lost,    Lost,    Lost,   Lost,   Lost,    Lost,    Lost,   Lost, Gone   ],
        [Gone,    Gone,    Gone,    Gone,   Gone,   Gone,    Gone,    Gone,   Gone, Gone   ],
    ]
};

/// The state of a connection, which only the table changes.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    state: State,
}

impl Life {
    /// Returns the life of a connection that is established already, or of one that is not.
    #[inline]
    pub(super) fn new(established: bool) -> Life {
        Life { state: if established { State::Open } else { State::Connecting } }
    }

    #[inline]
    pub(crate) fn state(self) -> State {
        self.state
    }

    /// Returns the state that an event leads to.
    #[inline]
    pub(crate) fn after(self, event: Event) -> State {
        TABLE[self.state as usize][event as usize]
    }

    /// Records an event. Returns whether it has led to another state; except for `Ended`, a transition to `Lost` is
    /// left to the loop.
    #[inline]
    pub(super) fn step(&mut self, event: Event) -> bool {
        let (before, after) = (self.state, self.after(event));
        let moves = after != before && (after != State::Lost || event == Event::Ended);
        if moves {
            self.step_from(before, event);
        }
        moves
    }

    /// Like [`step`](Life::step), from a state that the caller has just checked and that the event leads away from.
    #[inline]
    pub(super) fn step_from(&mut self, before: State, event: Event) {
        debug_assert_eq!(self.state, before);
        self.state = TABLE[before as usize][event as usize];
        #[cfg(test)]
        crate::tests::states::note(before, event, self.state);
    }
}
