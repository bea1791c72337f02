// The loop that is written by hand for this alone.
//
// Edge-triggered, and no read after a short one, as in the crate. What a member is to get is gathered in a buffer of its
// own, which keeps its memory, and goes out with one send at the end of a pass.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::Sender;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Started, complete};

const LISTENER: Token = Token(usize::MAX);

struct Member {
    stream: TcpStream,
    /// Input that is not a whole line yet.
    rest: Vec<u8>,
    /// Output that is not sent yet.
    out: Vec<u8>,
    blocked: bool,
}

pub(crate) fn serve(started: &Sender<Started>) {
    let mut poll = Poll::new().expect("a descriptor is left");
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is left");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("it is new");
    started.send(Started::now(listener.local_addr().expect("it listens"))).expect("somebody waits for it");
    let mut members: Vec<Member> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
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
                receive(&mut members, event.token().0, &mut buffer);
            }
        }
        for member in &mut members {
            member.send();
        }
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

fn receive(members: &mut [Member], from: usize, buffer: &mut [u8]) {
    loop {
        let member = &mut members[from];
        let count = match member.stream.read(buffer) {
            // The end: the process is over with the first of them.
            Ok(0) => return,
            Ok(count) => count,
            Err(_) => return,
        };
        let data = &buffer[..count];
        if member.rest.is_empty() && complete(data).len() == count {
            members.iter_mut().for_each(|member| member.out.extend_from_slice(data));
        } else {
            member.rest.extend_from_slice(data);
            let mut lines = std::mem::take(&mut member.rest);
            let rest = lines.split_off(complete(&lines).len());
            member.rest = rest;
            members.iter_mut().for_each(|member| member.out.extend_from_slice(&lines));
        }
        if count < buffer.len() {
            return;
        }
    }
}

impl Member {
    fn send(&mut self) {
        if self.out.is_empty() || self.blocked {
            return;
        }
        match self.stream.write(&self.out) {
            Ok(count) if count == self.out.len() => self.out.clear(),
            Ok(count) => drop(self.out.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
            // It is gone: so is all of this soon.
            Err(_) => self.out.clear(),
        }
    }
}
