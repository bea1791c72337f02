//! Other crates use a socket that the loop lends them.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::rc::Rc;

use switchboard::{Address, DatagramProtocol, DatagramTransport};

use crate::support::{PATIENCE, any_port, event_loop, turn_until};

/// Records what it receives.
struct Noting(Rc<RefCell<Vec<String>>>);

impl DatagramProtocol for Noting {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        self.0.borrow_mut().push(String::from_utf8_lossy(data).into_owned());
    }
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn u1_a_connected_socket_hears_everybody_again_once_it_is_disconnected_by_its_descriptor() {
    let mut event_loop = event_loop();
    let texts = Rc::new(RefCell::new(Vec::new()));
    let (friend, stranger) = (client(), client());
    let protocol = Noting(texts.clone());
    let id = event_loop.context().connect_datagram(friend.local_addr().unwrap(), protocol).unwrap();
    let own = event_loop.context().datagram(id).unwrap().local_addr().unwrap().as_inet().unwrap();
    stranger.send_to(b"not heard", own).unwrap();
    friend.send_to(b"heard", own).unwrap();
    turn_until(&mut event_loop, |_| !texts.borrow().is_empty());
    let mut context = event_loop.context();
    let mut transport = context.datagram(id).unwrap();
    rustix::net::connect_unspec(transport.socket().unwrap()).unwrap();
    transport.send_to(b"hello", &stranger.local_addr().unwrap().into());
    let (_, from) = stranger.recv_from(&mut [0; 10]).unwrap();
    stranger.send_to(b"heard by now", from).unwrap();
    turn_until(&mut event_loop, |_| texts.borrow().len() > 1);
    // And back.
    event_loop.context().datagram(id).unwrap().connect(friend.local_addr().unwrap()).unwrap();
    stranger.send_to(b"not heard any more", from).unwrap();
    friend.send_to(b"the last", from).unwrap();
    turn_until(&mut event_loop, |_| texts.borrow().len() > 2);
    assert_eq!(*texts.borrow(), ["heard", "heard by now", "the last"]);
}

#[cfg(target_os = "linux")]
mod credentials {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use switchboard::{Protocol, Transport, UnixAddress};

    use super::*;

    /// Records its peer's address.
    struct Who(Rc<RefCell<Option<(u32, i32)>>>);

    impl Protocol for Who {
        fn connection_made(&mut self, transport: &mut Transport<'_>) {
            let socket = transport.socket().unwrap();
            let peer = rustix::net::sockopt::socket_peercred(socket).unwrap();
            *self.0.borrow_mut() = Some((peer.uid.as_raw(), peer.pid.as_raw_nonzero().get()));
            transport.close();
        }

        fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            data.len()
        }
    }

    #[test]
    fn n1_the_peers_credentials_are_told_by_the_socket() {
        let folder = crate::descriptors::Folder::new("credentials");
        let path = folder.0.join("who.sock");
        let mut event_loop = event_loop();
        let who = Rc::new(RefCell::new(None));
        let tells = who.clone();
        let address = UnixAddress::Path(path.clone());
        event_loop.context().listen(address, move |_, _| Some(Who(tells.clone()))).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        turn_until(&mut event_loop, |_| who.borrow().is_some());
        let us = std::fs::metadata("/proc/self").unwrap().uid();
        assert_eq!(*who.borrow(), Some((us, std::process::id() as i32)));
    }
}
