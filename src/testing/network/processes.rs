//! What befalls the process of a host, and its machine.

use std::io;
use std::time::Duration;

use super::{HostId, Network};
use crate::LoopLimits;
use crate::testing::{Call, Crash};

/// What the network knows of a host's process beside its loop.
#[derive(Default)]
pub(super) struct Process {
    /// What its loop was made with; none where only peers live.
    pub(super) limits: Option<LoopLimits>,
    paused: bool,
    /// How long its turns take.
    pace: Option<(Duration, Duration)>,
    /// When the turn is done that it is at.
    turns_at: Option<Duration>,
}

/// # Processes
impl Network {
    /// Crashes a host: its loop is gone, and its protocols, and none of them is told. Only their destructors run. Nothing is
    /// sent from here on but what `how` says. What comes from before is still under way.
    ///
    /// Until [`restart`](Network::restart) the host has no loop: what needs one panics. What was said of the host stays:
    /// names, links, its clock, its pace, calls that are to fail. Only paused it is no more.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard::testing::{Crash, Faults, Network};
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let server = network.host();
    /// let address = network.address(server, 7);
    /// network.context(server).listen(address, |_, _| Some(Echo)).unwrap();
    /// let mut peer = network.peer(address);
    /// network.run_until_rest();
    ///
    /// network.crash(server, Crash::Silent);
    /// peer.queue(b"is anybody there?");
    /// network.run_for(Duration::from_secs(60));
    /// assert!(peer.is_connected(), "it cannot know yet");
    ///
    /// network.restart(server); // nothing listens there before the test has it do so
    /// network.run_for(Duration::from_secs(2));
    /// assert!(!peer.is_connected(), "the machine knows nothing of this connection, and resets it");
    /// ```
    ///
    /// # Panics
    ///
    /// For the host that peers are on, which a test plays by hand.
    pub fn crash(&mut self, host: HostId, how: Crash) {
        assert!(self.outside != Some(host), "peers have no loop");
        // The sockets first: what destructors do to them does nothing then.
        self.sim.crash(host.0, how);
        self.connects.retain(|connect| connect.host != host);
        if let Some(event_loop) = self.hosts[host.0].take() {
            event_loop.crash();
        }
        self.idle_turns[host.0] = 0;
        let process = &mut self.processes[host.0];
        (process.paused, process.turns_at) = (false, None);
    }

    /// Starts a host again, with a new loop that has the limits of its first one. It listens nowhere, and knows nothing of
    /// what was. A host whose loop still runs is [killed](Crash::Killed) before.
    ///
    /// # Panics
    ///
    /// For a host that never had a loop: the one that peers are on.
    pub fn restart(&mut self, host: HostId) {
        let limits = self.processes[host.0].limits.clone().expect("peers have no loop");
        if self.hosts[host.0].is_some() {
            self.crash(host, Crash::Killed);
        }
        self.sim.restart(host.0);
        self.start_loop(host, limits);
    }

    /// Turns the loop of a host no more until [`resume`](Network::resume), as if its process were stopped. Its kernel goes
    /// on: it takes what comes while there is room, and answers connects while there is room in the backlog.
    pub fn pause(&mut self, host: HostId) {
        self.sim.note(format_args!("host {} is paused", host.0));
        self.processes[host.0].paused = true;
    }

    /// Takes [`pause`](Network::pause) back. Timers that are overdue fire in the next turn.
    pub fn resume(&mut self, host: HostId) {
        self.sim.note(format_args!("host {} goes on", host.0));
        self.processes[host.0].paused = false;
    }

    /// Each turn of a host's loop takes from `least` to `most`, as on a machine that is busy: it comes so long after there is
    /// something to do, and then does what there is by then. Zero for both makes the host fast again. The loop's own clock
    /// does not move within a turn.
    pub fn slow_host(&mut self, host: HostId, least: Duration, most: Duration) {
        self.sim.note(format_args!("turns of host {} take {least:?} to {most:?}", host.0));
        let process = &mut self.processes[host.0];
        process.pace = (!most.is_zero()).then_some((least, most));
        process.turns_at = None;
    }

    /// How fast the clock of a host runs, in seconds for each second of the network's: its timers come sooner or later by
    /// that. Real clocks are wrong by some 0.0001. To the millionth; 1.0 is right.
    ///
    /// # Panics
    ///
    /// For a rate that is not from 0.001 to 1,000.
    pub fn set_clock_rate(&mut self, host: HostId, rate: f64) {
        assert!((0.001..=1000.0).contains(&rate), "{rate} is no rate for a clock");
        self.sim.set_clock_rate(host.0, (rate * 1e6).round() as u64);
    }

    /// The clock of a host jumps ahead, as that of a virtual machine does which was suspended. (It never goes back, being
    /// monotonic.)
    pub fn jump_clock(&mut self, host: HostId, by: Duration) {
        self.sim.jump_clock(host.0, by);
    }

    /// The `kth` call of this kind that the loop of a host makes from now on fails by this error; 1 is the next one. Several
    /// can be told to fail. Those count, too, that find nothing to do. An error of the kind `WouldBlock` promises the loop an
    /// event that will not come.
    ///
    /// ```
    /// # use std::io;
    /// use switchboard::testing::{Call, Faults, Network};
    /// # use switchboard::{Protocol, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    /// #         transport.write(data);
    /// #         data.len()
    /// #     }
    /// # }
    ///
    /// let mut network = Network::new(0, Faults::none());
    /// let server = network.host();
    /// let address = network.address(server, 7);
    /// network.fail_call(server, Call::Listen, 1, io::ErrorKind::PermissionDenied.into());
    /// assert!(network.context(server).listen(address, |_, _| Some(Echo)).is_err());
    /// assert!(network.context(server).listen(address, |_, _| Some(Echo)).is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// For 0, and for a host that has no loop: the one that peers are on.
    pub fn fail_call(&mut self, host: HostId, call: Call, kth: u64, error: io::Error) {
        assert!(kth > 0, "calls are counted from 1");
        assert!(self.outside != Some(host), "peers have no loop");
        self.sim.fail_call(host.0, call, kth, error);
    }

    /// How many descriptors the process of a host may have, as `RLIMIT_NOFILE` says: a socket takes one. What would take
    /// one more fails with `EMFILE`. As on Linux an accept does so, too, though nobody waits. `None` ends it.
    ///
    /// # Panics
    ///
    /// For a host that has no loop: the one that peers are on.
    pub fn set_descriptors_max(&mut self, host: HostId, most: impl Into<Option<usize>>) {
        assert!(self.outside != Some(host), "peers have no loop");
        self.sim.set_descriptors_max(host.0, most.into());
    }

    pub(super) fn is_paused(&self, host: usize) -> bool {
        self.processes[host].paused
    }

    /// Leaves those out whose machines are slow, and still at the turn that they have begun.
    pub(super) fn leave_slow_out(&mut self, ready: &mut Vec<usize>) {
        ready.retain(|&host| {
            let Process { pace: Some((least, most)), turns_at, .. } = &mut self.processes[host] else { return true };
            let now = self.sim.now();
            *turns_at.get_or_insert_with(|| now.saturating_add(self.sim.pick_pace(host, *least, *most))) <= now
        });
    }

    /// The turn is done, as far as time goes.
    pub(super) fn end_slow_turn(&mut self, host: usize) {
        self.processes[host].turns_at = None;
    }

    /// When the turns are done that slow hosts are at.
    pub(super) fn slow_turns_at(&self) -> impl Iterator<Item = Duration> + '_ {
        let now = self.now();
        self.processes.iter().filter(|of| !of.paused).filter_map(|of| of.turns_at).filter(move |&at| at > now)
    }
}
