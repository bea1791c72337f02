//! What is done to sockets themselves: options, and looking at what is there without taking it.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use switchboard::{Address, DatagramProtocol, DatagramTransport, Protocol, Transport};

use crate::support::{Echo, address_of, any_port, connect, event_loop, listen, turn_until};

struct Ignores;

impl DatagramProtocol for Ignores {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}
}

/// Sets options of each level, and reads them back.
fn set_and_read_back(socket: &SockRef<'_>, is_stream: bool) {
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    assert!(socket.recv_buffer_size().unwrap() >= 64 * 1024);
    socket.set_ttl_v4(7).unwrap();
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    if is_stream {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(77));
        socket.set_tcp_keepalive(&keepalive).unwrap();
        assert!(socket.keepalive().unwrap());
        socket.set_tcp_nodelay(false).unwrap();
        assert!(!socket.tcp_nodelay().unwrap());
    }
}

#[test]
fn every_socket_takes_any_option_through_its_descriptor() {
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let listener = context.listen(any_port(), |_, _| Some(Box::new(Echo))).unwrap();
    let address = address_of(&mut context, listener);
    set_and_read_back(&SockRef::from(&context.listener(listener).unwrap().socket().unwrap()), true);
    let datagram = context.bind_datagram(any_port(), Box::new(Ignores)).unwrap();
    set_and_read_back(&SockRef::from(&context.datagram(datagram).unwrap().socket().unwrap()), false);
    let ours = context.connect(address, Box::new(Echo)).unwrap();
    turn_until(&mut event_loop, |context| context.counters().connections_made == 2);
    let mut context = event_loop.context();
    set_and_read_back(&SockRef::from(&context.connection(ours).unwrap().socket().unwrap()), true);
    // They are the sockets themselves: what was set on a listener holds for whom it accepts.
    let accepted = context.connection_ids().into_iter().find(|id| *id != ours).unwrap();
    let transport = context.connection(accepted).unwrap();
    assert!(cfg!(not(target_os = "linux")) || SockRef::from(&transport.socket().unwrap()).keepalive().unwrap());
}

/// Looks at what is there, and leaves it to the protocol that can read it.
struct Peeks(Rc<RefCell<Vec<String>>>);

impl Protocol for Peeks {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().push(String::from_utf8_lossy(data).into_owned());
        if data.len() >= 5 {
            transport.set_protocol(Box::new(Echo));
        }
        0
    }
}

#[test]
fn r1_answering_0_is_a_peek() {
    let mut event_loop = event_loop();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = seen.clone();
    let address = listen(&mut event_loop, move || Peeks(sees.clone()));
    let mut client = connect(address);
    client.write_all(b"HE").unwrap();
    turn_until(&mut event_loop, |_| seen.borrow().len() == 1);
    client.write_all(b"LO!").unwrap();
    turn_until(&mut event_loop, |_| seen.borrow().len() == 2);
    assert_eq!(*seen.borrow(), ["HE", "HELO!"]);
    let mut back = [0; 5];
    event_loop.turn(Some(Duration::ZERO)).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"HELO!");
}
