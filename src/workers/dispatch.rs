//! One loop accepts for all of a group.

use std::sync::Arc;
use std::time::Duration;

use crate::{Context, Detached, Feeder, Limits, ListenerId, PostError, WhenFull};

/// Hands accepted connections to the loop that has the fewest of them.
#[derive(Clone)]
pub(super) struct Dispatch {
    /// Of each loop's listener.
    feeders: Arc<[Feeder]>,
    /// How many connections a loop is given, those that wait included. It keeps its own cap in any case; this lets who
    /// comes wait in front of all loops, rather than behind a full one while another has room.
    share_max: usize,
    /// Who was given the last one: among equals it is the next one's turn.
    last: usize,
}

/// Nobody took it.
enum NotTaken {
    /// All have as many as they may have.
    Full(Detached),
    /// All are gone.
    Gone,
}

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

impl Dispatch {
    /// `limits` are those of each loop's listener, `of_loop` those of each loop.
    pub(super) fn new(feeders: Vec<Feeder>, limits: &Limits, of_loop: &Limits) -> Dispatch {
        let share_max = match limits.when_full {
            WhenFull::Wait => limits.connections_max.min(of_loop.loop_connections_max),
            // A full loop takes them to refuse them.
            _ => usize::MAX,
        };
        let last = feeders.len() - 1;
        Dispatch { feeders: feeders.into(), share_max, last }
    }

    /// Hands out a connection that the acceptor's listener has accepted. Where nobody has room it is kept, that listener
    /// is paused, and both are looked at again later: who comes meanwhile waits in the kernel.
    pub(super) fn hand_out(&mut self, context: &mut Context<'_>, acceptor: ListenerId, connection: Detached) {
        match self.try_hand_out(connection) {
            Ok(()) | Err(NotTaken::Gone) => {}
            Err(NotTaken::Full(connection)) => {
                if let Some(mut listening) = context.listener(acceptor) {
                    listening.pause();
                    self.clone().try_later(context, acceptor, connection, RETRY_FIRST);
                }
            }
        }
    }

    fn try_later(mut self, context: &mut Context<'_>, acceptor: ListenerId, connection: Detached, delay: Duration) {
        context.call_later(delay, move |context| match self.try_hand_out(connection) {
            Err(NotTaken::Full(connection)) if context.listener(acceptor).is_some() => {
                self.try_later(context, acceptor, connection, (delay * 2).min(RETRY_MAX));
            }
            _ => {
                if let Some(mut listening) = context.listener(acceptor) {
                    listening.resume();
                }
            }
        });
    }

    fn try_hand_out(&mut self, mut connection: Detached) -> Result<(), NotTaken> {
        let loops = self.feeders.len();
        let in_turn = (1..=loops).map(|ahead| (self.last + ahead) % loops);
        let with_room = in_turn.filter(|&index| self.load(index) < self.share_max);
        let Some(best) = with_room.clone().min_by_key(|&index| self.load(index)) else {
            return Err(NotTaken::Full(connection));
        };
        let mut all_gone = true;
        for index in std::iter::once(best).chain(with_room.filter(|&index| index != best)) {
            match self.feeders[index].feed(connection) {
                Ok(()) => {
                    self.last = index;
                    return Ok(());
                }
                Err(error) => {
                    all_gone &= matches!(error, PostError::Gone(_));
                    connection = error.into_inner();
                }
            }
        }
        if all_gone { Err(NotTaken::Gone) } else { Err(NotTaken::Full(connection)) }
    }

    fn load(&self, index: usize) -> usize {
        self.feeders[index].connections() + self.feeders[index].waiting()
    }
}
