// The state of a connection: the protocol version, and the client's name.

use super::Answers;
use super::about::REDIS_VERSION;
use super::commands::{Call, shown};
use super::number;

/// The protocol version of the replies on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Version {
    #[default]
    Resp2 = 2,
    Resp3 = 3,
}

pub(crate) struct Session {
    id: u64,
    version: Version,
    name: Box<[u8]>,
}

/// The only user: there is no authentication, so any password is accepted for it.
const USER: &[u8] = b"default";

const WRONG_PASSWORD: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &[u8] = b"ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?";

impl Session {
    /// Each session must have a different `id`.
    pub(crate) fn new(id: u64) -> Session {
        Session { id, version: Version::default(), name: Box::default() }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Returns how much memory it holds on the heap.
    pub(crate) fn held_bytes(&self) -> usize {
        self.name.len()
    }

    /// Sets the client's name. Blanks are refused, so that a list of clients can be parsed.
    fn set_name(&mut self, name: &[u8]) -> Result<(), &'static [u8]> {
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(b"ERR Client names cannot contain spaces, newlines or special characters.");
        }
        self.name = name.into();
        Ok(())
    }
}

fn authenticate(user: &[u8]) -> Result<(), &'static [u8]> {
    if user == USER { Ok(()) } else { Err(WRONG_PASSWORD) }
}

/// Executes `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(call: &mut Call<'_>) {
    match take_hello(call) {
        Ok(version) => {
            call.session.version = version;
            call.answers.set_version(version);
            introduce(call.answers, call.session);
        }
        Err(error) => call.answers.error(&error),
    }
}

/// Returns the requested version, or the error. As in Redis, options before an invalid one take effect.
fn take_hello(call: &mut Call<'_>) -> Result<Version, Vec<u8>> {
    let mut words = call.arguments.iter().skip(1);
    let version = match words.next().map(number::parse) {
        None => call.session.version,
        Some(Some(2)) => Version::Resp2,
        Some(Some(3)) => Version::Resp3,
        Some(Some(_)) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
        Some(None) => return Err(b"ERR Protocol version is not an integer or out of range".to_vec()),
    };
    while let Some(option) = words.next() {
        let wrong = || [b"ERR Syntax error in HELLO option '", &shown(option, usize::MAX)[..], b"'"].concat();
        let done = if option.eq_ignore_ascii_case(b"auth") {
            let (Some(user), Some(_)) = (words.next(), words.next()) else { return Err(wrong()) };
            authenticate(user)
        } else if option.eq_ignore_ascii_case(b"setname") {
            call.session.set_name(words.next().ok_or_else(wrong)?)
        } else {
            return Err(wrong());
        };
        done.map_err(<[u8]>::to_vec)?;
    }
    Ok(version)
}

fn introduce(answers: &mut Answers, session: &Session) {
    answers.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        answers.bulk(key.as_bytes());
        answers.bulk(value.as_bytes());
    }
    for (key, value) in [("proto", session.version as i64), ("id", session.id as i64)] {
        answers.bulk(key.as_bytes());
        answers.integer(value);
    }
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        answers.bulk(key.as_bytes());
        answers.bulk(value.as_bytes());
    }
    answers.bulk(b"modules");
    answers.array(0);
}

pub(super) fn auth(call: &mut Call<'_>) {
    let done = match call.arguments.len() {
        2 => Err(NO_PASSWORD),
        3 => authenticate(call.arguments.get(1)),
        _ => Err(&b"ERR syntax error"[..]),
    };
    acknowledge(call.answers, done);
}

pub(super) fn client_id(call: &mut Call<'_>) {
    call.answers.integer(call.session.id as i64);
}

pub(super) fn client_getname(call: &mut Call<'_>) {
    let name = &call.session.name[..];
    call.answers.bulk_or_null(Some(name).filter(|name| !name.is_empty()));
}

pub(super) fn client_setname(call: &mut Call<'_>) {
    let done = call.session.set_name(call.arguments.get(2));
    acknowledge(call.answers, done);
}

fn acknowledge(answers: &mut Answers, done: Result<(), &[u8]>) {
    match done {
        Ok(()) => answers.status("OK"),
        Err(error) => answers.error(error),
    }
}
