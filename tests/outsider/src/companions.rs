//! The companions of the crate, compiled where they see its public names alone, as if each were a package of its own.

#[path = "../../../src/connect/backoff.rs"]
pub mod backoff;
#[path = "../../../src/framing/mod.rs"]
pub mod framing;
#[path = "../../../src/proxy/mod.rs"]
pub mod proxy;
