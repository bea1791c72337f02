//! Loops in several threads.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use switchboard::workers::{
    Distribution, EventLoopGroup, GroupBuilder, GroupError, GroupHandle, GroupListen, GroupListener, LoopFailure,
    WhenLoopFails,
};
use switchboard::{Address, Context, Counters, Handle, Limits, Listen, PanicPolicy, Protocol, Transport};

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the name of its loop, and then echoes.
struct Echo(Rc<str>);

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        assert_ne!(data, b"panic");
        transport.write(self.0.as_bytes());
        transport.write(data);
        data.len()
    }
}

/// An embedder's server, which is printed, stored and ended.
#[derive(Debug)]
struct Server {
    group: EventLoopGroup,
    listener: GroupListener,
    handle: GroupHandle,
}

fn plan() -> GroupBuilder {
    EventLoopGroup::builder(NonZeroUsize::new(2).unwrap())
        .name("embedded")
        .limits(Limits::default())
        .panic_policy(PanicPolicy::Propagate)
        .when_loop_fails(WhenLoopFails::StopAll)
        .setup(|index, context: &mut Context<'_>| {
            context.call_every(Duration::from_secs(3600), move |_, _| println!("loop {index} is up"));
            Ok(())
        })
}

fn serve(target: impl Into<GroupListen>) -> Result<Server, Box<dyn Error>> {
    let group = plan().start()?;
    let make = |index: usize, _: &mut Context<'_>| {
        let name = Rc::from(format!("{index}:"));
        move |_: &mut Context<'_>, _: &Address| Some(Echo(Rc::clone(&name)))
    };
    let listener = group.listen_each(target, make)?;
    let handle = group.handle().clone();
    Ok(Server { group, listener, handle })
}

fn ask(listener: &GroupListener) -> Vec<u8> {
    let mut client = TcpStream::connect(listener.local_addr().as_inet().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    answer.to_vec()
}

#[test]
fn a_server_on_two_cores() {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let target = GroupListen::at(Listen::at(any_port).limits(Limits::default()).backlog(100))
        .distribution(Distribution::Acceptor);
    let Server { group, listener, handle } = serve(target).unwrap();
    assert_eq!(
        (listener.distribution(), listener.acceptor().map(|(index, _)| index)),
        (Distribution::Acceptor, Some(0))
    );
    assert_eq!(listener.listeners().len(), 2);
    assert_eq!(ask(&listener), b"0:hello");
    assert_eq!(ask(&listener), b"1:hello");
    let counters: Counters = handle.counters(PATIENCE).unwrap();
    assert_eq!(counters.connections_made, 2);
    let health = handle.ask_each(PATIENCE, |_, context| context.health()).unwrap();
    assert_eq!(health.into_iter().flatten().count(), 2);
    let handles: &[Handle] = handle.handles();
    let (id, at) = (listener.listeners()[1], &handles[1]);
    let (tell, told) = mpsc::channel();
    at.post(move |context| tell.send(context.listener(id).is_some()).unwrap()).unwrap();
    assert!(told.recv_timeout(PATIENCE).unwrap());
    group.drain(PATIENCE);
    group.shutdown(PATIENCE);
    let counters: Counters = group.join().unwrap();
    assert_eq!(counters.connections_lost, 2);
}

#[test]
fn a_server_whose_loop_panics() {
    let ready = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let Server { group, listener, .. } = serve(ready).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().as_inet().unwrap()).unwrap();
    client.write_all(b"panic").unwrap();
    let error: GroupError = group.join().unwrap_err();
    match error.failure() {
        LoopFailure::Panic(message) => assert!(!message.is_empty()),
        LoopFailure::Io(error) => panic!("{error}"),
        other => panic!("{other}"),
    }
    assert_eq!((error.loop_index(), error.counters().panics), (0, 1));
    assert!(error.source().is_none());
    assert!(io::Error::from(error).to_string().starts_with("loop 0 panicked"));
}

#[test]
fn a_group_of_defaults() {
    let group = EventLoopGroup::new(NonZeroUsize::MIN).unwrap();
    let listener = group.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |_, _| Some(Echo("0:".into())));
    assert_eq!(ask(&listener.unwrap()), b"0:hello");
    group.stop();
    group.join().unwrap();
}
