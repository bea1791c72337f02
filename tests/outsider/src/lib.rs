//! The public face of `switchboard`, from outside: a crate of its own, which sees what any other one sees.
//!
//! Every public name is used here, each for something small that it is there for. A name that is exported but cannot be
//! used from outside (one that cannot be built, stored, printed, sent to a thread, matched) shows itself here, and a
//! change that breaks who depends on the crate does not go by unnoticed.

#![forbid(unsafe_code)]
#![cfg(test)]

#[cfg(unix)]
mod adapters;
// Nothing here calls what they have for their users.
#[allow(dead_code, unused_imports)]
mod companions;
mod connecting;
mod driving;
mod first;
mod group;
#[cfg(unix)]
mod looking;
mod proxied;
mod requests;
mod serving;
mod spreading;
mod threads;
mod values;
