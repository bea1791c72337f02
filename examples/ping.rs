//! A raw socket as an event source of the loop: sends ICMP echo requests to a host, as `ping` does.
//!
//! Run `cargo run --example ping -- 127.0.0.1` as root, or with `setcap cap_net_raw+ep` on the program. Without that
//! privilege it uses an ICMP datagram socket, which macOS allows for everybody and Linux for the groups in
//! `net.ipv4.ping_group_range`. It sends a request once a second, three times or `--count=N` times, prints each reply,
//! and exits with 1 if there was none.
//!
//! The loop has protocols for connections and for datagrams, but not for ICMP. So `socket2` makes the socket, a type of
//! this example turns its descriptor into a source, and the source's handler reads until that would block. Any other
//! custom source works the same way.

#[cfg(unix)]
#[allow(dead_code)] // Some of it is for servers.
mod support;

#[cfg(unix)]
#[path = "ping/icmp.rs"]
mod icmp;

#[cfg(unix)]
fn main() -> Result<(), support::Failure> {
    support::show_log();
    let (to, count) = icmp::options()?;
    icmp::run(to, count)
}

#[cfg(not(unix))]
fn main() {}
