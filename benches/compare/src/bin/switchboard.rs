//! This crate, as an embedding program uses it: two protocols, the loop's own limits.
//!
//! Fan-out: the members' ids are in a list; the lines of a read are broadcast to all of them, and sent before the loop
//! sleeps. An incomplete line is left unconsumed.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use switchboard::{
    CloseReason, ConnectionId, Context, EventLoop, IntoProtocol, ListenerId, Protocol, Transport, UnixAddress, signals,
};
use switchboard_compare::{Address, Mode, announce, arguments};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// The members.
type Members = Rc<RefCell<Vec<ConnectionId>>>;

struct Member {
    members: Members,
}

impl Protocol for Member {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.members.borrow_mut().push(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let end = memchr::memrchr(b'\n', data).map_or(0, |at| at + 1);
        let lines = &data[..end];
        if end > 0 {
            transport.context().broadcast(self.members.borrow().iter(), lines);
        }
        end
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        self.members.borrow_mut().retain(|&id| id != transport.id());
    }
}

fn listen<P: IntoProtocol>(
    context: &mut Context<'_>,
    address: &Address,
    mut protocol: impl FnMut() -> P + 'static,
) -> io::Result<ListenerId> {
    match address {
        Address::Inet(address) => context.listen(*address, move |_, _| Some(protocol())),
        Address::Unix(path) => context.listen(UnixAddress::Path(path.clone()), move |_, _| Some(protocol())),
    }
}

fn main() -> io::Result<()> {
    let (mode, address) = arguments();
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let members = Members::default();
    let listener = match mode {
        Mode::Echo => listen(&mut context, &address, || Echo),
        Mode::Fanout => listen(&mut context, &address, move || Member { members: members.clone() }),
    }?;
    signals::shutdown_on_signals(&mut context, Duration::from_secs(1))?;
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    match &address {
        Address::Inet(_) => announce(listening.local_addr()?)?,
        Address::Unix(path) => announce(path.display())?,
    }
    event_loop.run()
}
