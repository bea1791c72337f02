//! Connections for loops in several threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use switchboard::{Address, Context, Detached, EventLoop, Feeder, PostError, Protocol, Transport};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Echoes, and can be made on any thread.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

fn echo_through(address: SocketAddr) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

/// A feeder is stored in a struct that is printed, cloned and sent.
#[derive(Clone, Debug)]
struct Acceptor {
    feeder: Feeder,
}

#[test]
fn one_thread_accepts_and_another_serves() {
    let (send, receive) = mpsc::channel();
    let serving = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        let mut context = event_loop.context();
        let feeder =
            context.listen_fed(SocketAddr::from(ANY_PORT).into(), 1024, |_: &mut Context<'_>, _: &Address| Some(Echo));
        send.send(Acceptor { feeder: feeder.unwrap() }).unwrap();
        event_loop.run().unwrap();
        event_loop.context().counters().connections_made
    });
    let acceptor = receive.recv().unwrap();
    let (feeder, mut event_loop) = (acceptor.clone().feeder, EventLoop::new().unwrap());
    let mut context = event_loop.context();
    let listener = context.listen(SocketAddr::from(ANY_PORT), |_, _| None::<Echo>).unwrap();
    let address = context.listener(listener).unwrap().local_addr().unwrap().as_inet().unwrap();
    context.listener(listener).unwrap().on_accept(move |context, connection: Detached| {
        match feeder.feed(connection) {
            Ok(()) => {}
            Err(PostError::Full(_)) => panic!("nobody waits"),
            Err(error) => panic!("{error}"),
        }
        context.stop();
    });
    let client = thread::spawn(move || echo_through(address));
    event_loop.run().unwrap();
    client.join().unwrap();
    let feeder = acceptor.feeder;
    assert_eq!(feeder.waiting_count(), 0);
    assert!(feeder.connection_count() <= 1);
    let id = feeder.listener_id();
    feeder.handle().post(move |context| context.listener(id).unwrap().close()).unwrap();
    feeder.handle().post(|context| context.stop()).unwrap();
    assert_eq!(serving.join().unwrap(), 1);
}
