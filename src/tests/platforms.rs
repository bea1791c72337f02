//! What other systems do, on scripted sockets that behave like theirs.

use std::io;

use super::connecting::server;
use super::*;
use crate::sys::habits::Habits;
use crate::sys::script::{Datagram, Receiver};
use crate::{DatagramError, DatagramId, DatagramProtocol, DatagramTransport};

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

#[cfg(unix)]
#[test]
fn r4_a_unix_stream_whose_peer_the_system_has_forgotten_is_taken_and_what_that_has_sent_is_read() {
    for (habits, is_known) in [(&Habits::BSD, true), (&Habits::APPLE, true), (&Habits::LINUX, false)] {
        let (mut scene, log) = (Scene::new(), Log::default());
        let (stream, peer) = Stream::pair();
        peer.set_habits(habits);
        peer.is_closed_by_unix_peer();
        peer.sends("at once");
        let mut detached = Detached::new(sys::Stream::Memory(Box::new(stream)), None, Vec::new(), Vec::new());
        let address = detached.prepare();
        assert_eq!(address.is_ok(), is_known);
        if is_known {
            scene.event_loop.core.parts.attach(detached, protocol(&log, idle)).unwrap();
            scene.turn();
            scene.world.event(&peer, Readiness::READABLE);
            scene.settle();
            assert_eq!(log.take(), ["made", "data at once"]);
        }
    }
}

/// Logs which datagrams could not be sent, and when, in milliseconds from now.
struct Sender(Log, std::time::Instant);

impl DatagramProtocol for Sender {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &crate::Address) {}

    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        let at = (transport.context().now() - self.1).as_millis();
        match error {
            DatagramError::Send { .. } => self.0.push(format!("not sent at {at}")),
            other => self.0.push(format!("{other} at {at}")),
        }
    }
}

fn sender() -> (Scene, Log, DatagramId, Receiver) {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (socket, receiver) = Datagram::pair();
    let protocol = Sender(log.clone(), scene.world.now());
    let parts = &mut scene.event_loop.core.parts;
    let id = parts.add_datagram(Ok(sys::Datagram::Memory(Box::new(socket))), None, Box::new(protocol)).unwrap();
    (scene, log, DatagramId(id), receiver)
}

fn out_of_buffers() -> io::Error {
    os_error(errno::ENOBUFS)
}

#[test]
fn u1_where_a_full_receiver_lacks_buffers_its_datagrams_wait_for_time_and_keep_their_order() {
    let (mut scene, log, id, receiver) = sender();
    receiver.set_full_receiver_lacks_buffers();
    receiver.refuses(3, out_of_buffers);
    let to = server().into();
    for datagram in [b"a", b"b", b"c"] {
        scene.event_loop.context().datagram(id).unwrap().send_to(datagram, &to);
    }
    scene.pass(29 * MS);
    assert!(receiver.take_sent().is_empty() && !receiver.awaits_writable(), "no event would tell");
    assert_eq!(receiver.take_tries(), 3, "at once, and every 10 ms");
    scene.pass(MS);
    assert_eq!(receiver.take_sent(), [b"a", b"b", b"c"]);
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn u1_a_datagram_that_its_receiver_never_has_room_for_holds_up_the_others_for_five_seconds() {
    let (mut scene, log, id, receiver) = sender();
    receiver.set_full_receiver_lacks_buffers();
    receiver.refuses(501, out_of_buffers);
    let to = server().into();
    for datagram in [b"a", b"b"] {
        scene.event_loop.context().datagram(id).unwrap().send_to(datagram, &to);
    }
    scene.pass(6 * SECOND);
    assert_eq!((log.take(), receiver.take_sent()), (vec!["not sent at 5000".to_owned()], vec![b"b".to_vec()]));
    // Each datagram gets the full number of tries.
    receiver.refuses(500, out_of_buffers);
    scene.event_loop.context().datagram(id).unwrap().send_to(b"c", &to);
    scene.pass(6 * SECOND);
    assert_eq!((log.take(), receiver.take_sent()), (vec![], vec![b"c".to_vec()]));
}

#[test]
fn u1_elsewhere_a_datagram_that_the_kernel_has_no_buffers_for_is_an_error_at_once() {
    let (mut scene, log, id, receiver) = sender();
    receiver.refuses(1, out_of_buffers);
    scene.event_loop.context().datagram(id).unwrap().send_to(b"a", &server().into());
    scene.settle();
    assert_eq!((log.take(), receiver.take_tries()), (vec!["not sent at 0".to_owned()], 1));
}
