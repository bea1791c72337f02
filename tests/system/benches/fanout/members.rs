// The members of a room: all of them in one thread.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::LINE_BYTES;

pub(crate) struct Members {
    poll: Poll,
    events: Events,
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
    /// What each has read of the current lines.
    received: Vec<usize>,
}

impl Members {
    pub(crate) fn join(server: SocketAddr, count: usize) -> Members {
        let poll = Poll::new().expect("a descriptor is left");
        let mut streams = Vec::new();
        for n in 0..count {
            // One at a time, so that none waits in a full backlog.
            let stream = std::net::TcpStream::connect(server).expect("the server listens");
            stream.set_nonblocking(true).expect("it is a socket");
            stream.set_nodelay(true).expect("it is of TCP");
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(n), Interest::READABLE).expect("it is new");
            streams.push(stream);
        }
        let buffer = vec![0; 256 * 1024];
        Members { poll, events: Events::with_capacity(1024), received: vec![0; count], streams, buffer }
    }

    /// Each member sends a line, and reads until it has everyone's line; `rounds` times.
    pub(crate) fn talk(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let mut line = [b'x'; LINE_BYTES];
            line[LINE_BYTES - 1] = b'\n';
            for (n, stream) in self.streams.iter_mut().enumerate() {
                // Each line is different, so that finding repeated writes by their bytes finds only real ones.
                line[..8].copy_from_slice(format!("{n:08}").as_bytes());
                assert_eq!(stream.write(&line).expect("there is room for a line"), LINE_BYTES);
            }
            self.read_all();
        }
    }

    fn read_all(&mut self) {
        let whole = self.streams.len() * LINE_BYTES;
        self.received.fill(0);
        let mut waiting = self.streams.len();
        while waiting > 0 {
            match self.poll.poll(&mut self.events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.expect("the poller works"),
            }
            for event in &self.events {
                let n = event.token().0;
                let received = &mut self.received[n];
                let was_whole = *received == whole;
                loop {
                    match self.streams[n].read(&mut self.buffer) {
                        Ok(0) => panic!("a member was cut off"),
                        Ok(count) => {
                            // The end of each line is known, so a lost or truncated line shows.
                            let first = LINE_BYTES - 1 - *received % LINE_BYTES;
                            let ends = self.buffer[..count].iter().skip(first).step_by(LINE_BYTES);
                            assert!(ends.into_iter().all(|&byte| byte == b'\n'), "a line was cut");
                            *received += count;
                            if count < self.buffer.len() {
                                break;
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => panic!("a member cannot read: {error}"),
                    }
                }
                assert!(*received <= whole, "a line came twice");
                waiting -= usize::from(!was_whole && *received == whole);
            }
        }
    }
}
