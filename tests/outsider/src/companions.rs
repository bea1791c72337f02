//! The companions of the crate, compiled where they see only its public names, as if each were a separate package.

#[path = "../../../src/connect/backoff.rs"]
pub mod backoff;
#[path = "../../../src/endpoint.rs"]
pub mod endpoint;
#[path = "../../../src/framing/mod.rs"]
pub mod framing;
#[path = "../../../src/proxy/mod.rs"]
pub mod proxy;
#[path = "../../../src/connect/reconnect.rs"]
pub mod reconnect;
#[path = "../../../src/server/mod.rs"]
pub mod server;
#[cfg(unix)]
#[path = "../../../src/service/mod.rs"]
pub mod service;
#[cfg(unix)]
#[path = "../../../src/signals/mod.rs"]
pub mod signals;
#[path = "../../../src/workers/mod.rs"]
pub mod workers;
