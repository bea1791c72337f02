//! Unix datagram sockets: names, peers without one, receivers that do not read.

use std::cell::RefCell;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use switchboard::{
    Address, CloseReason, DatagramError, DatagramId, DatagramProtocol, DatagramTransport, EventLoop, Limits,
    UnixAddress,
};

use crate::support::{PATIENCE, event_loop, pattern, turn_until};

/// Answers senders that have a name; records the rest as lines.
struct Answering(Rc<RefCell<Vec<String>>>);

impl DatagramProtocol for Answering {
    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.0.borrow_mut().push(format!("{} bytes from {from}", data.len()));
        transport.send_to(data, from);
    }

    fn error_received(&mut self, _: &mut DatagramTransport<'_>, error: &DatagramError) {
        self.0.borrow_mut().push(error.to_string());
    }

    fn pause_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.0.borrow_mut().push("pause".into());
    }

    fn resume_writing(&mut self, _: &mut DatagramTransport<'_>) {
        self.0.borrow_mut().push("resume".into());
    }

    fn connection_lost(&mut self, _: &mut DatagramTransport<'_>, reason: CloseReason) {
        self.0.borrow_mut().push(reason.to_string());
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
type Answers = Rc<RefCell<Vec<(Vec<u8>, Address)>>>;

/// Asks, and keeps the answer.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct AskingOnce(Address, Answers);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl DatagramProtocol for AskingOnce {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        transport.send_to(b"ask", &self.0);
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        self.1.borrow_mut().push((data.to_vec(), from.clone()));
        transport.close();
    }
}

type Lines = Rc<RefCell<Vec<String>>>;

/// A separate folder for the test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("switchboard-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(path: PathBuf) -> Address {
    Address::Unix(UnixAddress::Path(path))
}

fn bind(event_loop: &mut EventLoop, address: Address) -> (DatagramId, Lines) {
    let lines = Lines::default();
    let id = event_loop.context().bind_datagram(address, Answering(lines.clone())).unwrap();
    (id, lines)
}

fn client(path: PathBuf) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A loop whose send is blocked tries again now and then, and does not spin.
fn assert_rests(event_loop: &mut EventLoop) {
    const TIME: Duration = Duration::from_millis(50);
    let start = Instant::now();
    let mut turns = 0;
    while let Some(left) = TIME.checked_sub(start.elapsed()) {
        event_loop.turn(Some(left)).unwrap();
        turns += 1;
    }
    assert!(turns < 50, "{turns} turns in {TIME:?}");
}

#[test]
fn u1_unix_datagrams_are_answered_and_who_has_no_name_is_told_as_such() {
    let folder = Folder::new("named");
    let mut event_loop = event_loop();
    let path = folder.0.join("server");
    let (_, lines) = bind(&mut event_loop, at(path.clone()));
    let client = client(folder.0.join("client"));
    let mut back = vec![0; 100_000];
    // Longer than any UDP datagram, so truncated by default.
    for data in [&b"hello"[..], b"", &pattern(65_535)] {
        client.send_to(data, &path).unwrap();
        turn_until(&mut event_loop, |_| !lines.borrow().is_empty());
        let shown = format!("{} bytes from unix:{}", data.len(), folder.0.join("client").display());
        assert_eq!(lines.take(), [shown]);
        let count = client.recv(&mut back).unwrap();
        assert!(&back[..count] == data);
    }
    UnixDatagram::unbound().unwrap().send_to(b"who am I?", &path).unwrap();
    turn_until(&mut event_loop, |_| lines.borrow().len() == 2);
    let lines = lines.take();
    assert_eq!(lines[0], "9 bytes from unix:(unnamed)");
    assert!(lines[1].starts_with("cannot send to unix:(unnamed): "), "{lines:?}");
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn u1_abstract_names_work_both_ways() {
    let mut event_loop = event_loop();
    let name = |kind: &str| {
        let name = format!("switchboard {kind} {}", std::process::id());
        Address::Unix(UnixAddress::Abstract(name.into_bytes().into()))
    };
    let (_, lines) = bind(&mut event_loop, name("server"));
    let answers = Answers::default();
    let client = AskingOnce(name("server"), answers.clone());
    event_loop.context().bind_datagram(name("client"), client).unwrap();
    turn_until(&mut event_loop, |_| !answers.borrow().is_empty());
    assert_eq!(*lines.borrow(), [format!("3 bytes from {}", name("client"))]);
    assert_eq!(*answers.borrow(), [(b"ask".to_vec(), name("server"))]);
}

#[test]
fn u1_a_path_is_removed_on_close_but_only_ours() {
    let folder = Folder::new("paths");
    let mut event_loop = event_loop();
    let path = folder.0.join("socket");
    let (id, lines) = bind(&mut event_loop, at(path.clone()));
    let taken = event_loop.context().bind_datagram(at(path.clone()), Answering(lines.clone()));
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    event_loop.context().datagram(id).unwrap().close();
    event_loop.run_until_idle().unwrap();
    assert!(!path.exists());
    let (id, _) = bind(&mut event_loop, at(path.clone()));
    std::fs::remove_file(&path).unwrap();
    let _other = client(path.clone());
    event_loop.context().datagram(id).unwrap().abort();
    assert!(path.exists(), "it is somebody else's");
    let stale = folder.0.join("stale");
    drop(UnixDatagram::bind(&stale).unwrap());
    bind(&mut event_loop, at(stale));
    let (file, stream) = (folder.0.join("file"), folder.0.join("stream"));
    std::fs::write(&file, "somebody's").unwrap();
    let _listener = UnixListener::bind(&stream).unwrap();
    for bad in [
        file.clone(),
        stream.clone(),
        folder.0.clone(),
        folder.0.join("x".repeat(200)),
        folder.0.join("no such folder").join("socket"),
    ] {
        assert!(event_loop.context().bind_datagram(at(bad), Answering(lines.clone())).is_err());
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "somebody's");
    assert!(stream.exists());
    let inet = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
    let (id, lines) = bind(&mut event_loop, at(folder.0.join("third")));
    event_loop.context().datagram(id).unwrap().send_to(b"to another kind", &inet);
    turn_until(&mut event_loop, |_| lines.borrow().len() == 1);
}

#[test]
fn u1_what_a_receiver_does_not_take_waits_and_then_all_of_it_comes() {
    let folder = Folder::new("waiting");
    for connected in [false, true] {
        let mut event_loop = event_loop();
        let path = folder.0.join(format!("receiver {connected}"));
        let receiver = client(path.clone());
        receiver.set_nonblocking(true).unwrap();
        let to = at(path);
        let lines = Lines::default();
        let protocol = Answering(lines.clone());
        let id = match connected {
            true => event_loop.context().connect_datagram(to.clone(), protocol),
            false => event_loop.context().bind_datagram(Address::Unix(UnixAddress::Unnamed), protocol),
        };
        let id = id.unwrap();
        {
            let mut context = event_loop.context();
            let mut transport = context.datagram(id).unwrap();
            for number in 0..1000_u32 {
                let data = [&number.to_be_bytes()[..], &[7; 96]].concat();
                match connected {
                    true => transport.send(&data),
                    false => transport.send_to(&data, &to),
                }
            }
            assert!(transport.queued_bytes() > 64 * 1024);
        }
        turn_until(&mut event_loop, |_| lines.borrow().len() == 1);
        assert_rests(&mut event_loop);
        let mut received = Vec::new();
        turn_until(&mut event_loop, |_| {
            let mut data = [0; 200];
            while let Ok(count) = receiver.recv(&mut data) {
                assert_eq!(count, 100);
                received.push(u32::from_be_bytes(data[..4].try_into().unwrap()));
            }
            received.len() == 1000
        });
        assert!(received.iter().copied().eq(0..1000));
        turn_until(&mut event_loop, |_| lines.borrow().len() == 2);
        assert_eq!(lines.take(), ["pause", "resume"]);
    }
}

#[test]
fn u1_a_close_tells_how_many_datagrams_a_receiver_that_does_not_read_has_not_got() {
    const COUNT: usize = 2000;
    let folder = Folder::new("unread");
    for connected in [false, true] {
        let mut event_loop =
            EventLoop::with_limits(Limits::default().with_close_timeout(Duration::from_millis(50))).unwrap();
        let path = folder.0.join(format!("receiver {connected}"));
        let receiver = client(path.clone());
        let to = at(path);
        let lines = Lines::default();
        let protocol = Answering(lines.clone());
        let mut context = event_loop.context();
        let id = match connected {
            true => context.connect_datagram(to.clone(), protocol),
            false => context.bind_datagram(Address::Unix(UnixAddress::Unnamed), protocol),
        };
        let mut transport = context.datagram(id.unwrap()).unwrap();
        for _ in 0..COUNT {
            match connected {
                true => transport.send(b"a line"),
                false => transport.send_to(b"a line", &to),
            }
        }
        transport.close();
        event_loop.run_until_idle().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut data = [0; 20];
        let received = std::iter::from_fn(|| receiver.recv(&mut data).ok()).count();
        assert!((1..COUNT).contains(&received), "{received}");
        let dropped = format!("{} datagrams dropped unsent", COUNT - received);
        assert_eq!(lines.take(), [&dropped, "the peer did not take the remaining output in time"]);
    }
}

#[test]
fn u1_a_receiver_that_others_have_filled_is_tried_again_by_time() {
    let folder = Folder::new("filled");
    let mut event_loop = event_loop();
    let path = folder.0.join("receiver");
    let receiver = client(path.clone());
    receiver.set_nonblocking(true).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"of another one", &path).is_ok() {}
    let (id, _) = bind(&mut event_loop, Address::Unix(UnixAddress::Unnamed));
    event_loop.context().datagram(id).unwrap().send_to(b"ours", &at(path));
    assert_eq!(event_loop.context().datagram(id).unwrap().queued_bytes(), 4);
    assert_rests(&mut event_loop);
    let mut data = [0; 20];
    while receiver.recv(&mut data).is_ok() {}
    let mut count = 0;
    turn_until(&mut event_loop, |_| {
        count = receiver.recv(&mut data).unwrap_or_default();
        count > 0
    });
    assert_eq!(&data[..count], b"ours");
}

/// Records the length of each datagram, and whether it was truncated; raises its limit if requested.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct Measuring {
    bytes_max: Option<usize>,
    lines: Lines,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl DatagramProtocol for Measuring {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        if let Some(bytes) = self.bytes_max {
            transport.set_datagram_bytes_max(bytes);
        }
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        assert!(data == pattern(data.len()));
        self.lines.borrow_mut().push(format!("{} bytes", data.len()));
        if data == pattern(5) {
            transport.set_datagram_bytes_max(200_000);
        }
    }

    fn datagram_truncated(&mut self, _: &mut DatagramTransport<'_>, data: &[u8], _: &Address) {
        assert!(data == pattern(data.len()));
        self.lines.borrow_mut().push(format!("cut to {} bytes", data.len()));
    }
}

/// Returns what is delivered of datagrams of these lengths, all of which are waiting when the loop polls.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn measure(name: &str, limits: Limits, bytes_max: Option<usize>, lengths: &[usize]) -> Vec<String> {
    let folder = Folder::new(name);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    event_loop.set_panic_policy(switchboard::PanicPolicy::Propagate);
    let lines = Lines::default();
    let path = folder.0.join("receiver");
    let protocol = Measuring { bytes_max, lines: lines.clone() };
    event_loop.context().bind_datagram(at(path.clone()), protocol).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&sender).set_send_buffer_size(200_000).unwrap();
    for &length in lengths {
        sender.send_to(&pattern(length), &path).unwrap();
    }
    turn_until(&mut event_loop, |_| lines.borrow().len() == lengths.len());
    lines.take()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn u1_unix_datagrams_over_64_kib_come_whole_up_to_the_limit_and_longer_ones_are_told_as_cut() {
    let limits = || Limits::default().with_datagram_bytes_max(150_000);
    assert_eq!(measure("large", limits(), None, &[150_000]), ["150000 bytes"]);
    assert_eq!(measure("larger", limits(), None, &[150_001]), ["cut to 150000 bytes"]);
    assert_eq!(measure("edges", limits(), None, &[65_535, 65_536]), ["65535 bytes", "65536 bytes"]);
    assert_eq!(measure("just", limits().with_datagram_bytes_max(65_536), None, &[65_536]), ["65536 bytes"]);
    let unlimited = limits().with_datagram_bytes_max(usize::MAX);
    assert_eq!(measure("unlimited", unlimited, None, &[180_000]), ["180000 bytes"]);
    // By default, and with a limit for one socket.
    assert_eq!(measure("default", Limits::default(), None, &[65_535, 65_536]), ["65535 bytes", "cut to 65535 bytes"]);
    assert_eq!(measure("made", Limits::default(), Some(100_000), &[100_000]), ["100000 bytes"]);
    // A limit set by a callback applies to the next datagram.
    assert_eq!(measure("raised", Limits::default(), None, &[5, 150_000]), ["5 bytes", "150000 bytes"]);
    assert_eq!(measure("lowered", limits(), Some(10), &[11]), ["cut to 10 bytes"]);
}
