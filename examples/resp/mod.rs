// What the example `resp_server` is made of beside its protocol. None of it knows a socket or a loop: requests out of bytes,
// commands, what is stored, answers into bytes.

mod about;
mod answers;
mod commands;
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
