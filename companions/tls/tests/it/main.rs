//! TLS in memory: both ends of it, or one, on a simulated network; and in threads that block, on loopback.

mod asking;
mod between;
mod data;
mod ending;
mod failing;
mod kit;
mod later;
mod pem;
mod threads;
