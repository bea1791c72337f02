//! What can happen to the process of a host, and to its machine.

use std::io;
use std::time::Duration;

use super::{HostId, Network};
use crate::LoopLimits;
use crate::testing::{Call, Crash};

/// What the network knows of a host's process besides its loop.
#[derive(Default)]
pub(super) struct Process {
    /// The limits its loop was made with; none if only peers are there.
    pub(super) limits: Option<LoopLimits>,
    paused: bool,
    /// How long its turns take, from least to most.
    pace: Option<(Duration, Duration)>,
    /// When the turn that it is in is done.
    turns_at: Option<Duration>,
}

/// # Processes
impl Network {
    /// Crashes a host: its loop and its protocols are gone, and no callback is called; only their destructors run. From
    /// now on the host sends only what `how` says. Packets sent before are still under way.
    ///
    /// Until [`restart`](Network::restart) the host has no loop, and methods that need one panic. Settings of the host
    /// remain: names, links, its clock, its pace, calls that are to fail. It is no longer paused.
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
    /// network.restart(server); // nothing listens until the test does so again
    /// network.run_for(Duration::from_secs(2));
    /// assert!(!peer.is_connected(), "the machine knows nothing of this connection, and resets it");
    /// ```
    ///
    /// # Panics
    ///
    /// If the host is the one that peers are on.
    pub fn crash(&mut self, host: HostId, how: Crash) {
        assert!(self.outside != Some(host), "peers have no loop");
        // The sockets go first, so that what destructors do to them has no effect.
        self.sim.crash(host.0, how);
        self.connects.retain(|connect| connect.host != host);
        if let Some(event_loop) = self.hosts[host.0].take() {
            event_loop.crash();
        }
        self.idle_turns[host.0] = 0;
        let process = &mut self.processes[host.0];
        (process.paused, process.turns_at) = (false, None);
    }

    /// Starts a host again, with a new loop that has the limits of its first one. It listens nowhere, and knows nothing
    /// of what was before. A host whose loop still runs is [killed](Crash::Killed) first.
    ///
    /// # Panics
    ///
    /// If the host never had a loop: it is the one that peers are on.
    pub fn restart(&mut self, host: HostId) {
        let limits = self.processes[host.0].limits.clone().expect("peers have no loop");
        if self.hosts[host.0].is_some() {
            self.crash(host, Crash::Killed);
        }
        self.sim.restart(host.0);
        self.start_loop(host, limits);
    }

    /// Stops turning the loop of a host until [`resume`](Network::resume), as if its process were stopped. Its kernel
    /// goes on: it takes data while there is room, and completes connects while there is room in the backlog.
    pub fn pause(&mut self, host: HostId) {
        self.sim.note(format_args!("host {} is paused", host.0));
        self.processes[host.0].paused = true;
    }

    /// Undoes [`pause`](Network::pause). Overdue timers fire in the next turn.
    pub fn resume(&mut self, host: HostId) {
        self.sim.note(format_args!("host {} goes on", host.0));
        self.processes[host.0].paused = false;
    }

    /// Makes each turn of a host's loop take from `least` to `most`, as on a busy machine: a turn comes that long after
    /// there is something to do, and then does everything that is due by then. Zero for both makes the host fast again.
    /// The loop's own clock does not move within a turn.
    pub fn slow_host(&mut self, host: HostId, least: Duration, most: Duration) {
        self.sim.note(format_args!("turns of host {} take {least:?} to {most:?}", host.0));
        let process = &mut self.processes[host.0];
        process.pace = (!most.is_zero()).then_some((least, most));
        process.turns_at = None;
    }

    /// Sets how fast the clock of a host runs, in seconds for each second of the network's: its timers fire sooner or
    /// later accordingly. Real clocks are off by some 0.0001. The rate is rounded to a millionth; 1.0 is exact.
    ///
    /// # Panics
    ///
    /// If the rate is not from 0.001 to 1,000.
    pub fn set_clock_rate(&mut self, host: HostId, rate: f64) {
        assert!((0.001..=1000.0).contains(&rate), "{rate} is not a rate for a clock");
        self.sim.set_clock_rate(host.0, (rate * 1e6).round() as u64);
    }

    /// Moves the clock of a host ahead, as happens to a virtual machine that was suspended. (It never goes back, since
    /// it is monotonic.)
    pub fn jump_clock(&mut self, host: HostId, by: Duration) {
        self.sim.jump_clock(host.0, by);
    }

    /// Makes the `kth` call of this kind that the loop of a host makes from now on fail with `error`; 1 is the next
    /// one. Several calls can be made to fail. Calls that find nothing to do count, too. An error of the kind
    /// `WouldBlock` promises the loop an event that will not come.
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
    /// If `kth` is 0, or if the host has no loop: it is the one that peers are on.
    pub fn fail_call(&mut self, host: HostId, call: Call, kth: u64, error: io::Error) {
        assert!(kth > 0, "calls are counted from 1");
        assert!(self.outside != Some(host), "peers have no loop");
        self.sim.fail_call(host.0, call, kth, error);
    }

    /// Limits how many descriptors the process of a host may have, as `RLIMIT_NOFILE` does: a socket takes one. A call
    /// that would need one more fails with `EMFILE`; as on Linux, so does an accept when nothing is waiting. `None`
    /// removes the limit.
    ///
    /// # Panics
    ///
    /// If the host has no loop: it is the one that peers are on.
    pub fn set_descriptors_max(&mut self, host: HostId, most: impl Into<Option<usize>>) {
        assert!(self.outside != Some(host), "peers have no loop");
        self.sim.set_descriptors_max(host.0, most.into());
    }

    pub(super) fn is_paused(&self, host: usize) -> bool {
        self.processes[host].paused
    }

    /// Removes slow hosts that are still in the turn they have begun.
    pub(super) fn leave_slow_out(&mut self, ready: &mut Vec<usize>) {
        ready.retain(|&host| {
            let Process { pace: Some((least, most)), turns_at, .. } = &mut self.processes[host] else { return true };
            let now = self.sim.now();
            *turns_at.get_or_insert_with(|| now.saturating_add(self.sim.pick_pace(host, *least, *most))) <= now
        });
    }

    /// Ends the turn of a slow host, as far as time is concerned.
    pub(super) fn end_slow_turn(&mut self, host: usize) {
        self.processes[host].turns_at = None;
    }

    /// When the current turns of slow hosts end.
    pub(super) fn slow_turns_at(&self) -> impl Iterator<Item = Duration> + '_ {
        let now = self.now();
        self.processes.iter().filter(|of| !of.paused).filter_map(|of| of.turns_at).filter(move |&at| at > now)
    }
}
