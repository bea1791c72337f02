//! What reaches a host other than over the network: pipes, standard input, signals.

use super::{HostId, Network};
use crate::UnixAddress;
use crate::testing::{Peer, SimulatedPipe};

/// # Pipes and signals
impl Network {
    /// Makes a two-way pipe on a host. Returns the end that its loop waits for with
    /// [`register`](crate::Context::register), in place of standard input, a pipe to a child process or a device, and
    /// the other end, which the test plays by hand.
    ///
    /// ```
    /// use std::io::Read;
    /// use switchboard::mio::Interest;
    /// use switchboard::SourceAction;
    /// use switchboard::testing::{Faults, Network};
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let host = network.host();
    /// let (stdin, mut terminal) = network.pipe(host);
    /// let typed = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
    /// let noted = typed.clone();
    /// network.context(host).register(stdin, Interest::READABLE, move |_, stdin, _| {
    ///     let mut buffer = [0; 80];
    ///     match stdin.read(&mut buffer) {
    ///         Ok(0) => SourceAction::Remove,
    ///         Ok(count) => {
    ///             noted.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..count]));
    ///             SourceAction::Again
    ///         }
    ///         Err(_) => SourceAction::Wait,
    ///     }
    /// }).unwrap();
    /// terminal.queue(b"hello\n");
    /// network.run_until_rest();
    /// assert_eq!(*typed.borrow(), "hello\n");
    /// ```
    ///
    /// # Panics
    ///
    /// Never, for a host of this network.
    pub fn pipe(&mut self, host: HostId) -> (SimulatedPipe, Peer) {
        let (pipe, end) = self.sim.pipe(host.0, &UnixAddress::Unnamed.into());
        (pipe, Peer::new(end))
    }

    /// Sends a signal to the process of a host, and returns whether anything waits for it. The loop tells the handlers
    /// of [`signals`](crate::signals) that wait for it, once for each kind that arrives before it looks. If none waits,
    /// the signal has its default effect: most end the process, as [`crash`](Network::crash) does with
    /// [`Crash::Killed`](crate::testing::Crash::Killed); those that are ignored, or that stop and continue a process,
    /// have none.
    ///
    /// # Panics
    ///
    /// If the host is the one that peers are on.
    #[cfg(feature = "signals")]
    pub fn raise(&mut self, host: HostId, signal: crate::signals::Signal) -> bool {
        use crate::signals::Signal;
        let is_wanted = self.sim.raise(host.0, signal.as_raw());
        let does_nothing = [Signal::CHLD, Signal::CONT, Signal::TSTP, Signal::WINCH].contains(&signal);
        if !is_wanted && !does_nothing {
            self.crash(host, crate::testing::Crash::Killed);
        }
        is_wanted
    }
}
