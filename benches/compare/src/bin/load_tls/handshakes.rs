//! Connections that live for one message: connect, handshake, send, read its echo, close.

use std::time::Instant;

use crate::client::{Buffers, Client};
use crate::options::{Options, Workload};
use crate::pattern::Pattern;
use crate::poller::Poller;
use crate::result::{Doing, Failure, Result};
use crate::server::Server;
use crate::turn::{Bounds, Deadline, Load, Turn};

pub struct Handshakes {
    poller: Poller,
    pattern: Pattern,
    buffers: Buffers,
    options: Options,
    /// How many are open at a time.
    places: Vec<Option<Life>>,
    /// How many there have been.
    born: usize,
    alive: usize,
}

struct Life {
    client: Client,
    begun: Instant,
    beginning: u64,
    state: State,
    received: usize,
}

#[derive(PartialEq, Eq)]
enum State {
    Shaking,
    /// The echo is not complete.
    Waiting,
    /// This side has ended; the server must.
    Ending,
}

impl Handshakes {
    /// Resuming needs earlier sessions: as many connections as are open at a time leave two tickets each, one after the
    /// other, and each that uses one leaves two more.
    pub fn open(options: &Options, deadline: Deadline) -> Result<Self> {
        let options = options.clone();
        let places = (0..options.clients).map(|_| None).collect();
        let (poller, pattern, buffers) = (Poller::new()?, Pattern::new(), Buffers::new());
        let mut all = Self { poller, pattern, buffers, options, places, born: 0, alive: 0 };
        if all.options.workload == Workload::Resumed {
            let mut turn = Turn::start(Bounds::new(None, Some(0), all.options.limit), None::<Server>)?;
            all.options.workload = Workload::Full;
            for place in 0..all.places.len() {
                all.begin(place, deadline)?;
            }
            all.wait_for_all(&mut turn, deadline)?;
            all.options.workload = Workload::Resumed;
        }
        Ok(all)
    }

    fn begin(&mut self, place: usize, deadline: Deadline) -> Result<()> {
        let (begun, nth) = (Instant::now(), self.born);
        let client = Client::connect(&self.options, nth, deadline)?;
        self.poller.add(&client, place)?;
        let beginning = Pattern::beginning(nth);
        self.places[place] = Some(Life { client, begun, beginning, state: State::Shaking, received: 0 });
        self.born += 1;
        self.alive += 1;
        Ok(())
    }

    fn wait_for_all(&mut self, turn: &mut Turn, deadline: Deadline) -> Result<()> {
        while self.alive > 0 {
            let alive = self.alive;
            let ready = self.poller.wait(deadline).doing(|| format!("{alive} connections have not ended"))?;
            for nth in 0..ready {
                self.serve(self.poller.place(nth), turn)?;
            }
        }
        Ok(())
    }

    /// Continues a connection that is ready, and begins another one if it has ended.
    fn serve(&mut self, place: usize, turn: &mut Turn) -> Result<()> {
        // An event of one that ended a moment ago.
        let Some(life) = &mut self.places[place] else { return Ok(()) };
        if life.go_on(&mut self.buffers, &self.pattern, &self.options)? {
            return Ok(());
        }
        let now = Instant::now();
        turn.took(now - life.begun);
        turn.done(1, self.options.message_bytes as u64);
        self.places[place] = None;
        self.alive -= 1;
        if turn.may_begin(1, now) { self.begin(place, turn.deadline()) } else { Ok(()) }
    }
}

impl Life {
    /// Returns `false` at the end.
    fn go_on(&mut self, buffers: &mut Buffers, pattern: &Pattern, options: &Options) -> Result<bool> {
        let Life { client, beginning, received, .. } = self;
        let is_open = client.read(buffers, &mut |came| {
            if *received + came.len() > options.message_bytes {
                return Err(Failure::new("more came than was sent"));
            }
            let verified = pattern.verify(*beginning + *received as u64, came);
            *received += came.len();
            verified.map_err(|offset| Failure::new(format!("byte {offset} of what came is not what was sent")))
        })?;
        if self.state == State::Shaking && !client.is_shaking() {
            client.check_kind(options.workload)?;
            client.write(pattern.at(*beginning, options.message_bytes))?;
            self.state = State::Waiting;
        }
        if self.state != State::Ending && !client.flush()? {
            return Err(Failure::new("no room for what begins a connection"));
        }
        if self.state == State::Waiting && *received == options.message_bytes {
            client.end()?;
            self.state = State::Ending;
        }
        match (is_open, &self.state) {
            (false, State::Waiting | State::Shaking) => Err(Failure::new("a connection was closed before its echo")),
            (is_open, _) => Ok(is_open),
        }
    }
}

impl Load for Handshakes {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        let deadline = turn.deadline();
        for place in 0..self.places.len() {
            if turn.may_begin(1, Instant::now()) {
                self.begin(place, deadline)?;
            }
        }
        self.wait_for_all(turn, deadline)
    }

    /// None is open between turns.
    fn finish(&mut self, _: Deadline) -> Result<()> {
        Ok(())
    }
}
