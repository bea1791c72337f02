//! The environment of a service: what systemd hands over and asks for, and a second reader, written from its manual
//! pages.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use switchboard::Endpoint;

use crate::input::Input;
use crate::service::{address, name_of, names, watchdog};

pub const WORDS: &[&[u8]] = &[
    b"\0",
    b":",
    b"1",
    b"2",
    b"4242",
    b"4096",
    b"web:unknown",
    b"%predecessor",
    b"/run/systemd/notify",
    b"@/org/systemd",
    b"vsock:2:1234",
    b"18446744073709551615",
    b"20000000",
    b"tcp:127.0.0.1:80",
    b"unix:/run/%25\\:3A.sock",
    b"systemd:web",
];

/// The id of the process that reads them.
const PROCESS: u32 = 4242;

/// The variables, in the order in which their values are in an input, each ended by a 0, which no value contains.
const VARIABLES: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let set = input.byte();
    let mut fields = input.rest().split(|byte| *byte == 0);
    let mut values = [None; VARIABLES.len()];
    for (place, value) in values.iter_mut().enumerate() {
        let field = fields.next().unwrap_or_default();
        *value = (set & 1 << place != 0).then_some(field);
    }
    let variables = |name: &str| -> Option<OsString> {
        let place = VARIABLES.iter().position(|variable| *variable == name).expect("one that systemd has");
        values[place].map(|value| OsString::from_vec(value.to_vec()))
    };
    let [fds, pid, fd_names, socket, microseconds, watchdog_pid] = values;
    assert_eq!(names(&variables, PROCESS).ok(), descriptors(fds, pid, fd_names));
    assert_eq!(watchdog(&variables, PROCESS).ok(), asked_for(microseconds, watchdog_pid));
    if let Some(socket) = socket {
        notified(socket);
    }
    handed_on(&fields.collect::<Vec<_>>());
}

/// A number as a service manager writes it: `None` if this is not one, or has more than 64 bits.
fn decimal(text: &[u8]) -> Option<u64> {
    let sum = text.iter().try_fold(0_u128, |sum, byte| match byte {
        b'0'..=b'9' => Some((sum * 10 + u128::from(byte - b'0')).min(1 << 64)),
        _ => None,
    });
    sum.filter(|sum| !text.is_empty() && *sum < 1 << 64).map(|sum| sum as u64)
}

/// sd_listen_fds_with_names(3): the names; `None` for an error. Unlike there, `LISTEN_PID` may be missing or empty, and
/// the number is bounded.
fn descriptors(fds: Option<&[u8]>, pid: Option<&[u8]>, names: Option<&[u8]>) -> Option<Vec<String>> {
    let Some(fds) = fds else { return Some(Vec::new()) };
    if let Some(pid) = pid.filter(|pid| *pid != b"") {
        if decimal(pid)? != u64::from(PROCESS) {
            return Some(Vec::new());
        }
    }
    let count = decimal(fds).filter(|count| *count <= 4096)?;
    let mut found = Vec::new();
    match names.filter(|_| count > 0) {
        None => found.extend((0..count).map(|_| "unknown".to_owned())),
        Some(names) => {
            let mut name = Vec::new();
            for byte in names.iter().chain(b":") {
                match byte {
                    b':' => found.push(String::from_utf8(std::mem::take(&mut name)).ok()?),
                    _ => name.push(*byte),
                }
            }
        }
    }
    (found.len() as u64 == count).then_some(found)
}

/// sd_watchdog_enabled(3): the time; `None` for an error.
fn asked_for(microseconds: Option<&[u8]>, pid: Option<&[u8]>) -> Option<Option<Duration>> {
    let Some(microseconds) = microseconds else { return Some(None) };
    if pid.map_or(Some(u64::from(PROCESS)), decimal)? != u64::from(PROCESS) {
        return Some(None);
    }
    let microseconds = decimal(microseconds).filter(|time| *time != 0 && *time != u64::MAX)?;
    Some(Some(Duration::from_secs(microseconds / 1_000_000) + Duration::from_micros(microseconds % 1_000_000)))
}

/// sd_notify(3): an absolute path, or `@` and an abstract name. `sockaddr_un` has room for 108 bytes, of which a path
/// has one for its end and an abstract name one for its beginning.
fn notified(socket: &[u8]) {
    let is_address = socket.len() >= 2 && socket.len() <= if socket[0] == b'@' { 108 } else { 107 };
    let is_address = is_address && matches!(socket[0], b'/' | b'@');
    let found = address(OsStr::from_bytes(socket)).ok();
    assert_eq!(found.is_some(), is_address, "{}", socket.escape_ascii());
    let Some(found) = found else { return };
    match socket[0] {
        b'/' => assert_eq!(found.as_pathname().map(|path| path.as_os_str().as_bytes()), Some(socket)),
        _ => assert_eq!(found.as_abstract_name(), Some(&socket[1..])),
    }
}

/// What a process hands on to the one that replaces it arrives there: a name for each endpoint, by which it is found.
fn handed_on(texts: &[&[u8]]) {
    let endpoints = texts.iter().filter_map(|text| std::str::from_utf8(text).ok()?.parse::<Endpoint>().ok());
    let handed: Vec<(Endpoint, String)> = endpoints
        .map(|endpoint| (endpoint.clone(), name_of(&endpoint)))
        // systemd gives no socket a name with a colon in it.
        .filter(|(endpoint, name)| endpoint.systemd_name().is_none() || !name.contains(':'))
        .collect();
    if handed.is_empty() {
        return;
    }
    let sent: Vec<&str> = handed.iter().map(|(_, name)| &name[..]).collect();
    let (count, joined) = (sent.len().to_string(), sent.join(":"));
    let variables = |name: &str| match name {
        "LISTEN_FDS" => Some(OsString::from(&count)),
        "LISTEN_FDNAMES" => Some(OsString::from(&joined)),
        _ => None,
    };
    let received = names(&variables, PROCESS).expect("a service reads what a service writes");
    assert_eq!(received, sent);
    for (endpoint, name) in &handed {
        let text = name.replace("%3A", ":").replace("%25", "%");
        let shown = endpoint.to_string();
        assert!(endpoint.systemd_name().is_some_and(|of| of == name) || text == shown, "{name:?} is of {shown:?}");
    }
}
