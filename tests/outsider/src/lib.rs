//! The public API of `switchboard`, used from a separate crate, which sees what any other crate sees.
//!
//! Every public name is used here for something typical. This reveals a name that is exported but cannot be used from
//! outside (built, stored, printed, sent to a thread, matched), and a change that breaks dependent crates.

#![forbid(unsafe_code)]
#![cfg(test)]

#[cfg(unix)]
mod adapters;
// Nothing here calls their public items.
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
