//! N1: Unix stream sockets that the loop listens on or connects to.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use switchboard::{
    Address, CloseReason, ConnectError, EventLoop, Listen, ListenerId, Protocol, Transport, UnixAddress,
};
#[cfg(target_os = "linux")]
use switchboard::{Connect, Context};

use crate::support::{Echo, PATIENCE, event_loop, pattern, serve_while, turn_until};

/// A separate folder for the test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("switchboard-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn listen_with_mode(event_loop: &mut EventLoop, path: &Path, mode: Option<u32>) -> io::Result<ListenerId> {
    let listen = Listen::at(UnixAddress::Path(path.to_owned()));
    let listen = mode.into_iter().fold(listen, Listen::mode);
    event_loop.context().listen(listen, |_, _| Some(Echo))
}

fn listen(event_loop: &mut EventLoop, path: &Path) -> io::Result<ListenerId> {
    listen_with_mode(event_loop, path, None)
}

fn close(event_loop: &mut EventLoop, id: ListenerId) {
    event_loop.context().listener(id).unwrap().close();
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Returns whether somebody answers there.
fn answers(event_loop: &mut EventLoop, path: &Path) -> bool {
    let path = path.to_owned();
    serve_while(event_loop, move || {
        let mut stream = connect(&path);
        stream.write_all(b"x").unwrap();
        let mut back = [0];
        stream.read_exact(&mut back).is_ok() && back == *b"x"
    })
}

/// What came, in order.
type Notes = Rc<RefCell<Vec<String>>>;

struct Client {
    notes: Notes,
    sends: Vec<u8>,
    got: usize,
}

impl Client {
    fn sending(bytes: usize) -> (Client, Notes) {
        let notes = Notes::default();
        (Client { notes: notes.clone(), sends: pattern(bytes), got: 0 }, notes)
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let peer = transport.peer_addr().unwrap();
        self.notes.borrow_mut().push(format!("made to {peer}"));
        transport.write(&self.sends);
        transport.shutdown_write();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        assert_eq!(data, &self.sends[self.got..][..data.len()]);
        self.got += data.len();
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.notes.borrow_mut().push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.notes.borrow_mut().push(format!("lost: {reason}, {} back", self.got));
    }
}

/// A client of the same loop, until it has ended.
fn talk(event_loop: &mut EventLoop, address: UnixAddress) -> Vec<String> {
    let (client, notes) = Client::sending(1 << 20);
    event_loop.context().connect(address, client).unwrap();
    turn_until(event_loop, |context| context.connection_count() == 0);
    notes.take()
}

#[test]
fn n1_a_path_is_listened_on_connected_to_and_removed_at_the_end() {
    let folder = Folder::new("path");
    let path = folder.path("echo.sock");
    let mut event_loop = event_loop();
    let id = listen(&mut event_loop, &path).unwrap();
    let address = UnixAddress::Path(path.clone());
    let local = event_loop.context().listener(id).unwrap().local_addr().unwrap();
    assert_eq!(local, Address::Unix(address.clone()));
    let made = format!("made to unix:{}", path.display());
    assert_eq!(talk(&mut event_loop, address), [&made, "lost: closed by the peer, 1048576 back"]);
    close(&mut event_loop, id);
    assert!(!path.exists());
    let again = listen(&mut event_loop, &path);
    assert!(again.is_ok());
    drop(event_loop);
    assert!(!path.exists(), "the loop's end is the listener's");
}

#[cfg(target_os = "linux")]
#[test]
fn n1_abstract_names_work_whatever_bytes_they_are() {
    let name = format!("switchboard\0\u{1b}[2J{}", std::process::id()).into_bytes();
    let address = UnixAddress::Abstract([&name[..], b"\xff"].concat().into());
    let mut event_loop = event_loop();
    let factory = |_: &mut Context<'_>, peer: &Address| {
        assert_eq!(peer.to_string(), "unix:(unnamed)");
        Some(Echo)
    };
    event_loop.context().listen(address.clone(), factory).unwrap();
    let taken = event_loop.context().listen(address.clone(), |_, _| None::<Echo>).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    let notes = talk(&mut event_loop, address);
    assert!(notes[0].starts_with(r"made to unix:@switchboard\x00\x1b[2J"), "{notes:?}");
    assert_eq!(notes[1], "lost: closed by the peer, 1048576 back");
}

#[test]
fn n1_a_stale_path_is_replaced() {
    let folder = Folder::new("stale");
    let path = folder.path("stale.sock");
    drop(UnixListener::bind(&path).unwrap()); // As a crash leaves it.
    assert!(path.exists());
    let mut event_loop = event_loop();
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        // A busy server refuses too, so it must be asked for.
        assert_eq!(listen(&mut event_loop, &path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(switchboard::remove_stale_socket(&path).unwrap());
    }
    listen(&mut event_loop, &path).unwrap();
    assert!(answers(&mut event_loop, &path));
}

#[test]
fn n1_a_path_on_which_somebody_listens_is_an_error_and_stays_his() {
    let folder = Folder::new("alive");
    let path = folder.path("alive.sock");
    let mut first = event_loop();
    listen(&mut first, &path).unwrap();
    assert_eq!(listen(&mut event_loop(), &path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(answers(&mut first, &path));
    // Also one that is so busy that its backlog is full.
    let busy_path = folder.path("busy.sock");
    let busy = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    busy.bind(&socket2::SockAddr::unix(&busy_path).unwrap()).unwrap();
    busy.listen(0).unwrap();
    let _waiting = connect(&busy_path);
    assert_eq!(listen(&mut event_loop(), &busy_path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(busy_path.exists());
}

#[test]
fn n1_what_is_no_socket_is_left_alone() {
    let folder = Folder::new("files");
    let (file, directory, link) = (folder.path("file"), folder.path("directory"), folder.path("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&directory).unwrap();
    let stale = folder.path("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    std::os::unix::fs::symlink(&stale, &link).unwrap();
    let mut event_loop = event_loop();
    for path in [&file, &directory, &link] {
        let error = listen(&mut event_loop, path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{path:?}");
        assert!(error.to_string().contains("not a socket"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert!(directory.is_dir() && link.is_symlink() && stale.exists());
    let error = event_loop.context().connect(UnixAddress::Path(file), Client::sending(0).0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn n1_only_our_own_inode_is_removed() {
    let folder = Folder::new("successor");
    let path = folder.path("taken.sock");
    let mut event_loop = event_loop();
    let ours = listen(&mut event_loop, &path).unwrap();
    // A successor has removed it and listens now.
    fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    close(&mut event_loop, ours);
    assert!(path.exists());
    let gone = folder.path("gone.sock");
    let ours = listen(&mut event_loop, &gone).unwrap();
    fs::remove_file(&gone).unwrap();
    close(&mut event_loop, ours);
}

#[test]
fn n1_the_mode_is_what_was_asked_for() {
    let folder = Folder::new("mode");
    let mut event_loop = event_loop();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = folder.path(&format!("{mode:o}.sock"));
        listen_with_mode(&mut event_loop, &path, Some(mode)).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{mode:o}");
        assert!(answers(&mut event_loop, &path));
    }
}

#[test]
fn n1_a_path_that_is_too_long_or_none_is_a_clear_error_and_makes_nothing() {
    let folder = Folder::new("long");
    let mut event_loop = event_loop();
    let long = folder.path(&"x".repeat(200));
    let error = listen(&mut event_loop, &long).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("too long"), "{error}");
    let error = event_loop.context().connect(UnixAddress::Path(long), Client::sending(0).0).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    for address in [UnixAddress::Path(PathBuf::new()), UnixAddress::Unnamed, UnixAddress::Path("a\0b".into())] {
        let error = event_loop.context().listen(address, |_, _| None::<Echo>).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    assert_eq!(listen(&mut event_loop, &folder.path("no/such/folder")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn k1_connecting_to_a_path_where_nobody_listens_fails_at_once() {
    let folder = Folder::new("nobody");
    let stale = folder.path("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let mut event_loop = event_loop();
    for (path, kind) in [(stale, io::ErrorKind::ConnectionRefused), (folder.path("none.sock"), io::ErrorKind::NotFound)]
    {
        let error = event_loop.context().connect(UnixAddress::Path(path), Client::sending(0).0).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    assert_eq!(event_loop.context().connection_count(), 0);
}

#[test]
fn n1_a_ready_made_listener_is_taken_and_its_path_left_to_whoever_made_it() {
    let folder = Folder::new("ready-made");
    let path = folder.path("socket");
    let mut event_loop = event_loop();
    let theirs = UnixListener::bind(&path).unwrap();
    let ours = theirs.try_clone().unwrap();
    let id = event_loop.context().listen(ours, |_, _| Some(Echo)).unwrap();
    assert!(answers(&mut event_loop, &path));
    assert!(event_loop.context().listener(id).unwrap().sockets().next().is_some());
    close(&mut event_loop, id);
    assert!(path.exists());
    // It may be told to remove the path after all, as the last owner of the socket.
    let id = event_loop.context().listen(theirs, |_, _| None::<Echo>).unwrap();
    event_loop.context().listener(id).unwrap().set_unlinks(true).unwrap();
    close(&mut event_loop, id);
    assert!(!path.exists());
}

#[test]
fn n1_who_hands_its_listener_on_leaves_the_path_alone() {
    let folder = Folder::new("handed-on");
    let path = folder.path("socket");
    let mut event_loop = event_loop();
    let id = listen(&mut event_loop, &path).unwrap();
    let mut context = event_loop.context();
    let mut listening = context.listener(id).unwrap();
    listening.set_unlinks(false).unwrap();
    // Turned on again when nothing is at the path any more, and when something else is.
    fs::remove_file(&path).unwrap();
    assert_eq!(listening.set_unlinks(true).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(&path, "no socket").unwrap();
    assert_eq!(listening.set_unlinks(true).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    close(&mut event_loop, id);
    assert!(path.exists());
    fs::remove_file(&path).unwrap();
    let id = listen(&mut event_loop, &path).unwrap();
    event_loop.context().listener(id).unwrap().set_unlinks(false).unwrap();
    close(&mut event_loop, id);
    assert!(path.exists(), "the socket that it was stays, for whoever has it too");
}

/// A socket whose backlog has room for one, and the one that waits there.
#[cfg(target_os = "linux")]
fn full(path: &Path) -> (UnixListener, UnixStream) {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let waiting = connect(path);
    (listener, waiting)
}

#[cfg(target_os = "linux")]
#[test]
fn k2_a_connect_to_a_full_backlog_is_tried_again_until_there_is_room() {
    let folder = Folder::new("full");
    let path = folder.path("full.sock");
    let (listener, _waiting) = full(&path);
    let mut event_loop = event_loop();
    let (client, notes) = Client::sending(4);
    event_loop.context().connect(UnixAddress::Path(path.clone()), client).unwrap();
    // It waits, and does not spin.
    let before = event_loop.context().counters().turns;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        event_loop.turn(Some(Duration::from_millis(100))).unwrap();
    }
    assert!(event_loop.context().counters().turns - before < 20);
    assert!(notes.borrow().is_empty());
    let (_first, _) = listener.accept().unwrap();
    turn_until(&mut event_loop, |_| !notes.borrow().is_empty());
    assert_eq!(notes.take(), [format!("made to unix:{}", path.display())]);
    let (mut second, _) = listener.accept().unwrap();
    let mut got = Vec::new();
    let got = serve_while(&mut event_loop, move || {
        second.read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(got, pattern(4));
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert_eq!(notes.take(), ["lost: closed by the peer, 0 back"]);
}

#[cfg(target_os = "linux")]
#[test]
fn k2_a_connect_to_a_backlog_that_stays_full_ends_at_its_deadline_or_when_it_is_cancelled() {
    let folder = Folder::new("stays-full");
    let path = folder.path("full.sock");
    let (_listener, _waiting) = full(&path);
    let mut event_loop = event_loop();
    let (client, notes) = Client::sending(0);
    let target = Connect::to(UnixAddress::Path(path.clone())).timeout(Duration::from_millis(50));
    let start = Instant::now();
    event_loop.context().connect(target, client).unwrap();
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert!(start.elapsed() >= Duration::from_millis(50));
    let expected = format!("failed: connecting took too long: unix:{}: its backlog is full", path.display());
    assert_eq!(notes.take(), [expected]);

    for aborts in [true, false] {
        let (client, notes) = Client::sending(0);
        let id = event_loop.context().connect(UnixAddress::Path(path.clone()), client).unwrap();
        event_loop.turn(Some(Duration::from_millis(20))).unwrap();
        let mut context = event_loop.context();
        let mut transport = context.connection(id).unwrap();
        match aborts {
            true => transport.abort(),
            false => transport.close(),
        }
        turn_until(&mut event_loop, |context| context.connection_count() == 0);
        assert_eq!(notes.borrow().len(), 1, "{notes:?}");
        assert_eq!(event_loop.time_to_next(), None, "a timer is left");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn k2_a_connect_to_a_full_backlog_fails_at_once_when_its_server_is_gone() {
    let folder = Folder::new("full-and-gone");
    let path = folder.path("full.sock");
    let (listener, _waiting) = full(&path);
    let mut event_loop = event_loop();
    let (client, notes) = Client::sending(0);
    event_loop.context().connect(UnixAddress::Path(path), client).unwrap();
    drop(listener);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
    assert!(notes.borrow()[0].contains("refused"), "{notes:?}");
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn n1_of_servers_that_start_on_a_stale_path_at_once_one_listens_and_has_the_path() {
    const SERVERS: usize = 4;
    let folder = Folder::new("race");
    for round in 0..10 {
        let path = folder.path(&format!("{round}.sock"));
        drop(UnixListener::bind(&path).unwrap()); // As a crash leaves it.
        let barrier = std::sync::Barrier::new(SERVERS);
        let start = || {
            let mut event_loop = event_loop();
            barrier.wait();
            let listens = listen(&mut event_loop, &path);
            barrier.wait();
            let is_served = listens.is_ok().then(|| answers(&mut event_loop, &path));
            barrier.wait();
            (listens.map(drop).map_err(|error| error.kind()), is_served)
        };
        let servers = std::thread::scope(|scope| {
            let servers = [(); SERVERS].map(|()| scope.spawn(start));
            servers.map(|server| server.join().unwrap())
        });
        let listen = servers.iter().filter(|server| server.0.is_ok()).count();
        assert_eq!(listen, 1, "{servers:?}");
        assert!(servers.contains(&(Ok(()), Some(true))), "{servers:?}");
        let in_use = servers.iter().filter(|server| server.0 == Err(io::ErrorKind::AddrInUse)).count();
        assert_eq!(in_use, SERVERS - 1, "{servers:?}");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "something is left");
    }
}
