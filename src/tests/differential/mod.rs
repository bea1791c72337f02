//! The same scripts on real loopback sockets and on simulated ones: the results of the calls, and what the poller
//! reports, must be the same.
//!
//! If the two differ, the simulation is wrong. On the real side nothing sleeps: what happens at once in the simulation
//! is awaited there with a deadline.

mod machine;
mod scripts;
mod unix_datagrams;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::machine::{Family, Machine};
use crate::sys::sim::{Faults, Network};
use crate::sys::{Clock, Poller};

fn compare(name: &str, script: &str) {
    compare_by(name, script, || Family::Tcp);
}

/// Returns whether a script has no steps that only TCP streams support, and does not go on with a socket whose connect
/// fails: a Unix socket's connect fails at once.
#[cfg(unix)]
fn is_for_unix(script: &str) -> bool {
    let of_the_network = ["bind", "urgent", "self", "nobody"];
    let has = |step: &str| script.split([';', ' ', '\n']).any(|word| word == step);
    let connects_late = script.split_once("close L").is_some_and(|(_, behind)| behind.contains("connect"));
    !of_the_network.into_iter().any(has) && !connects_late
}

/// Compares a script on Unix sockets.
#[cfg(unix)]
fn compare_unix(name: &str, script: &str) {
    // Short, since the path of a Unix socket has at most 108 bytes, however long that of the folder of temporary files is.
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("sb-{}-{number}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let compared = std::panic::catch_unwind(|| compare_by(name, script, || Family::Unix(folder.clone())));
    std::fs::remove_dir_all(&folder).unwrap();
    compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Returns how many datagrams a receiver on this machine holds before it is full, which is a setting.
fn unix_datagrams_max() -> usize {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    // By filling one: `/proc`, where the setting is, may be missing.
    let id = std::thread::current().id();
    let name = SocketAddr::from_abstract_name(format!("switchboard-full-{}-{id:?}", std::process::id())).unwrap();
    let _receiver = UnixDatagram::bind_addr(&name).unwrap();
    let mut held = 0;
    loop {
        // Each of these has memory for more.
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        for _ in 0..100 {
            if sender.send_to_addr(b"x", &name).is_err() {
                return held - 1;
            }
            held += 1;
        }
    }
}

fn compare_by(name: &str, script: &str, family: impl Fn() -> Family) {
    let full = unix_datagrams_max();
    let network = Network::new(0, Faults::none().with_unix_datagrams_min(full).with_unix_datagrams_max(full));
    let host = network.add_host();
    let (poller, clock) = (network.poller(host), network.clock(host));
    let mut simulated = Machine::new(Poller::Memory(Box::new(poller)), Clock::Memory(Arc::new(clock)), family());
    let mut real = Machine::new(Poller::new().unwrap(), Clock::System, family());
    let steps = script.split(';').map(str::trim).filter(|step| !step.is_empty());
    for (number, step) in steps.enumerate() {
        let words: Vec<_> = step.split_whitespace().collect();
        let expected = simulated.run(&words);
        let outcome = real.run_until(&words, &expected);
        assert_eq!(
            outcome,
            expected,
            "{name}, step {number}, {step:?}: the real answer is on the left\n{}",
            network.trace()
        );
    }
}

/// Compares a script on Unix sockets with abstract names, which nobody else has.
fn compare_abstract(name: &str, script: &str) {
    compare_by(name, script, || Family::Abstract(format!("switchboard {} {name}", std::process::id())));
}

/// Each script's name begins with the rules it is about.
macro_rules! compare_scripts {
    ($($(#[$doc:meta])* $name:ident: $script:literal;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                super::compare(stringify!($name), $script);
            }
        )*

        /// The scripts about streams, on Unix sockets.
        #[cfg(unix)]
        mod unix {
            #[test]
            fn k1_a_connect_to_a_unix_socket_fails_at_once() {
                for (name, script) in [
                    ("nobody", "connect a nobody"),
                    ("closed", "listen L; connect a L; poll; close L; poll; error a; read a 9; error a; write a x; connect b L"),
                    ("full", "listen L 1; connect a L; connect b L; connect c L; accept L d; connect e L; poll"),
                    ("again", "listen L; listen L"),
                    ("anew", "listen L; close L; listen L; connect a L; accept L b; write a x; read b 9"),
                ] {
                    super::super::compare_unix(name, script);
                }
            }

            $(
                #[test]
                fn $name() {
                    if super::super::is_for_unix($script) {
                        super::super::compare_unix(stringify!($name), $script);
                    }
                }
            )*
        }

        #[test]
        fn there_are_scripts_of_every_group_of_rules_that_is_about_sockets() {
            let names = [$(stringify!($name)),*];
            assert!(names.len() >= 40, "{} scripts", names.len());
            for group in ["a", "c", "h", "k", "r", "u", "w", "x"] {
                assert!(names.iter().any(|name| name.starts_with(group) && name.as_bytes()[1].is_ascii_digit()), "{group}");
            }
        }
    };
}
use compare_scripts;
