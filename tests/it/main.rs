//! The loop on real sockets, where the system's behaviour is the point, and the shape of the crate itself.
//!
//! One binary. No test sleeps and hopes: the loop is stepped with `turn` until the condition holds; after ten seconds
//! the test fails. Ports are 0, and peers are threads or non-blocking sockets of the test. The rules are tested in
//! memory too, clause by clause, beside the code.

#![forbid(unsafe_code)]

mod accepting;
#[cfg(feature = "workers")]
mod acceptor;
#[cfg(not(all(windows, target_env = "gnu")))] // Where allocations can be counted.
mod allocations;
mod circles;
mod closing;
mod connecting;
mod datagrams;
mod echoing;
mod embedding;
#[cfg(feature = "testing")]
mod exchanging;
mod faults;
mod feeding;
#[cfg(feature = "server")]
mod filtered;
mod from_python;
#[cfg(feature = "workers")]
mod grouping;
mod handing_over;
mod handles;
#[cfg(feature = "testing")]
mod harness;
#[cfg(unix)]
mod joining;
mod logging;
#[cfg(all(target_os = "linux", target_pointer_width = "64", feature = "workers"))]
mod no_threads;
#[cfg(target_os = "linux")]
mod odd_sockets;
#[cfg(unix)]
mod options;
#[cfg(target_os = "linux")]
mod own_descriptors;
#[cfg(feature = "testing")]
mod packet_rules;
#[cfg(feature = "testing")]
mod peers;
#[cfg(unix)]
mod process;
#[cfg(all(feature = "testing", feature = "proxy"))]
mod proxy;
#[cfg(feature = "workers")]
mod refusing;
#[cfg(all(unix, feature = "server"))]
mod request_children;
#[cfg(feature = "server")]
mod request_handlers;
mod rooms;
mod rules;
#[cfg(all(unix, feature = "service"))]
mod service;
mod several_sockets;
#[cfg(all(unix, feature = "signals"))]
mod signals;
#[cfg(unix)]
mod sigpipe;
#[cfg(feature = "testing")]
mod simulated;
#[cfg(feature = "testing")]
mod simulated_connecting;
#[cfg(feature = "testing")]
mod simulated_handing;
#[cfg(feature = "testing")]
mod simulated_names;
#[cfg(all(unix, feature = "signals", feature = "testing"))]
mod simulated_pipes;
#[cfg(feature = "testing")]
mod simulated_platforms;
#[cfg(feature = "testing")]
mod simulated_probes;
#[cfg(all(unix, feature = "testing"))]
mod simulated_processes;
#[cfg(all(unix, feature = "testing"))]
mod simulated_unix;
#[cfg(all(unix, feature = "testing"))]
mod simulated_unix_datagrams;
#[cfg(all(feature = "testing", feature = "workers"))]
mod simulated_workers;
#[cfg(target_os = "linux")]
mod slow_peers;
#[cfg(unix)]
mod sources;
mod support;
mod test_kits;
mod tidy;
#[cfg(unix)]
mod unix_datagrams;
#[cfg(unix)]
mod unix_listening;
#[cfg(unix)]
mod unix_streams;
#[cfg(target_os = "linux")]
mod urgent;
#[cfg(feature = "testing")]
mod waiting;
#[cfg(feature = "workers")]
mod workers;
