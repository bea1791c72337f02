//! Reconnecting through filters (rule K5): a connection counts as established when its filters are ready, for the
//! reconnecting link as for the protocol.

use super::*;
use crate::{Backoff, Connect, Reconnect, Reconnecting};

/// A host that reconnects, through a filter, to a server that the test plays.
struct Again {
    wire: Wire,
    server: crate::testing::PeerListener,
    link: Reconnecting,
    tries: Rc<RefCell<u32>>,
}

impl Again {
    fn new(filter_timeout: Duration) -> Again {
        let limits = Limits::default().with_filter_timeout(Some(filter_timeout));
        let mut wire = Wire::new(limits.clone(), |listen| listen, idle);
        let server = wire.network.peer_listener(80, 10).unwrap();
        let tries = Rc::new(RefCell::new(0));
        let (noted, log) = (tries.clone(), wire.log.clone());
        let factory = move |_: &mut Context<'_>| {
            *noted.borrow_mut() += 1;
            Some(protocol(&log, idle))
        };
        let connect = Connect::to(server.local_addr()).limits(limits).filter(|| Sealed::client(KEY, 100));
        let backoff = Backoff::new(SECOND).factor(2.0).jitter(0.0);
        let link = Reconnect::new(connect, backoff, factory).start(&mut wire.network.context(wire.host));
        wire.rest();
        Again { wire, server, link, tries }
    }

    /// Accepts a connection, which has said hello.
    fn accept(&mut self) -> RawPeer {
        let mut peer = self.server.accept().expect("it connects");
        assert_eq!(peer.read(), [b'H', KEY]);
        peer
    }
}

#[test]
fn k5_a_connection_whose_filter_never_was_ready_has_not_stayed_up() {
    // Longer than a connection must have stayed up for the delays to start over.
    let mut again = Again::new(15 * SECOND);
    let mut held = vec![again.accept()];
    // 15 seconds for each try, and 1, 2, 4, 8, 16 and 32 between them.
    for waits in [1, 2, 4, 8, 16, 32] {
        again.wire.network.run_for((15 + waits) * SECOND - SECOND);
        assert!(again.server.accept().is_none(), "too soon, before {waits} s");
        again.wire.network.run_for(SECOND);
        held.push(again.accept());
    }
    assert_eq!(*again.tries.borrow(), 7);
    assert!(again.wire.log.take().iter().all(|told| told.starts_with("failed: ")));
}

#[test]
fn k5_one_that_was_ready_and_stayed_up_has_the_delays_begin_anew() {
    let mut again = Again::new(15 * SECOND);
    for stays in [false, true] {
        let mut peer = again.accept();
        again.wire.send(&mut peer, b"S\0");
        assert_eq!(again.wire.log.take(), ["made"]);
        again.wire.network.run_for(if stays { 12 * SECOND } else { SECOND });
        peer.reset();
        again.wire.network.run_for(SECOND * if stays { 1 } else { 2 } - SECOND / 2);
        assert_eq!(again.wire.log.take(), ["lost: reset by the peer"]);
        again.wire.network.run_for(SECOND);
    }
    assert_eq!(*again.tries.borrow(), 3);
}

#[test]
fn k5_what_ends_the_trying_ends_a_handshake_too() {
    let cancel = |again: &mut Again| {
        let mut context = again.wire.network.context(again.wire.host);
        assert!(again.link.cancel(&mut context));
    };
    let acts: [fn(&mut Again); 3] = [cancel, |again| again.wire.tell(close), |again| again.wire.tell(abort)];
    for act in acts {
        let mut again = Again::new(15 * SECOND);
        let mut peer = again.accept();
        act(&mut again);
        again.wire.network.run_for(100 * SECOND);
        let told = again.wire.log.take();
        assert!(told.len() == 1 && told[0].starts_with("failed: "), "{told:?}");
        assert!(again.link.is_over() && again.wire.connections() == 0);
        assert!(peer.read().is_empty() && (peer.saw_end() || peer.error().is_some()));
        assert_eq!(*again.tries.borrow(), 1);
    }
    // A failed handshake does not end it.
    let mut again = Again::new(15 * SECOND);
    let mut peer = again.accept();
    again.wire.send(&mut peer, b"A");
    again.wire.network.run_for(SECOND);
    assert_eq!(*again.tries.borrow(), 2);
    // Cancelling does not end a connection that has been made.
    let mut peer = again.accept();
    again.wire.send(&mut peer, b"S\0");
    cancel(&mut again);
    again.wire.send(&mut peer, &record(b"still here"));
    assert_eq!(again.wire.log.take()[1..], ["made", "data still here"]);
}

#[test]
fn c7_a_protocol_that_is_started_during_a_handshake_has_the_timeouts_that_its_connection_begins_with() {
    for starts in [false, true] {
        let limits = Limits::default().with_idle_timeout(Some(5 * SECOND)).with_total_timeout(Some(20 * SECOND));
        let mut wire = Wire::new(limits, |listen| listen.filter(|_| Some(Sealed::server(KEY, 100))), idle);
        let mut peer = wire.peer();
        let log = wire.log.clone();
        if starts {
            wire.tell(|transport| transport.start_protocol(protocol(&log, idle)));
        }
        wire.send(&mut peer, b"H\0");
        assert_eq!(wire.log.take(), ["made"]);
        wire.network.run_for(4 * SECOND);
        assert_eq!(wire.log.take(), [""; 0]);
        wire.network.run_for(SECOND);
        assert_eq!(wire.log.take(), ["timed out: Idle", "lost: idle for too long"], "{starts}");
    }
}
