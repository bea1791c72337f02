//! Virtual time: which loop is turned, and when.

use std::io;
use std::time::Duration;

use super::{Connect, HostId, Network, held};
use crate::sys;
use crate::{Address, Counters, EventLoop, Protocol};

/// What a step did.
enum Step {
    Did,
    /// There is nothing to do before the given end.
    End,
    /// There is nothing left to do, ever.
    Rest,
}

/// [`Network::run_until`] gives up after this much virtual time.
const RUN_UNTIL_MAX: Duration = Duration::from_secs(60 * 60);

/// The most that the clock moves when a loop with pending events lags.
const LAG_MAX: Duration = Duration::from_millis(50);

/// # Time
impl Network {
    /// Returns how long the network has run, in virtual time.
    pub fn now(&self) -> Duration {
        self.sim.now()
    }

    /// Runs for this long, in virtual time.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now().saturating_add(time);
        while let Step::Did = self.step_before(end) {}
        self.sim.advance_to(end);
    }

    /// Runs until `done` returns `true`; it is called before the first step and after each. When bytes, or room to
    /// send, reach a peer that is played by hand, that is a step of its own, so `done` can act each time such a peer
    /// may have something to do. Returns `false` if `done` never returns `true`: because nothing is left to happen, or
    /// an hour of virtual time has passed.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Network) -> bool) -> bool {
        let end = self.now().saturating_add(RUN_UNTIL_MAX);
        loop {
            if done(self) {
                return true;
            }
            if !matches!(self.step_before(end), Step::Did) {
                // What `done` did may have set things going.
                return self.is_runnable() && self.now() < end && self.run_until(done);
            }
        }
    }

    /// Runs until nothing is under way and all that any loop has to do is wait for a timer.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn run_until_rest(&mut self) {
        while !self.is_at_rest() {
            self.step();
        }
    }

    /// Does one thing: turns one loop that has something to do, or moves the clock to what happens next, or does
    /// nothing if something has reached a peer that is played by hand. Returns `false` if nothing is left that could
    /// happen.
    ///
    /// # Panics
    ///
    /// If a callback does.
    pub fn step(&mut self) -> bool {
        matches!(self.step_before(Duration::MAX), Step::Did)
    }

    fn step_before(&mut self, end: Duration) -> Step {
        self.sim.settle();
        self.attach_connected();
        let mut ready: Vec<_> = (0..self.hosts.len()).filter(|&host| self.has_work(host)).collect();
        self.leave_slow_out(&mut ready);
        let next = self.next_at();
        // A loop that lags behind finds more events at once. It lags only a little, since its deadlines are real ones.
        let latest = end.min(self.now().saturating_add(LAG_MAX));
        let lags = || next.is_some_and(|at| at <= latest) && self.sim.lags();
        if !ready.is_empty() && !lags() {
            let pick = if ready.len() > 1 { self.sim.below(ready.len()) } else { 0 };
            self.turn(ready[pick]);
        } else if self.sim.take_by_hand() {
            // Before any time passes, the test that plays that peer may want to do something about it.
        } else {
            match next {
                Some(at) if at <= end => self.sim.advance_to(at),
                Some(_) => return Step::End,
                None if ready.is_empty() => return Step::Rest,
                None => {}
            }
        }
        // What has reached peers in this step is seen by the test after it.
        self.sim.take_by_hand();
        Step::Did
    }

    fn is_runnable(&self) -> bool {
        (0..self.hosts.len()).any(|host| self.has_work(host)) || self.sim.next_at().is_some() || self.sim.has_by_hand()
    }

    /// Returns whether nothing is under way and all that any loop has to do is wait for a timer.
    pub fn is_at_rest(&mut self) -> bool {
        self.sim.settle();
        self.attach_connected();
        !self.is_runnable()
    }

    /// When the next thing happens that is not due yet.
    fn next_at(&self) -> Option<Duration> {
        let loops = self.hosts.iter().enumerate().filter(|&(host, _)| !self.is_paused(host));
        let timers = loops.filter_map(|(host, of)| Some((host, of.as_ref()?.time_to_next()?)));
        let timers = timers.filter(|(_, time)| !time.is_zero()).map(|(host, time)| self.sim.time_after(host, time));
        timers.chain(self.slow_turns_at()).chain(self.sim.next_at()).min()
    }

    fn has_work(&self, host: usize) -> bool {
        let Some(event_loop) = &self.hosts[host] else { return false };
        if self.is_paused(host) {
            return false;
        }
        self.sim.is_ready(host) || event_loop.time_to_next() == Some(Duration::ZERO)
    }

    fn turn(&mut self, host: usize) {
        self.end_slow_turn(host);
        let Some(event_loop) = &mut self.hosts[host] else { return };
        // Having had a turn, and having polled, is no progress.
        let state = |event_loop: &EventLoop| {
            let counters = event_loop.core.parts.counters;
            (self.sim.progress(), Counters { turns: 0, polls: 0, ..counters })
        };
        let before = state(event_loop);
        event_loop.turn(Some(Duration::ZERO)).expect("a simulated poller does not fail");
        self.turns += 1;
        let idle = if state(event_loop) == before { self.idle_turns[host] + 1 } else { 0 };
        self.idle_turns[host] = idle;
        self.idle_turns_most = self.idle_turns_most.max(idle);
    }

    fn attach_connected(&mut self) {
        let mut index = 0;
        while index < self.connects.len() {
            let stream = &self.connects[index].stream;
            let outcome = match (stream.peer_addr(), stream.take_error()) {
                (_, Ok(Some(error)) | Err(error)) => Err(error),
                (Ok(peer), Ok(None)) => Ok(peer),
                (Err(_), Ok(None)) => {
                    index += 1;
                    continue;
                }
            };
            let Connect { host, stream, protocol } = self.connects.remove(index);
            let attached = outcome.and_then(|peer| self.attach(host, stream, peer, protocol));
            self.failed_connects.extend(attached.err());
        }
    }

    fn attach(
        &mut self,
        host: HostId,
        stream: sys::Stream,
        peer: Address,
        protocol: Box<dyn Protocol>,
    ) -> io::Result<()> {
        let event_loop = self.hosts[host.0].as_mut().ok_or(io::ErrorKind::NotConnected)?;
        event_loop.core.parts.life.check_listens()?;
        event_loop.core.parts.attach(held(stream, peer), protocol).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Faults;

    #[test]
    fn turns_that_bring_nothing_about_are_counted_until_one_does() {
        let mut network = Network::new(0, Faults::none());
        let host = network.host();
        for _ in 0..5 {
            network.turn(host.0);
        }
        assert_eq!(network.turns_without_progress_most(), 5);
        network.context(host).call_later(Duration::ZERO, |_| ());
        for _ in 0..5 {
            network.turn(host.0);
        }
        assert_eq!(network.turns_without_progress_most(), 5);
    }
}
