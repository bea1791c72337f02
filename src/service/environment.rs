//! What the environment says of a service manager: sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3).

use std::ffi::{OsStr, OsString};
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use switchboard::Endpoint;

/// The name of a descriptor that was given no name.
const UNNAMED: &str = "unknown";

/// More than any service has, and few enough that all can be checked at once.
const COUNT_MAX: u64 = 4096;

/// Returns the value of a variable, if it is set.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Returns the names of the descriptors that were handed over to the process with this id, in their order; none if they
/// are meant for another process.
///
/// Without `LISTEN_PID` they are meant for any: a process that is being replaced does not know the id of the new one.
pub(super) fn names(variables: Variables<'_>, process: u32) -> io::Result<Vec<String>> {
    let Some(count) = variables("LISTEN_FDS") else { return Ok(Vec::new()) };
    match variables("LISTEN_PID").filter(|value| !value.is_empty()) {
        Some(value) if number("LISTEN_PID", &value, "a process id")? != process.into() => return Ok(Vec::new()),
        _ => {}
    }
    let what = "a number of descriptors";
    let stated = number("LISTEN_FDS", &count, what)?;
    if stated > COUNT_MAX {
        return Err(is_not("LISTEN_FDS", &count, what));
    }
    let Some(names) = variables("LISTEN_FDNAMES").filter(|_| stated > 0) else {
        return Ok(vec![UNNAMED.to_owned(); stated as usize]);
    };
    let text = names.to_str().ok_or_else(|| is_not("LISTEN_FDNAMES", &names, "text"))?;
    let names: Vec<String> = text.split(':').map(str::to_owned).collect();
    if names.len() as u64 != stated {
        return Err(invalid(format!("LISTEN_FDNAMES has {} names, but LISTEN_FDS is {stated}", names.len())));
    }
    Ok(names)
}

/// Returns the name that an endpoint's socket is handed over by: names are separated by colons, so it contains none.
pub(super) fn name_of(endpoint: &Endpoint) -> String {
    match endpoint.systemd_name() {
        Some(name) => name.to_owned(),
        None => endpoint.to_string().replace('%', "%25").replace(':', "%3A"),
    }
}

/// Returns the address that the service manager listens on, from the value of `NOTIFY_SOCKET`: a path, or an abstract
/// name.
///
/// sd_notify(3) has a third kind, `vsock:`, by which the first process of a virtual machine notifies its host; a
/// service in that machine gets a socket of that process. It is not worth connecting to a host from within a callback.
pub(super) fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] if !name.is_empty() => <SocketAddr as SocketAddrExt>::from_abstract_name(name),
        [b'/', _, ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// Returns the time in which the service manager wants to hear from the process with this id again and again; `None` if
/// it does not.
pub(super) fn watchdog(variables: Variables<'_>, process: u32) -> io::Result<Option<Duration>> {
    let Some(limit) = variables("WATCHDOG_USEC") else { return Ok(None) };
    match variables("WATCHDOG_PID") {
        Some(value) if number("WATCHDOG_PID", &value, "a process id")? != process.into() => return Ok(None),
        _ => {}
    }
    let what = "a time in microseconds";
    match number("WATCHDOG_USEC", &limit, what)? {
        // systemd has no limit by the latter.
        0 | u64::MAX => Err(is_not("WATCHDOG_USEC", &limit, what)),
        microseconds => Ok(Some(Duration::from_micros(microseconds))),
    }
}

/// Reads a number that consists of digits only: `parse` accepts a sign.
fn number(variable: &str, value: &OsStr, what: &str) -> io::Result<u64> {
    let text = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| is_not(variable, value, what))
}

fn is_not(variable: &str, value: &OsStr, what: &str) -> io::Error {
    invalid(format!("{variable}={value:?} is not {what}"))
}

pub(super) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `read` with these variables, for the process with the id 7.
    fn with<R>(set: &[(&str, &str)], read: impl FnOnce(Variables<'_>, u32) -> R) -> R {
        read(&|name| set.iter().find(|(of, _)| *of == name).map(|(_, value)| OsString::from(value)), 7)
    }

    #[test]
    fn service_takes_descriptors_that_are_meant_for_it() {
        for (pid, count) in [("7", 2), ("", 2), ("007", 2), ("8", 0)] {
            let names = with(&[("LISTEN_FDS", "2"), ("LISTEN_PID", pid), ("LISTEN_FDNAMES", "a:b")], names).unwrap();
            assert_eq!(names, ["a", "b"][..count], "{pid:?}");
        }
        assert_eq!(with(&[("LISTEN_FDS", "1")], names).unwrap(), ["unknown"]);
        assert_eq!(with(&[("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")], names).unwrap(), [""; 0]);
        assert_eq!(with(&[("LISTEN_PID", "x")], names).unwrap(), [""; 0]);
    }

    #[test]
    fn service_says_what_is_wrong_with_its_environment() {
        for (set, says) in [
            (&[("LISTEN_FDS", "+1")][..], "LISTEN_FDS=\"+1\" is not a number of descriptors"),
            (&[("LISTEN_FDS", "")], "LISTEN_FDS=\"\" is not a number"),
            (&[("LISTEN_FDS", "4097")], "LISTEN_FDS=\"4097\" is not a number"),
            (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "-7")], "LISTEN_PID=\"-7\" is not a process id"),
            (&[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:")], "LISTEN_FDNAMES has 2 names, but LISTEN_FDS is 1"),
        ] {
            assert!(with(set, names).unwrap_err().to_string().contains(says), "{set:?}");
        }
        for (set, says) in [
            (&[("WATCHDOG_USEC", "1s")][..], "WATCHDOG_USEC=\"1s\" is not a time in microseconds"),
            (&[("WATCHDOG_USEC", "0")], "WATCHDOG_USEC=\"0\" is not a time"),
            (&[("WATCHDOG_USEC", "18446744073709551615")], "is not a time"),
            (&[("WATCHDOG_USEC", "18446744073709551616")], "is not a time"),
            (&[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "")], "WATCHDOG_PID=\"\" is not a process id"),
        ] {
            assert!(with(set, watchdog).unwrap_err().to_string().contains(says), "{set:?}");
        }
    }

    #[test]
    fn service_tells_the_watchdog_that_asks_for_it() {
        let limit = Some(Duration::from_micros(1_500_000));
        for (pid, expected) in [(None, limit), (Some("7"), limit), (Some("8"), None)] {
            let set: Vec<_> =
                [("WATCHDOG_USEC", "1500000")].into_iter().chain(pid.map(|pid| ("WATCHDOG_PID", pid))).collect();
            assert_eq!(with(&set, watchdog).unwrap(), expected, "{pid:?}");
        }
        assert_eq!(with(&[("WATCHDOG_PID", "7")], watchdog).unwrap(), None);
    }

    #[test]
    fn service_notifies_a_path_or_an_abstract_name() {
        let path = address(OsStr::new("/run/x")).unwrap();
        assert_eq!(path.as_pathname(), Some("/run/x".as_ref()));
        for wrong in ["", "/", "@", "run/x", "vsock:2:1", &format!("/{}", "x".repeat(108))] {
            assert!(address(OsStr::new(wrong)).is_err(), "{wrong:?}");
        }
        assert_eq!(address(OsStr::new("@x")).is_ok(), cfg!(any(target_os = "linux", target_os = "android")));
    }
}
