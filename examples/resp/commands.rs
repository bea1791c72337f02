// Executes requests, and implements the commands that get and set values.

use std::time::{Duration, Instant};

use super::Answers;
use super::number;
use super::request::Arguments;
use super::session::Session;
use super::store::{Expiry, NotAdded, Store};
use super::table;

/// The figures of `INFO` that do not come from the store.
pub(crate) struct Facts {
    pub(crate) begun: Instant,
    pub(crate) clients: usize,
    pub(crate) connections: u64,
    pub(crate) commands: u64,
}

impl Facts {
    pub(crate) fn new() -> Facts {
        Facts { begun: Instant::now(), clients: 0, connections: 0, commands: 0 }
    }
}

/// A command that is being executed.
pub(crate) struct Call<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) answers: &'a mut Answers,
    pub(crate) session: &'a mut Session,
    pub(crate) arguments: Arguments<'a>,
    pub(crate) now: &'a dyn Fn() -> Instant,
    pub(crate) facts: &'a Facts,
}

/// What happens to the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum After {
    GoOn,
    Close,
    /// Closes it and discards unsent replies.
    Drop,
}

/// How much of an unknown command's name an error shows, and how much of its arguments.
const SHOWN_BYTES: usize = 128;

/// Executes a request. An empty one does nothing.
pub(crate) fn execute(call: &mut Call<'_>) -> After {
    let mut words = call.arguments.iter();
    let Some(name) = words.next() else { return After::GoOn };
    let Some(mut command) = table::find(name) else {
        // A browser tricked into sending us a request: it must learn nothing, and its body must not be run as commands.
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return After::Drop;
        }
        unknown(call);
        return After::GoOn;
    };
    let word = if command.subcommands.is_empty() { None } else { words.next() };
    if let Some(word) = word {
        let Some(subcommand) = command.subcommand(word) else {
            unknown_subcommand(call, command.name);
            return After::GoOn;
        };
        command = subcommand;
    }
    if !command.takes(call.arguments.len()) {
        wrong_count(call.answers, command.name);
    } else if call.store.is_full() && command.flags.contains(&"denyoom") {
        call.answers.error(b"OOM command not allowed when used memory > 'maxmemory'.");
    } else {
        (command.run)(call);
        if command.name == table::QUIT {
            return After::Close;
        }
    }
    After::GoOn
}

fn wrong_count(answers: &mut Answers, name: &str) {
    answers.error(format!("ERR wrong number of arguments for '{name}' command").as_bytes());
}

/// Returns a peer's word as an error shows it: as in C, a NUL ends it.
pub(super) fn shown(word: &[u8], bytes_max: usize) -> Vec<u8> {
    word.iter().copied().take_while(|byte| *byte != 0).take(bytes_max).collect()
}

fn unknown_subcommand(call: &mut Call<'_>, name: &str) {
    let word = shown(call.arguments.get(1), SHOWN_BYTES);
    let tried = format!("'. Try {} HELP.", name.to_uppercase());
    call.answers.error(&[b"ERR unknown subcommand '", &word[..], tried.as_bytes()].concat());
}

fn unknown(call: &mut Call<'_>) {
    let mut followed = Vec::new();
    for argument in call.arguments.iter().skip(1) {
        if followed.len() >= SHOWN_BYTES {
            break;
        }
        let part = [b"'", &shown(argument, SHOWN_BYTES - followed.len())[..], b"' "].concat();
        followed.extend_from_slice(&part);
    }
    let name = shown(call.arguments.get(0), SHOWN_BYTES);
    call.answers.error(&[b"ERR unknown command '", &name[..], b"', with args beginning with: ", &followed].concat());
}

// ------------------------------------------------------------------------------------------------------ the connection

/// For a command that needs a subcommand: its arity ensures that this is never called.
pub(super) fn nothing(_: &mut Call<'_>) {}

pub(super) fn ping(call: &mut Call<'_>) {
    match call.arguments.len() {
        1 => call.answers.status("PONG"),
        2 => call.answers.bulk(call.arguments.get(1)),
        _ => wrong_count(call.answers, "ping"),
    }
}

pub(super) fn quit(call: &mut Call<'_>) {
    call.answers.status("OK");
}

pub(super) fn echo(call: &mut Call<'_>) {
    call.answers.bulk(call.arguments.get(1));
}

// ---------------------------------------------------------------------------------------------------------- the values

pub(super) fn get(call: &mut Call<'_>) {
    call.answers.bulk_or_null(call.store.get(call.arguments.get(1), call.now));
}

pub(super) fn mget(call: &mut Call<'_>) {
    call.answers.array(call.arguments.len() - 1);
    for key in call.arguments.iter().skip(1) {
        call.answers.bulk_or_null(call.store.get(key, call.now));
    }
}

pub(super) fn del(call: &mut Call<'_>) {
    let count = call.arguments.iter().skip(1).filter(|key| call.store.remove(key, call.now)).count();
    call.answers.integer(count as i64);
}

pub(super) fn incr(call: &mut Call<'_>) {
    add(call, 1);
}

pub(super) fn decr(call: &mut Call<'_>) {
    add(call, -1);
}

pub(super) fn incrby(call: &mut Call<'_>) {
    match number::parse(call.arguments.get(2)) {
        Some(addend) => add(call, addend),
        None => call.answers.error(NO_INTEGER),
    }
}

pub(super) fn decrby(call: &mut Call<'_>) {
    match number::parse(call.arguments.get(2)).map(i64::checked_neg) {
        Some(Some(addend)) => add(call, addend),
        // The smallest number cannot be negated, so this is an error whatever the stored value is.
        Some(None) => call.answers.error(b"ERR decrement would overflow"),
        None => call.answers.error(NO_INTEGER),
    }
}

fn add(call: &mut Call<'_>, addend: i64) {
    match call.store.add(call.arguments.get(1), addend, call.now) {
        Ok(sum) => call.answers.integer(sum),
        Err(NotAdded::NoInteger) => call.answers.error(NO_INTEGER),
        Err(NotAdded::Overflow) => call.answers.error(b"ERR increment or decrement would overflow"),
    }
}

const NO_INTEGER: &[u8] = b"ERR value is not an integer or out of range";

/// The options of `SET`, which follow the key and the value.
struct SetOptions {
    expiry: Expiry,
    only_if: Option<OnlyIf>,
    answers_old: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum OnlyIf {
    Missing,
    There,
}

impl SetOptions {
    /// Returns the options, or the error. `EXAT` and `PXAT` are not supported.
    fn parse(call: &Call<'_>) -> Result<SetOptions, &'static [u8]> {
        const SYNTAX: &[u8] = b"ERR syntax error";
        let mut options = SetOptions { expiry: Expiry::Never, only_if: None, answers_old: false };
        let mut after: Option<(&[u8], i64)> = None;
        let mut words = call.arguments.iter().skip(3);
        while let Some(word) = words.next() {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let unit_ms = if is(b"ex") { 1000 } else { 1 };
            // Repeating an option is no error, but contradicting options are.
            let fits = options.expiry != Expiry::Keep && after.is_none_or(|(_, before_ms)| before_ms == unit_ms);
            if is(b"nx") && options.only_if != Some(OnlyIf::There) {
                options.only_if = Some(OnlyIf::Missing);
            } else if is(b"xx") && options.only_if != Some(OnlyIf::Missing) {
                options.only_if = Some(OnlyIf::There);
            } else if is(b"get") {
                options.answers_old = true;
            } else if is(b"keepttl") && after.is_none() {
                options.expiry = Expiry::Keep;
            } else if (is(b"ex") || is(b"px")) && fits {
                after = Some((words.next().ok_or(SYNTAX)?, unit_ms));
            } else {
                return Err(SYNTAX);
            }
        }
        if let Some((number, unit_ms)) = after {
            let number = number::parse(number).ok_or(NO_INTEGER)?;
            let invalid = b"ERR invalid expire time in 'set' command";
            let ms = number.checked_mul(unit_ms).and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
            let after = Duration::from_millis(ms.ok_or(&invalid[..])?);
            options.expiry = Expiry::At((call.now)().checked_add(after).ok_or(&invalid[..])?);
        }
        Ok(options)
    }
}

pub(super) fn set(call: &mut Call<'_>) {
    let (key, value) = (call.arguments.get(1), call.arguments.get(2));
    let options = if call.arguments.len() == 3 {
        SetOptions { expiry: Expiry::Never, only_if: None, answers_old: false }
    } else {
        match SetOptions::parse(call) {
            Ok(options) => options,
            Err(error) => return call.answers.error(error),
        }
    };
    if options.answers_old || options.only_if.is_some() {
        let old = call.store.get(key, call.now);
        if options.answers_old {
            call.answers.bulk_or_null(old);
        }
        if options.only_if.is_some_and(|only_if| (only_if == OnlyIf::There) != old.is_some()) {
            if !options.answers_old {
                call.answers.null();
            }
            return;
        }
    }
    call.store.set(key, value, options.expiry, call.now);
    if !options.answers_old {
        call.answers.status("OK");
    }
}
