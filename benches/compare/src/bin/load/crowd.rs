//! Some active connections beside a crowd of idle ones.

use crate::options::Options;
use crate::result::Result;
use crate::streams::Streams;
use crate::turn::{Bounds, Deadline, Load, Turn};

pub struct Crowd {
    talking: Streams,
    idle: Streams,
    end: Bounds,
}

impl Crowd {
    pub fn open(options: &Options, deadline: Deadline) -> Result<Self> {
        let talking = Streams::open(options, deadline)?;
        let idle = Streams::open_idle(options, deadline)?;
        Ok(Self { talking, idle, end: Bounds::new(None, None, options.limit) })
    }
}

impl Load for Crowd {
    fn take(&mut self, turn: &mut Turn) -> Result<()> {
        self.talking.take(turn)
    }

    /// The idle ones must still be served: each sends one more message.
    fn finish(&mut self, deadline: Deadline) -> Result<()> {
        let mut turn = Turn::start(self.end, None)?;
        self.idle.once_each(&mut turn, deadline)?;
        self.idle.close(deadline)?;
        self.talking.close(deadline)
    }
}
