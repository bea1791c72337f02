//! message-io: only its network half, without the node around it, which would add a second thread and a lock.
//!
//! - `Transport::Tcp`: bytes as they arrive, without framing. It has no Unix streams.
//! - Internally it reads until the read would block, into 64 KiB, and retries in a loop when a send would block: so
//!   nothing queues up, but all connections wait for one that does not read, and the processor is busy meanwhile. It
//!   gives no access to the socket, so TCP_NODELAY stays off.
//! - Fan-out: the lines of all ready connections are appended to a buffer of each member, which is sent once, after the
//!   poll. A member that ends its stream right after a line does not get that line: it is gone before the poll is over.

use std::collections::HashMap;
use std::io;

use message_io::network::{self, Endpoint, NetEvent, NetworkController, Transport};
use switchboard_compare::{Address, LINE_BYTES_MAX, Mode, announce, arguments, refuse, whole_lines};

#[derive(Default)]
struct Member {
    unsent: Vec<u8>,
    /// The beginning of a line.
    line: Vec<u8>,
}

struct Fanout {
    controller: NetworkController,
    members: HashMap<Endpoint, Member>,
    /// Lines were received in this poll.
    has_lines: bool,
}

impl Fanout {
    fn handle(&mut self, event: NetEvent<'_>) {
        match event {
            NetEvent::Accepted(member, _) => {
                self.members.insert(member, Member::default());
            }
            NetEvent::Message(member, data) => self.take_lines(member, data),
            NetEvent::Disconnected(member) => {
                self.members.remove(&member);
            }
            NetEvent::Connected(..) => {}
        }
    }

    fn take_lines(&mut self, from: Endpoint, data: &[u8]) {
        let Some(member) = self.members.get_mut(&from) else { return };
        let lines = whole_lines(&mut member.line, data);
        if member.line.len() > LINE_BYTES_MAX {
            self.controller.remove(from.resource_id());
            self.members.remove(&from);
        }
        if !lines.is_empty() {
            for member in self.members.values_mut() {
                member.unsent.extend_from_slice(&lines);
            }
            self.has_lines = true;
        }
    }

    fn send_to_all(&mut self) {
        for (member, Member { unsent, .. }) in &mut self.members {
            if !unsent.is_empty() {
                // An event reports members that are gone.
                self.controller.send(*member, unsent);
                unsent.clear();
            }
        }
    }
}

fn main() -> io::Result<()> {
    let (mode, address) = arguments();
    let Address::Inet(address) = address else { refuse("message-io has no Unix streams") };
    let (controller, mut processor) = network::split();
    let (_, address) = controller.listen(Transport::Tcp, address)?;
    announce(address)?;
    match mode {
        Mode::Echo => loop {
            processor.process_poll_event(None, |event| {
                if let NetEvent::Message(endpoint, data) = event {
                    controller.send(endpoint, data);
                }
            });
        },
        Mode::Fanout => {
            let mut fanout = Fanout { controller, members: HashMap::new(), has_lines: false };
            loop {
                processor.process_poll_event(None, |event| fanout.handle(event));
                if std::mem::take(&mut fanout.has_lines) {
                    fanout.send_to_all();
                }
            }
        }
    }
}
