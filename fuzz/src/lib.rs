//! Random inputs for the parsers of `switchboard`, its companions and its examples, and random programs for its loop.
//!
//! A target is a function of bytes that panics if what it tests does not hold. `src/main.rs` runs the targets on stable
//! Rust; `fuzz_targets/` are the same ones for cargo-fuzz. No target only looks for panics: each compares with a simple
//! second implementation, with the same input cut into other pieces, or with what the input was made from.

#![forbid(unsafe_code)]
// The bodies of HTTP are in two programs, each of which names them from its own root.
#![allow(clippy::duplicate_mod)]

pub mod connection;
pub mod input;
pub mod mutation;
pub mod targets;

// Parsers of programs that are not libraries, by their paths.
#[allow(dead_code)]
#[path = "../../examples/http/body.rs"]
mod body;
#[allow(dead_code)]
#[path = "../../companions/fetch/src/head.rs"]
mod fetch_head;
#[allow(dead_code, unused_imports)]
#[path = "../../examples/http/mod.rs"]
mod http;
#[allow(dead_code)]
#[path = "../../tests/outsider/examples/mqtt_broker.rs"]
mod mqtt_broker;
#[allow(dead_code)]
mod proxy_header;
#[allow(dead_code)]
mod resp;
mod service;
#[allow(dead_code)]
#[path = "../../examples/smtp/session.rs"]
mod smtp;

/// A target: its name, which is also that of its corpus, what its inputs often contain, and the test.
pub struct Target {
    pub name: &'static str,
    pub words: &'static [&'static [u8]],
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "proxy", words: targets::proxy::WORDS, run: targets::proxy::run },
    Target { name: "lines", words: targets::lines::WORDS, run: targets::lines::run },
    Target { name: "telnet", words: targets::telnet::WORDS, run: targets::telnet::run },
    Target { name: "frames", words: targets::frames::WORDS, run: targets::frames::run },
    Target { name: "endpoint", words: targets::endpoint::WORDS, run: targets::endpoint::run },
    Target { name: "resp", words: targets::resp::WORDS, run: targets::resp::run },
    Target { name: "http", words: targets::http::WORDS, run: targets::http::run },
    Target { name: "chunks", words: targets::chunks::WORDS, run: targets::chunks::run },
    Target { name: "fetch_head", words: targets::fetch_head::WORDS, run: targets::fetch_head::run },
    Target { name: "smtp", words: targets::smtp::WORDS, run: targets::smtp::run },
    Target { name: "mqtt", words: targets::mqtt::WORDS, run: targets::mqtt::run },
    Target { name: "service", words: targets::service::WORDS, run: targets::service::run },
    Target { name: "tls", words: targets::tls::WORDS, run: targets::tls::run },
    Target { name: "event_loop", words: targets::event_loop::WORDS, run: targets::event_loop::run },
];

/// Returns the target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
