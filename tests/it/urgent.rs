//! Urgent data, as telnet's Synch sends it (rule R6).

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use switchboard::{Protocol, Transport};

use crate::support::{connect, event_loop, listen, turn_until};

struct Collect(Rc<RefCell<Vec<u8>>>);

impl Protocol for Collect {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

#[test]
fn r6_urgent_data_comes_in_line_and_strands_nothing_behind_it() {
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, move || Collect(into.clone()));
    let mut client = connect(address);
    let mut expected = Vec::new();
    for round in 0..20_u8 {
        client.write_all(b"before ").unwrap();
        SockRef::from(&client).send_out_of_band(&[round]).unwrap();
        client.write_all(b" after;").unwrap();
        expected.extend_from_slice(b"before ");
        expected.push(round);
        expected.extend_from_slice(b" after;");
        // All of it has arrived before the loop looks: no further event will come for what a read leaves.
        if round % 2 == 0 {
            turn_until(&mut event_loop, |_| received.borrow().len() == expected.len());
        }
    }
    turn_until(&mut event_loop, |_| received.borrow().len() == expected.len());
    assert_eq!(*received.borrow(), expected);
    // The loop does not spin: it is idle, and waits as long as it may.
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.time_to_next(), None);
    let start = std::time::Instant::now();
    event_loop.turn(Some(Duration::from_millis(50))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
}

/// Unix streams have had urgent bytes since Linux 5.15, where the kernel was built with them.
#[cfg(target_os = "linux")]
mod unix {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use switchboard::{EventLoop, UnixAddress};

    use super::*;
    use crate::support::{Ends, NotingEnd, PATIENCE};

    type Received = Rc<RefCell<Vec<u8>>>;

    /// How the loop gets a stream.
    #[derive(Clone, Copy, Debug)]
    enum Origin {
        Accepted,
        Connected,
        Attached,
        /// Taken out of the loop, and attached again.
        Returned,
    }

    /// A peer, and its other end in the loop.
    fn pair(event_loop: &mut EventLoop, origin: Origin, received: &Received, ends: &Ends) -> UnixStream {
        let into = (received.clone(), ends.clone());
        let protocol = move || NotingEnd { inner: Collect(into.0.clone()), ends: into.1.clone() };
        let name = format!("switchboard urgent {origin:?} {}", std::process::id()).into_bytes();
        let address = UnixAddress::Abstract(name.clone().into());
        let there = SocketAddr::from_abstract_name(name).unwrap();
        let mut context = event_loop.context();
        let peer = match origin {
            Origin::Accepted => {
                context.listen(address, move |_, _| Some(protocol())).unwrap();
                UnixStream::connect_addr(&there).unwrap()
            }
            Origin::Connected => {
                let listener = UnixListener::bind_addr(&there).unwrap();
                context.connect(address, protocol()).unwrap();
                listener.accept().unwrap().0
            }
            Origin::Attached => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                context.attach(ours, protocol()).unwrap();
                theirs
            }
            Origin::Returned => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let id = context.attach(ours, Collect(received.clone())).unwrap();
                event_loop.turn(Some(PATIENCE)).unwrap();
                event_loop.context().connection(id).unwrap().detach(move |context, detached| {
                    context.attach(detached, protocol()).unwrap();
                });
                theirs
            }
        };
        turn_until(event_loop, |context| context.counters().connections_made > 0);
        while event_loop.time_to_next() == Some(Duration::ZERO) {
            event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
        peer
    }

    fn has_urgent_bytes() -> bool {
        let (one, _other) = UnixStream::pair().unwrap();
        let has = SockRef::from(&one).send_out_of_band(b"!").is_ok();
        if !has {
            eprintln!("this kernel has no urgent bytes on Unix streams: nothing is tested");
        }
        has
    }

    #[test]
    fn r6_urgent_bytes_of_unix_streams_come_in_line_and_at_once_with_what_follows_them() {
        if !has_urgent_bytes() {
            return;
        }
        for origin in [Origin::Accepted, Origin::Connected, Origin::Attached, Origin::Returned] {
            let (received, ends) = (Received::default(), Ends::default());
            let mut event_loop = event_loop();
            let mut peer = pair(&mut event_loop, origin, &received, &ends);
            for _ in 0..3 {
                peer.write_all(b"abc").unwrap();
                SockRef::from(&peer).send_out_of_band(b"d").unwrap();
                peer.write_all(b"ef").unwrap();
                // Nothing that comes later is needed for it: neither another event nor a timer.
                event_loop.turn(Some(PATIENCE)).unwrap();
                assert_eq!(received.take(), b"abcdef", "{origin:?}");
            }
            // An urgent byte by itself, and one that comes when what was before it is read.
            for bytes in [&b"x"[..], b"y", b"z"] {
                SockRef::from(&peer).send_out_of_band(bytes).unwrap();
                event_loop.turn(Some(PATIENCE)).unwrap();
                assert_eq!(received.take(), bytes, "{origin:?}");
            }
            peer.write_all(b"the ").unwrap();
            SockRef::from(&peer).send_out_of_band(b"e").unwrap();
            peer.write_all(b"nd").unwrap();
            drop(peer);
            event_loop.turn(Some(PATIENCE)).unwrap();
            assert_eq!((received.take(), ends.take()), (b"the end".to_vec(), vec!["closed by the peer".into()]));
        }
    }

    #[test]
    fn r6_urgent_bytes_of_a_unix_stream_come_in_line_while_a_send_is_blocked() {
        if !has_urgent_bytes() {
            return;
        }
        let (received, ends) = (Received::default(), Ends::default());
        let mut event_loop = event_loop();
        let mut peer = pair(&mut event_loop, Origin::Attached, &received, &ends);
        let id = event_loop.context().connection_ids()[0];
        let limits = switchboard::Limits::default();
        while event_loop.context().connection(id).unwrap().queued_bytes() == 0 {
            event_loop.context().connection(id).unwrap().write(&[b'x'; 4096]);
            event_loop.turn(Some(Duration::ZERO)).unwrap();
        }
        assert!(event_loop.context().connection(id).unwrap().queued_bytes() < limits.queue_bytes_high);
        peer.write_all(b"abc").unwrap();
        SockRef::from(&peer).send_out_of_band(b"d").unwrap();
        peer.write_all(b"ef").unwrap();
        event_loop.turn(Some(PATIENCE)).unwrap();
        assert_eq!(received.take(), b"abcdef");
    }
}
