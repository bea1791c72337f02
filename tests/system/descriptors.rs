//! Peers that send descriptors, which the loop must not keep.

use std::cell::Cell;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use switchboard::{Address, DatagramProtocol, DatagramTransport, UnixAddress};

use crate::support::{Echo, PATIENCE, event_loop, join, serve_while, turn_until};

/// A separate folder for the test, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("switchboard-{}-{test}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends these bytes, and a descriptor with them.
fn send(socket: impl AsFd, data: &[u8], descriptor: impl AsFd) {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(data)], &mut ancillary, SendFlags::empty()).unwrap();
}

#[test]
fn n1_descriptors_that_a_peer_sends_unasked_do_not_stay_with_us() {
    let folder = Folder::new("streams");
    let path = folder.0.join("echo.sock");
    let mut event_loop = event_loop();
    event_loop.context().listen(UnixAddress::Path(path.clone()), |_, _| Some(Echo)).unwrap();
    // If the loop had kept a copy of the writing end, the reading end would not see its end.
    let (mut reads, writes) = UnixStream::pair().unwrap();
    let ends = serve_while(&mut event_loop, move || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for n in 0..100u8 {
            send(&stream, &[n], &writes);
        }
        drop(writes);
        // All data sent along with them has arrived.
        let mut back = [0; 100];
        stream.read_exact(&mut back).unwrap();
        assert!(back.iter().copied().eq(0..100));
        std::thread::spawn(move || reads.read(&mut [0]).unwrap())
    });
    turn_until(&mut event_loop, |_| ends.is_finished());
    assert_eq!(join(ends), 0);
}

/// Counts the datagrams that arrive unchanged.
struct Counting(Rc<Cell<usize>>);

impl DatagramProtocol for Counting {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        assert_eq!(data, b"a descriptor");
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn n1_descriptors_that_come_with_a_datagram_unasked_do_not_stay_with_us() {
    let folder = Folder::new("datagrams");
    let path = folder.0.join("receiver");
    let mut event_loop = event_loop();
    let received = Rc::new(Cell::new(0));
    let address = Address::Unix(UnixAddress::Path(path.clone()));
    event_loop.context().bind_datagram(address, Counting(received.clone())).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&path).unwrap();
    // If the loop had kept a copy of the writing end, the reading end would not see its end.
    let (mut reads, writes) = UnixStream::pair().unwrap();
    reads.set_nonblocking(true).unwrap();
    for _ in 0..5 {
        send(&sender, b"a descriptor", &writes);
    }
    drop(writes);
    turn_until(&mut event_loop, |_| received.get() == 5);
    assert_eq!(reads.read(&mut [0]).unwrap(), 0);
}
