//! What other systems than this one do, on scripted sockets that have their habits.

use std::io;

use super::*;
use crate::sys::habits::Habits;

#[test]
fn k1_a_connect_that_ends_while_it_is_looked_at_tells_why_and_not_that_it_cannot_be_asked() {
    for (habits, expected) in [(&Habits::APPLE, "refused"), (&Habits::LINUX, "nvalid")] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (_, peer) = scene.connecting(&log);
        peer.set_habits(habits);
        peer.ends_when_asked(io::ErrorKind::ConnectionRefused.into());
        scene.world.event(&peer, Readiness::WRITABLE);
        scene.settle();
        let told = log.take();
        assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
    }
}
