//! TLS in memory: both ends of it, or one, on a simulated network; and in blocking threads, on loopback.

mod asking;
mod between;
mod certificates;
mod chains;
mod data;
mod ending;
mod failing;
mod floods;
mod hellos;
mod kinds;
mod kit;
mod later;
mod loops;
#[cfg(unix)]
mod memory;
mod pem;
mod proxied;
mod rogue;
mod stacked;
mod threads;
mod through;
