//! Which descriptors a loop has, and that no child process inherits them. Each test is a separate process, in which
//! nothing else opens any.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use switchboard::{Address, DatagramProtocol, DatagramTransport, EventLoop, UnixAddress};

use crate::support::{Echo, any_port, connect, event_loop, listen, turn_until};

/// Runs a test of this file alone.
#[track_caller]
fn run_alone(test: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &format!("own_descriptors::{test}"), "--ignored"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// How many descriptors of each kind this process has, such as `socket` and `anon_inode:[eventfd`.
fn own_kinds() -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        // The folder's own descriptor is closed by the time it is looked up.
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
        let kind =
            target.to_string_lossy().trim_end_matches(|c: char| c.is_ascii_digit() || "[]:".contains(c)).to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn count(kinds: &BTreeMap<String, usize>, kind: &str) -> usize {
    kinds.get(kind).copied().unwrap_or_default()
}

#[test]
fn faults_a_loop_has_one_waker_however_many_handles() {
    run_alone("wakers");
}

#[test]
#[ignore = "counts what the process has, so it has to be alone: the test above runs it"]
fn wakers() {
    // mio's wakers.
    let wakers = || count(&own_kinds(), "anon_inode:[eventfd");
    let (before, before_it) = (own_kinds(), wakers());
    let mut event_loop = event_loop();
    assert_eq!(wakers(), before_it + 1, "{:?}", own_kinds());
    let handles: Vec<_> = (0..100).map(|_| event_loop.context().handle()).collect();
    let threads: Vec<_> = handles
        .into_iter()
        .map(|handle| std::thread::spawn(move || handle.clone().post(|_| ()).map_err(|_| "refused").unwrap()))
        .collect();
    let completions: Vec<_> =
        (0..100).map(|_| event_loop.context().completion(|_, _: Option<()>| ()).unwrap()).collect();
    assert_eq!(wakers(), before_it + 1, "{:?}", own_kinds());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(completions);
    event_loop.run_until_idle().unwrap();
    drop(event_loop);
    assert_eq!(own_kinds(), before);
}

struct Ignores;

impl DatagramProtocol for Ignores {
    fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}
}

/// The descriptors of a program that this process starts, as `ls` prints them.
fn of_a_child() -> Vec<String> {
    let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn faults_a_child_process_has_none_of_a_loop_s_descriptors() {
    run_alone("inherited");
}

#[test]
#[ignore = "starts a program that lists what it has, so it has to be alone: the test above runs it"]
fn inherited() {
    let before = (of_a_child(), count(&own_kinds(), "socket"));
    let mut event_loop: EventLoop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    let mut client = connect(address);
    let (theirs, name) = (TcpListener::bind(any_port()).unwrap(), format!("switchboard-{}", std::process::id()));
    let to = theirs.local_addr().unwrap();
    let mut context = event_loop.context();
    context.connect(to, Echo).unwrap();
    context.attach(TcpStream::connect(to).unwrap(), Echo).unwrap();
    context.listen(UnixAddress::abstract_name(name.as_bytes()), |_, _| Some(Echo)).unwrap();
    context.connect(UnixAddress::abstract_name(name.as_bytes()), Echo).unwrap();
    context.bind_datagram(any_port(), Ignores).unwrap();
    context.bind_datagram(UnixAddress::abstract_name(format!("{name}-2").as_bytes()), Ignores).unwrap();
    context.call_later(Duration::from_secs(3600), |_| ());
    client.write_all(b"served").unwrap();
    let has_all = |context: &mut switchboard::Context<'_>| context.counters().connections_made >= 5;
    turn_until(&mut event_loop, has_all);
    assert!(count(&own_kinds(), "socket") >= before.1 + 10, "{:?}", own_kinds());
    assert_eq!(of_a_child(), before.0);
}
