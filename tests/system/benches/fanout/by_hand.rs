// The loop written by hand for this purpose only.
//
// Edge-triggered, and no read after a short one, as in the crate. The output of a member is gathered in its own buffer,
// which keeps its memory, and is sent with one call at the end of a pass. Or it is gathered once for all, since all
// receive the same: one send is the least that any loop can do for a member.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::Sender;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Started, complete};

const LISTENER: Token = Token(usize::MAX);

/// Where the lines of a pass are gathered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gathers {
    ForEach,
    Once,
}

struct Member {
    stream: TcpStream,
    /// Input that is not a complete line yet.
    rest: Vec<u8>,
    /// Output that is not sent yet.
    out: Vec<u8>,
    blocked: bool,
}

pub(crate) fn serve(gathers: Gathers, started: &Sender<Started>) {
    let mut poll = Poll::new().expect("a descriptor is left");
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is left");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("it is new");
    started.send(Started::now(listener.local_addr().expect("it listens"))).expect("somebody waits for it");
    let mut members: Vec<Member> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut pass = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.expect("the poller works"),
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut members);
                continue;
            }
            if event.is_writable() {
                members[event.token().0].blocked = false;
            }
            if event.is_readable() {
                receive(&mut members, event.token().0, &mut buffer, &mut pass);
                if gathers == Gathers::ForEach {
                    members.iter_mut().for_each(|member| member.out.extend_from_slice(&pass));
                    pass.clear();
                }
            }
        }
        for member in &mut members {
            member.send(&pass);
        }
        pass.clear();
    }
}

fn accept(listener: &TcpListener, poll: &Poll, members: &mut Vec<Member>) {
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nodelay(true).expect("it is of TCP");
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(members.len()), interest).expect("it is new");
        members.push(Member { stream, rest: Vec::new(), out: Vec::new(), blocked: false });
    }
}

fn receive(members: &mut [Member], from: usize, buffer: &mut [u8], pass: &mut Vec<u8>) {
    let member = &mut members[from];
    loop {
        let count = match member.stream.read(buffer) {
            // The end: the process exits with the first one.
            Ok(0) => return,
            Ok(count) => count,
            Err(_) => return,
        };
        let data = &buffer[..count];
        if member.rest.is_empty() && complete(data).len() == count {
            pass.extend_from_slice(data);
        } else {
            member.rest.extend_from_slice(data);
            let lines = complete(&member.rest).len();
            pass.extend(member.rest.drain(..lines));
        }
        if count < buffer.len() {
            return;
        }
    }
}

impl Member {
    /// Sends its own output, and then what all receive.
    fn send(&mut self, pass: &[u8]) {
        if self.blocked || (!self.out.is_empty() && !pass.is_empty()) {
            self.out.extend_from_slice(pass);
        }
        let is_own = !self.out.is_empty();
        let bytes = if is_own { &self.out } else { pass };
        if self.blocked || bytes.is_empty() {
            return;
        }
        let (sent, length) = (self.stream.write(bytes), bytes.len());
        let count = match sent {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                0
            }
            // It is gone, and the process will exit soon.
            Err(_) => length,
        };
        match is_own {
            true => drop(self.out.drain(..count)),
            false => self.out.extend_from_slice(&pass[count..]),
        }
    }
}
