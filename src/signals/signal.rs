//! The signals that a program may wait for.

use std::fmt;

/// A signal that a program may wait for.
///
/// Not included are those that cannot be caught (SIGKILL, SIGSTOP), those that report a fault of the program where it
/// happened (SIGSEGV and the like), and SIGPIPE, which the loop keeps from being raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The terminal has hung up. Many servers read their configuration again. Ends the process by default.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Ctrl-C. Ends the process by default.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Ctrl-\\. Ends the process by default.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// For the program's own use. Ends the process by default.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For the program's own use. Ends the process by default.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// A timer of `alarm` or `setitimer`. Ends the process by default.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// Asks the process to end, which it does by default.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// A child has ended or was stopped. Ignored by default.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// The process continues after it was stopped.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// Ctrl-Z. Stops the process by default.
    pub const TSTP: Signal = Signal(libc::SIGTSTP);
    /// The terminal's window was resized. Ignored by default.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);

    const ALL: [Signal; 11] = [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALRM,
        Signal::TERM,
        Signal::CHLD,
        Signal::CONT,
        Signal::TSTP,
        Signal::WINCH,
    ];

    /// Returns the signal with this number of the system's, if it is one of these.
    pub fn from_raw(number: i32) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.0 == number)
    }

    /// Returns the system's number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// Its name, such as `SIGTERM`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(signal_hook::low_level::signal_name(self.0).unwrap_or("a signal"))
    }
}
