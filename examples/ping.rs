//! A raw socket in the loop, and any other source of one's own: asks a machine whether it is there, by ICMP, as `ping` does.
//!
//! Run `cargo run --example ping -- 127.0.0.1` as root, or with `setcap cap_net_raw+ep` on the program. Without that privilege
//! it takes a datagram socket of ICMP, which macOS has for all and Linux for the groups of `net.ipv4.ping_group_range`. It asks
//! once a second, three times or `--count=N` times, prints each answer, and ends with 1 if there was none.
//!
//! The loop has connections and datagrams, and no protocol for this: so `socket2` makes the socket, a type of our own makes it a
//! source by its descriptor, and its handler reads until that would block.

#[cfg(unix)]
#[allow(dead_code)] // It also has what servers need.
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
