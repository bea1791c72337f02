//! TLS in memory: both ends of it, or one, on a simulated network.

mod asking;
mod between;
mod data;
mod ending;
mod failing;
mod kit;
mod later;
#[cfg(unix)]
mod memory;
mod pem;
