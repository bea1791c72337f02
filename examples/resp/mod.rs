// The parts of the example `resp_server` that know neither sockets nor the loop: parsing requests, executing commands,
// the store, and encoding replies.

mod about;
mod answers;
mod commands;
mod hash;
mod number;
mod request;
mod session;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use answers::Answers;
pub(crate) use commands::{After, Call, Facts, execute};
pub(crate) use request::{Begun, Parser, REQUEST_BYTES_MAX};
pub(crate) use session::Session;
pub(crate) use store::Store;
