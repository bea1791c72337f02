//! A server run by a service manager, and its restart without a gap.
//!
//! Process-wide effects are tested in a child; tests/real/service.py tests them under load, and with systemd's own
//! program.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use switchboard::filter::{Filter, Flow};
use switchboard::service::Service;
use switchboard::signals::Signal;
use switchboard::{Endpoint, EventLoop, Listen, Protocol, Transport};

use crate::process::{Process, send, wait_until};
use crate::support::{PATIENCE, any_port, connect, uninterrupted};

const CHILD: &str = "SWITCHBOARD_TEST_SERVICE_CHILD";

/// What the child listens at, line by line.
const ENDPOINTS: &str = "SWITCHBOARD_TEST_SERVICE_ENDPOINTS";

/// Whether the child logs.
const LOGS: &str = "SWITCHBOARD_TEST_SERVICE_LOGS";

/// How many descriptors the child may have.
const DESCRIPTORS: &str = "SWITCHBOARD_TEST_SERVICE_DESCRIPTORS";

/// The exit code of a successor that is told not to become ready.
const NOT_READY: i32 = 9;

/// A separate folder for the test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("switchboard-{}-service-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers a line with its process id, or hangs forever.
struct Tells;

impl Protocol for Tells {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        match data {
            // Longer than any test waits.
            b"stuck\n" => thread::sleep(PATIENCE * 3),
            b"which\n" => transport.write(format!("{}\n", std::process::id()).as_bytes()),
            _ => return 0,
        }
        if transport.context().is_draining() {
            transport.close();
        }
        data.len()
    }
}

/// Warnings and errors on stderr, a line each.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

#[test]
fn the_child_of_services() {
    let Some(scene) = std::env::var_os(CHILD) else { return };
    let takes_over = std::env::var("LISTEN_FDNAMES").is_ok_and(|names| names.contains("%predecessor"));
    let scene = scene.into_string().unwrap();
    let may_be_ready =
        scene.strip_prefix("not ready without ").map_or(scene != "not ready", |path| Path::new(path).exists());
    if takes_over && !may_be_ready {
        std::process::exit(NOT_READY);
    }
    if std::env::var_os(LOGS).is_some() {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    }
    if let Err(error) = serve(takes_over) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Changes one bit of every byte.
struct Masked;

const MASK: u8 = 0x80;

impl Filter for Masked {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        data.iter_mut().for_each(|byte| *byte ^= MASK);
        flow.up().push(data);
        data.len()
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let masked: Vec<u8> = data.iter().map(|byte| byte ^ MASK).collect();
        flow.down().push(&masked);
        data.len()
    }
}

/// The same, at a client.
impl Read for Unmasked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        buffer[..count].iter_mut().for_each(|byte| *byte ^= MASK);
        Ok(count)
    }
}

struct Unmasked(TcpStream);

impl Write for Unmasked {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(&data.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn serve(takes_over: bool) -> io::Result<()> {
    if let Ok(descriptors) = std::env::var(DESCRIPTORS) {
        let (_, maximum) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, descriptors.parse().unwrap(), maximum)?;
    }
    let mut service = Service::from_env()?.grace(PATIENCE).start_timeout(PATIENCE);
    let mut event_loop = EventLoop::new()?;
    // Even after a failure it does not run forever, since nobody waits for a successor.
    event_loop.context().call_later(PATIENCE * 4, |_| std::process::exit(8));
    if !takes_over {
        eprintln!("names: {:?}", service.names());
    }
    let mut addresses = Vec::new();
    for endpoint in std::env::var(ENDPOINTS).unwrap().lines() {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let mut context = event_loop.context();
        let listener = match std::env::var_os(CHILD).is_some_and(|scene| scene == "serves masked") {
            true => {
                let masked = |listen: Listen| listen.filter(|_| Some(Masked));
                service.listen_with(&mut context, &endpoint, masked, |_, _| Some(Tells))?
            }
            false => service.listen(&mut context, &endpoint, |_, _| Some(Tells))?,
        };
        addresses.extend(event_loop.context().listener(listener).unwrap().local_addrs()?);
    }
    service.start(&mut event_loop.context())?;
    if !takes_over {
        for address in addresses {
            eprintln!("{address}");
        }
    }
    event_loop.run()
}

/// The test's own child, with these sockets as its descriptors from 3 on.
fn start(scene: &str, endpoints: &[&str], sockets: Vec<(&str, OwnedFd)>, change: impl FnOnce(&mut Command)) -> Process {
    let mut command = Process::command("service::the_child_of_services");
    command.env(CHILD, scene).env(ENDPOINTS, endpoints.join("\n"));
    if !sockets.is_empty() {
        let (names, sockets): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let mappings = sockets.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).unwrap();
    }
    change(&mut command);
    Process::start(command)
}

/// Which process answers there.
fn which(stream: &mut (impl Read + Write)) -> u32 {
    stream.write_all(b"which\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap().trim_end().parse().unwrap()
}

fn connect_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn service_restart_hands_the_listeners_to_a_new_process_and_the_old_one_drains() {
    let folder = Folder::new("restart");
    let path = folder.0.join("own.sock");
    let endpoints = ["tcp:127.0.0.1:0", &format!("unix:{}", path.display())];
    let mut old = start("serves", &endpoints, vec![], |_| {});
    assert_eq!(old.line(), "names: []");
    let address = old.address();
    assert!(old.line().starts_with("unix:"));
    let mut kept = connect(address);
    assert_eq!(which(&mut kept), old.child.id());
    old.send(Signal::USR2);
    // Both listen for a while, and either may answer. Then the old one has let go.
    let new = wait_until(|| Some(which(&mut connect(address))).filter(|process| *process != old.child.id()));
    // A connected client stays with its process, and is closed with the next answer.
    assert_eq!(which(&mut kept), old.child.id());
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    assert_eq!(old.end().code(), Some(0));
    assert_eq!(which(&mut connect(address)), new);
    assert_eq!(which(&mut connect_unix(&path)), new);
    send(new, Signal::TERM);
    wait_until(|| is_refused(address).then_some(()));
    wait_until(|| (!path.exists()).then_some(()));
}

#[test]
fn service_restart_that_fails_changes_nothing() {
    let folder = Folder::new("fails");
    let path = folder.0.join("own.sock");
    let notified = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let endpoints = ["tcp:127.0.0.1:0", &format!("unix:{}", path.display())];
    let mut process = start("not ready", &endpoints, vec![], |command| {
        command.env("NOTIFY_SOCKET", folder.0.join("notify"));
    });
    process.line();
    let address = process.address();
    assert_eq!(hear(&notified), "READY=1\n");
    for _ in 0..3 {
        process.send(Signal::USR2);
        assert!(hear(&notified).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        let told = hear(&notified);
        assert!(told.starts_with("READY=1\nSTATUS=") && told.contains("exit status: 9"), "{told}");
        assert_eq!(which(&mut connect(address)), process.child.id());
        assert_eq!(which(&mut connect_unix(&path)), process.child.id());
    }
    process.send(Signal::TERM);
    assert_eq!(hear(&notified), "STOPPING=1\n");
    assert_eq!(process.end().code(), Some(0));
    assert!(!path.exists());
}

fn hear(notified: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let count = uninterrupted(|| notified.recv(&mut message)).unwrap();
    String::from_utf8(message[..count].to_vec()).unwrap()
}

#[test]
fn service_watchdog_is_told_by_the_loop_itself() {
    let folder = Folder::new("watchdog");
    let notified = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut process = start("serves", &["tcp:127.0.0.1:0"], vec![], |command| {
        command.env("NOTIFY_SOCKET", folder.0.join("notify")).env("WATCHDOG_USEC", "20000");
    });
    process.line();
    let address = process.address();
    assert_eq!(hear(&notified), "READY=1\n");
    for _ in 0..5 {
        assert_eq!(hear(&notified), "WATCHDOG=1\n");
    }
    connect(address).write_all(b"stuck\n").unwrap();
    // What it has told before it was stuck may still be there; then nothing comes.
    notified.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silent = wait_until(|| uninterrupted(|| notified.recv(&mut [0; 100])).err());
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);
}

/// Addresses of sd_notify(3) other than paths and abstract names, and invalid ones.
#[test]
fn service_says_once_that_a_manager_s_address_is_not_supported_and_goes_on() {
    for address in ["vsock:2:1234", "vsock-stream:2:1234", "a/relative/path", "", &format!("/{}", "x".repeat(200))] {
        let mut process = start("not ready", &["tcp:127.0.0.1:0"], vec![], |command| {
            command.env(LOGS, "").env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "2000");
        });
        process.line();
        let told = process.line();
        assert!(told.starts_with(&format!("ERROR NOTIFY_SOCKET={address:?} is not supported")), "{told}");
        let listening = process.address();
        assert_eq!(which(&mut connect(listening)), process.child.id());
        // A failing restart is also reported.
        process.send(Signal::USR2);
        assert!(process.line().contains("the new process did not become ready"));
        assert_eq!(which(&mut connect(listening)), process.child.id());
        process.send(Signal::TERM);
        assert_eq!(process.end().code(), Some(0));
        let mut rest = String::new();
        process.lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "for {address:?}");
    }
}

/// What the manager is told next beside the watchdog's messages.
#[cfg(target_os = "linux")]
fn hear_but_the_watchdog(notified: &UnixDatagram) -> String {
    wait_until(|| Some(hear(notified)).filter(|message| message != "WATCHDOG=1\n"))
}

/// A child that may have this many descriptors, and silent peers that hold all of them.
#[cfg(target_os = "linux")] // Where the descriptors of a process can be looked at.
fn start_with_silent_peers(scene: &str, folder: &Folder, descriptors: usize) -> (Process, SocketAddr, Vec<TcpStream>) {
    let mut process = start(scene, &["tcp:127.0.0.1:0"], vec![], |command| {
        command.env("NOTIFY_SOCKET", folder.0.join("notify")).env("WATCHDOG_USEC", "20000");
        command.env(DESCRIPTORS, descriptors.to_string());
    });
    process.line();
    let address = process.address();
    let peers = (0..descriptors).map(|_| connect(address)).collect();
    // It may have been given others, with higher numbers.
    let used = || (0..descriptors).all(|fd| Path::new(&format!("/proc/{}/fd/{fd}", process.child.id())).exists());
    wait_until(|| used().then_some(()));
    (process, address, peers)
}

/// How many descriptors a child holds back: the largest number of those that are one and the same socket.
#[cfg(target_os = "linux")]
fn held_back(process: &Process) -> usize {
    let mut counts = std::collections::HashMap::new();
    let folder = fs::read_dir(format!("/proc/{}/fd", process.child.id())).unwrap();
    for socket in folder.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()) {
        *counts.entry(socket).or_insert(0) += 1;
    }
    counts.into_values().max().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn service_watchdog_is_told_though_peers_hold_all_descriptors() {
    if !crate::support::has_proc() {
        return;
    }
    let folder = Folder::new("watchdog-peers");
    let notified = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_process, _, _peers) = start_with_silent_peers("serves", &folder, 30);
    // What was told before is read first.
    notified.set_nonblocking(true).unwrap();
    while notified.recv(&mut [0; 100]).is_ok() {}
    notified.set_nonblocking(false).unwrap();
    for _ in 0..3 {
        assert_eq!(hear(&notified), "WATCHDOG=1\n");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn service_restart_works_though_peers_hold_all_descriptors_however_often_it_has_failed() {
    if !crate::support::has_proc() {
        return;
    }
    let folder = Folder::new("restart-peers");
    let notified = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let ready = folder.0.join("ready");
    let scene = format!("not ready without {}", ready.display());
    let (process, address, peers) = start_with_silent_peers(&scene, &folder, 40);
    assert_eq!(hear_but_the_watchdog(&notified), "READY=1\n");
    let held = held_back(&process);
    for _ in 0..12 {
        process.send(Signal::USR2);
        assert!(hear_but_the_watchdog(&notified).starts_with("RELOADING=1\n"));
        let told = hear_but_the_watchdog(&notified);
        assert!(told.starts_with("READY=1\nSTATUS=") && told.contains("exit status: 9"), "{told}");
        // A client in the backlog must not get the descriptor that the failed start has freed.
        wait_until(|| (held_back(&process) == held).then_some(()));
    }
    File::create(&ready).unwrap();
    process.send(Signal::USR2);
    assert!(hear_but_the_watchdog(&notified).starts_with("RELOADING=1\n"));
    let told = hear_but_the_watchdog(&notified);
    let new = told.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap_or_else(|| panic!("{told}"));
    // Connected clients stay with the old process; the new one has its own descriptors.
    assert_eq!(which(&mut connect(address)).to_string(), new);
    drop(peers);
    send(new.parse().unwrap(), Signal::TERM);
    wait_until(|| is_refused(address).then_some(()));
}

#[test]
fn service_takes_sockets_by_name_and_leaves_the_manager_s_path_alone() {
    let folder = Folder::new("by-name");
    let path = folder.0.join("theirs.sock");
    let [web, unclaimed] = [(); 2].map(|()| TcpListener::bind(any_port()).unwrap());
    let local = UnixListener::bind(&path).unwrap();
    let addresses = [&web, &unclaimed].map(|listener| listener.local_addr().unwrap());
    let sockets = vec![("web", web.into()), ("local", local.into()), ("nobody's", unclaimed.into())];
    let mut process = start("serves", &["systemd:local", "systemd:web"], sockets, |_| {});
    assert_eq!(process.line(), r#"names: ["web", "local", "nobody's"]"#);
    assert_eq!(process.line(), format!("unix:{}", path.display()));
    assert_eq!(process.address(), addresses[0]);
    assert_eq!(which(&mut connect(addresses[0])), process.child.id());
    assert_eq!(which(&mut connect_unix(&path)), process.child.id());
    // Nobody would answer there. (A process that another test is just starting may hold it for a moment.)
    wait_until(|| is_refused(addresses[1]).then_some(()));
    process.send(Signal::TERM);
    assert_eq!(process.end().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn service_listens_on_all_sockets_of_a_name_and_a_restart_hands_on_all_of_them() {
    let listeners = [(); 3].map(|()| TcpListener::bind(any_port()).unwrap());
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let [first, other, second] = listeners;
    let sockets = vec![("web", first.into()), ("other", other.into()), ("web", second.into())];
    let mut process = start("serves", &["systemd:web", "systemd:other"], sockets, |_| {});
    assert_eq!(process.line(), r#"names: ["web", "other", "web"]"#);
    // The two of one name, in their order, then the other.
    assert_eq!([(); 3].map(|()| process.address()), [addresses[0], addresses[2], addresses[1]]);
    assert_eq!(addresses.map(|address| which(&mut connect(address))), [process.child.id(); 3]);
    process.send(Signal::USR2);
    assert_eq!(process.end().code(), Some(0));
    let successors = addresses.map(|address| which(&mut connect(address)));
    assert_eq!(successors, [successors[0]; 3]);
    assert_ne!(successors[0], process.child.id());
    send(successors[0], Signal::TERM);
}

#[test]
fn service_has_filters_at_sockets_that_were_handed_over_and_behind_a_restart() {
    let web = TcpListener::bind(any_port()).unwrap();
    let address = web.local_addr().unwrap();
    let mut process = start("serves masked", &["systemd:web", "tcp:127.0.0.1:0"], vec![("web", web.into())], |_| {});
    process.line();
    let addresses = [(); 2].map(|()| process.address());
    assert_eq!(addresses[0], address);
    assert_eq!(addresses.map(|address| which(&mut Unmasked(connect(address)))), [process.child.id(); 2]);
    process.send(Signal::USR2);
    assert_eq!(process.end().code(), Some(0));
    let successors = addresses.map(|address| which(&mut Unmasked(connect(address))));
    assert_eq!(successors[0], successors[1]);
    assert_ne!(successors[0], process.child.id());
    send(successors[0], Signal::TERM);
}

#[test]
fn service_names_what_is_no_listening_socket() {
    let says = |what: &str, endpoint: &str, sockets: Vec<(&str, OwnedFd)>, change: fn(&mut Command)| {
        let mut process = start("serves", &[endpoint], sockets, change);
        let mut said = String::new();
        process.lines.read_to_string(&mut said).unwrap();
        assert!(said.contains("error: ") && said.contains(what), "not {what:?} but {said:?}");
        assert_eq!(process.end().code(), Some(1));
    };
    let listener = || OwnedFd::from(TcpListener::bind(any_port()).unwrap());
    let kept = TcpListener::bind(any_port()).unwrap();
    let connected = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
    let (pair, _other) = UnixStream::pair().unwrap();
    let udp = UdpSocket::bind(any_port()).unwrap();
    let nothing = |_: &mut Command| {};
    says("\"web\", is a TCP socket that does not listen", "systemd:web", vec![("web", connected.into())], nothing);
    says("\"x\", is a Unix socket that does not listen", "systemd:x", vec![("x", pair.into())], nothing);
    let no_stream = vec![("%predecessor", File::open("/dev/null").unwrap().into())];
    says("is not a Unix stream", "tcp:127.0.0.1:0", no_stream, nothing);
    says("is neither a TCP", "systemd:x", vec![("x", File::open("/dev/null").unwrap().into())], nothing);
    says("no listening socket was handed over", "systemd:x", vec![("x", udp.into())], nothing);
    says("there are [\"web\"]", "systemd:x", vec![("web", listener())], nothing);
    says("2 names, but LISTEN_FDS is 1", "systemd:x", vec![("x", listener())], |command| {
        command.env("LISTEN_FDNAMES", "x:y");
    });
    says("\"-1\" is not a number", "systemd:x", vec![("x", listener())], |command| {
        command.env("LISTEN_FDS", "-1");
    });
    says("no listening socket was handed over", "systemd:x", vec![("x", listener())], |command| {
        command.env("LISTEN_PID", "1");
    });
    says("no listening socket was handed over", "systemd:x", vec![], nothing);
}
