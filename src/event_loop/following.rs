//! Following a connection: reporting what becomes of it, whatever its protocol is by then (rule K5).
//!
//! A protocol that wraps another one would not do: it is dropped if the inner one puts a third in its place.

use super::work::Loss;
use super::{Core, Parts};
use crate::connection::{Connection, Follower, Note};
use crate::ids::Id;
use crate::reason::{ConnectionEnd, Followed};
use crate::{CloseReason, ConnectionId, Context};

impl Context<'_> {
    /// Makes the loop tell `follower` what becomes of a connection that was begun and is not established yet. A
    /// connection has at most one follower. Not part of the public interface.
    #[doc(hidden)]
    pub fn follow(&mut self, id: ConnectionId, follower: impl FnMut(&mut Context<'_>, Followed) + 'static) {
        if let Some(connection) = self.core.parts.slots.alive_mut(id.0) {
            let replaced = connection.extras_mut().follower.replace(Box::new(follower));
            self.core.followers += usize::from(replaced.is_none());
        }
    }

    /// Returns how often the loop has begun to shut down. Not part of the public interface.
    #[doc(hidden)]
    pub fn shutdowns(&self) -> u64 {
        self.core.parts.life.shutdowns()
    }
}

impl Core {
    /// An outgoing connection is established, and its filters are ready.
    pub(super) fn tell_follower_of_made(&mut self, id: Id) {
        let follower = self.parts.slots.connection_mut(id).and_then(Connection::take_follower);
        let Some(mut follower) = follower else { return };
        call(self, &mut follower, Followed::Made);
        // It is put back, even if another one was set meanwhile.
        if let Some(connection) = self.parts.slots.connection_mut(id) {
            let replaced = connection.extras_mut().follower.replace(follower);
            self.followers -= usize::from(replaced.is_some());
        }
    }

    /// Takes the followers of connections that have ended. They are told after the connections' protocols.
    #[cold]
    pub(super) fn take_followers_of(&mut self, lost: &[Loss]) -> Vec<(Follower, ConnectionEnd)> {
        let mut followers = Vec::new();
        for Loss { id, reason, .. } in lost {
            if let Some(follower) = self.parts.slots.connection_mut(*id).and_then(Connection::take_follower) {
                self.followers -= 1;
                followers.push((follower, self.parts.end_of(*id, reason)));
            }
        }
        followers
    }

    #[cold]
    pub(super) fn tell_followers_of_ends(&mut self, followers: Vec<(Follower, ConnectionEnd)>) {
        for (mut follower, end) in followers {
            call(self, &mut follower, Followed::Ended(end));
            self.drop_guarded(follower);
        }
    }
}

fn call(core: &mut Core, follower: &mut Follower, followed: Followed) {
    let _ = core.guard_each("a follower", &mut |core| follower(&mut Context::new(core), followed));
}

impl Parts {
    fn end_of(&mut self, id: Id, reason: &CloseReason) -> ConnectionEnd {
        let connection = self.slots.connection_mut(id);
        let shakes = connection.as_ref().is_some_and(|connection| connection.notes.has(Note::BeginsFiltered));
        let connector = connection.and_then(Connection::connector_mut);
        let failed = connector.map(|connector| connector.has_failed());
        match (reason, failed) {
            (CloseReason::Shutdown, _) => ConnectionEnd::ShutDown,
            (CloseReason::Detached, _) => ConnectionEnd::Detached,
            (CloseReason::Closed | CloseReason::Aborted | CloseReason::Protocol(_), Some(false)) => {
                ConnectionEnd::Cancelled
            }
            (CloseReason::Closed | CloseReason::Aborted, None) if shakes => ConnectionEnd::Cancelled,
            (_, Some(_)) => ConnectionEnd::Failed,
            (_, None) if shakes => ConnectionEnd::Failed,
            (_, None) => ConnectionEnd::Lost,
        }
    }
}
