//! The loop's sockets used by other crates, and peers that need those crates.
//!
//! A separate package, so that no example is built with those crates; `cargo test` from the root runs it with the crate's
//! own tests, whose helpers it shares.

#![cfg(all(test, unix))]
#![forbid(unsafe_code)]

mod by_descriptor;
mod descriptors;
#[path = "../it/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../it/support.rs"]
#[allow(dead_code)] // Only a few of them are used here.
mod support;
#[cfg(target_os = "linux")]
mod urgent;
