//! Stream sockets that are not TCP, such as MPTCP's (rule R6). A service manager can pass such a listener
//! (`SocketProtocol=mptcp`), and `mptcpize` makes every socket of a program one.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use socket2::{Domain, Protocol as Kind, SockRef, Socket, Type};
use switchboard::{EventLoop, Protocol, Transport};

use crate::support::{Echo, PATIENCE, address_of, any_port, connect, event_loop, serve_while, turn_until};

/// An MPTCP socket; `None` if the kernel does not support it.
fn mptcp() -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Kind::MPTCP)).ok();
    if socket.is_none() {
        eprintln!("this kernel has no MPTCP, or it is turned off: nothing is tested");
    }
    socket
}

fn mptcp_listener() -> Option<TcpListener> {
    let socket = mptcp()?;
    socket.bind(&any_port().into()).unwrap();
    socket.listen(16).unwrap();
    Some(socket.into())
}

fn mptcp_client(address: SocketAddr) -> Option<TcpStream> {
    let socket = mptcp()?;
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    Some(socket.into())
}

/// Both ends of a connection of MPTCP.
fn mptcp_pair() -> Option<(TcpStream, TcpStream)> {
    let listener = mptcp_listener()?;
    let client = mptcp_client(listener.local_addr().unwrap())?;
    Some((client, listener.accept().unwrap().0))
}

type Received = Rc<RefCell<Vec<u8>>>;

/// Records its input, and the options of its socket.
struct Collect(Received, Rc<RefCell<Vec<(bool, bool)>>>);

impl Protocol for Collect {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let socket = transport.socket().unwrap();
        let socket = SockRef::from(&socket);
        self.1.borrow_mut().push((socket.tcp_nodelay().unwrap(), socket.out_of_band_inline().unwrap_or(false)));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        self.0.borrow_mut().extend_from_slice(data);
        data.len()
    }
}

/// Sends several pieces, all of which have arrived before the loop looks, and sees that all of them are read: no event
/// would come for what a short read left.
fn assert_reads_all(event_loop: &mut EventLoop, client: &mut TcpStream, received: &Received) {
    for _ in 0..20 {
        for piece in [&b"one, "[..], b"two, ", b"three"] {
            client.write_all(piece).unwrap();
        }
        turn_until(event_loop, |_| received.borrow().len() >= b"one, two, three".len());
        assert_eq!(received.take(), b"one, two, three");
    }
}

#[test]
fn r6_an_mptcp_listener_is_taken_and_all_that_its_clients_send_is_read() {
    let Some(listener) = mptcp_listener() else { return };
    let mut event_loop = event_loop();
    let (received, options) = (Received::default(), Rc::<RefCell<Vec<_>>>::default());
    let (into, of) = (received.clone(), options.clone());
    let mut context = event_loop.context();
    let id = context.listen(listener, move |_, _| Some(Collect(into.clone(), of.clone()))).unwrap();
    let address = address_of(&mut context, id);
    let mut client = mptcp_client(address).unwrap();
    assert_reads_all(&mut event_loop, &mut client, &received);
    assert_eq!(options.take(), [(true, false)], "what it does not support is left out, and the rest is set");
    // A client with plain TCP gets a plain TCP connection, with everything that belongs to one.
    let mut client = connect(address);
    assert_reads_all(&mut event_loop, &mut client, &received);
    assert_eq!(options.take(), [(true, true)]);
}

#[test]
fn r6_an_mptcp_stream_is_attached_and_fed_and_all_that_its_peer_sends_is_read() {
    for is_fed in [false, true] {
        let Some((mut client, server)) = mptcp_pair() else { return };
        let mut event_loop = event_loop();
        let (received, options) = (Received::default(), Rc::<RefCell<Vec<_>>>::default());
        let (into, of) = (received.clone(), options.clone());
        let protocol = move || Collect(into.clone(), of.clone());
        let mut context = event_loop.context();
        if is_fed {
            let feeder = context.listen_fed(any_port().into(), 1024, move |_, _| Some(protocol())).unwrap();
            feeder.feed(server).unwrap();
        } else {
            context.attach(server, protocol()).unwrap();
        }
        assert_reads_all(&mut event_loop, &mut client, &received);
        assert_eq!(options.take(), [(true, false)]);
        // Out of the loop and in again.
        let id = event_loop.context().connection_ids()[0];
        let again = Collect(received.clone(), options.clone());
        event_loop.context().connection(id).unwrap().detach(move |context, detached| {
            let parts = detached.into_tcp().unwrap();
            assert!(parts.unread.is_empty() && parts.unsent.is_empty());
            context.attach(parts.stream, again).unwrap();
        });
        turn_until(&mut event_loop, |context| context.counters().connections_made == 2);
        assert_reads_all(&mut event_loop, &mut client, &received);
    }
}

#[test]
fn x2_an_mptcp_stream_is_echoed_to_its_end_and_an_abort_resets_it() {
    let Some(listener) = mptcp_listener() else { return };
    let mut event_loop = event_loop();
    let mut context = event_loop.context();
    let id = context.listen(listener, |_, _| Some(Echo)).unwrap();
    let address = address_of(&mut context, id);
    let client = serve_while(&mut event_loop, move || {
        let mut client = mptcp_client(address).unwrap();
        client.write_all(&crate::support::pattern(1 << 20)).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(crate::support::read_all(&mut client) == crate::support::pattern(1 << 20));
        mptcp_client(address).unwrap()
    });
    turn_until(&mut event_loop, |context| context.connection_count() == 1);
    let id = event_loop.context().connection_ids()[0];
    event_loop.context().connection(id).unwrap().abort();
    let mut client = client;
    let kind = client.read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
}
