//! The loop's sockets in the hands of other crates, and peers that only these can play.
//!
//! A package of its own, so that no example is built with those crates; `cargo test` from the root runs it with the crate's
//! own tests, whose helpers it has.

#![cfg(all(test, unix))]
#![forbid(unsafe_code)]

mod by_descriptor;
mod descriptors;
#[path = "../it/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../it/support.rs"]
#[allow(dead_code)] // Few of them are needed here.
mod support;
#[cfg(target_os = "linux")]
mod urgent;
