//! What `service` reads from the environment, without the descriptors that it hands over.

#[allow(dead_code)]
#[path = "../../src/service/environment.rs"]
mod environment;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use switchboard::Endpoint;

type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub(crate) fn names(variables: Variables<'_>, process: u32) -> io::Result<Vec<String>> {
    environment::names(variables, process)
}

pub(crate) fn name_of(endpoint: &Endpoint) -> String {
    environment::name_of(endpoint)
}

pub(crate) fn address(name: &OsStr) -> io::Result<SocketAddr> {
    environment::address(name)
}

pub(crate) fn watchdog(variables: Variables<'_>, process: u32) -> io::Result<Option<Duration>> {
    environment::watchdog(variables, process)
}
