//! A client.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use switchboard::{
    Address, Backoff, CloseReason, Connect, ConnectError, Context, EventLoop, Limits, NotJoined, Protocol, Reconnect,
    Reconnecting, Relay, Transport,
};

/// The outcome of each connection, in order.
type Ends = Rc<RefCell<Vec<String>>>;

/// Sends something, and shuts down its half.
struct Talker(Ends);

impl Protocol for Talker {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(b"hello");
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        // The list of errors may grow, so a match needs an arm for the rest.
        let what = match &error {
            ConnectError::Failed(tried) | ConnectError::Timeout(tried) => format!("{} tried", tried.len()),
            ConnectError::Lookup(error) => format!("no such name: {error}"),
            ConnectError::Cancelled(reason) => format!("cancelled: {reason}"),
            _ => error.to_string(),
        };
        self.0.borrow_mut().push(what);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(reason.to_string());
    }
}

fn listen(event_loop: &mut EventLoop, ends: &Ends) -> SocketAddr {
    let (ends, mut context) = (ends.clone(), event_loop.context());
    let factory = move |_: &mut Context<'_>, _: &Address| Some(Talker(ends.clone()));
    let id = context.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), factory).unwrap();
    context.set_background(id, true);
    context.listener(id).unwrap().local_addr().unwrap().as_inet().unwrap()
}

#[test]
fn a_client_and_a_server_talk_in_one_loop() {
    let (mut event_loop, ends) = (EventLoop::new().unwrap(), Ends::default());
    let address = listen(&mut event_loop, &ends);
    let targets = [
        Connect::to(address).local_addr((Ipv4Addr::LOCALHOST, 0).into()),
        Connect::to(vec![address]).timeout(Duration::from_secs(5)),
        Connect::to(&[address][..]).limits(Limits::default()),
        Connect::to(Address::from(address)),
        Connect::to(("127.0.0.1", address.port())),
        Connect::to((String::from("localhost"), address.port())),
    ];
    for target in targets {
        let shown = format!("{target:?}");
        event_loop.context().connect(target.clone(), Talker(ends.clone())).unwrap();
        event_loop.run_until_idle().unwrap();
        assert_eq!(ends.take(), ["closed by the peer"; 2], "{shown}");
    }
}

#[test]
fn each_way_to_fail_is_told() {
    let (mut event_loop, ends) = (EventLoop::new().unwrap(), Ends::default());
    event_loop.context().set_resolver(|name, _| Err(std::io::Error::other(format!("nobody knows {name}"))));
    event_loop.context().connect(("db.example", 80), Talker(ends.clone())).unwrap();
    event_loop.run_until_idle().unwrap();
    let address = listen(&mut event_loop, &ends);
    let id = event_loop.context().connect(address, Talker(ends.clone())).unwrap();
    event_loop.context().connection(id).unwrap().close();
    event_loop.run_until_idle().unwrap();
    assert_eq!(ends.borrow()[..2], ["no such name: nobody knows db.example", "cancelled: closed by us"]);
    assert_eq!(event_loop.context().counters().connects_failed, 2);
}

#[test]
fn it_connects_again() {
    let (mut event_loop, ends) = (EventLoop::new().unwrap(), Ends::default());
    let address = listen(&mut event_loop, &Ends::default());
    let tries = Rc::new(Cell::new(0));
    let (count, notes) = (tries.clone(), ends.clone());
    let factory = move |_: &mut Context<'_>| {
        count.set(count.get() + 1);
        (count.get() <= 3).then(|| Talker(notes.clone()))
    };
    let backoff =
        Backoff::new(Duration::from_millis(1)).factor(1.5).jitter(0.1).max_delay(Duration::from_millis(2)).seed(1);
    let reconnect = Reconnect::new(address, backoff, factory).stable_after(Duration::from_secs(1));
    assert!(format!("{reconnect:?}").contains("stable_after"));
    let link: Reconnecting = reconnect.start(&mut event_loop.context());
    assert!(link.current().is_some() && !link.is_over());
    event_loop.run_until_idle().unwrap();
    assert_eq!((tries.get(), ends.borrow().len()), (4, 3));
}

/// Passes its input on to a server that another part of the program chooses.
struct Onward(SocketAddr);

impl Protocol for Onward {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let id = transport.id();
        let mut context = transport.context();
        let other = context.connect(self.0, Relay::new(id)).unwrap();
        assert_eq!(context.join(id, id), Err(NotJoined::Itself));
        context.join(id, other).unwrap();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, _: &[u8]) -> usize {
        unreachable!("it has another protocol by then")
    }
}

#[test]
fn a_client_is_joined_to_a_server() {
    let (mut event_loop, ends) = (EventLoop::new().unwrap(), Ends::default());
    let server = listen(&mut event_loop, &ends);
    let mut context = event_loop.context();
    let relay = context.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), move |_, _| Some(Onward(server))).unwrap();
    context.set_background(relay, true);
    let relay = context.listener(relay).unwrap().local_addr().unwrap().as_inet().unwrap();
    context.connect(relay, Talker(ends.clone())).unwrap();
    event_loop.run_until_idle().unwrap();
    assert_eq!(*ends.borrow(), ["closed by the peer"; 2]);
}
