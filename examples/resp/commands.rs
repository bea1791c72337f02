// The commands, in one table: who they are, how many arguments they take, and what they do.

use std::io::Write;
use std::time::{Duration, Instant};

use super::Answers;
use super::number;
use super::request::{Arguments, BULK_BYTES_MAX};
use super::store::{Expiry, NotAdded, Store};

/// What `INFO` tells beside what is stored.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) uptime: Duration,
    pub(crate) clients: usize,
    pub(crate) connections: u64,
    pub(crate) commands: u64,
}

/// A command under way.
pub(crate) struct Call<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) answers: &'a mut Answers,
    pub(crate) arguments: Arguments<'a>,
    pub(crate) now: &'a dyn Fn() -> Instant,
    pub(crate) facts: &'a dyn Fn() -> Facts,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum After {
    GoOn,
    Close,
    /// Without what was not sent yet.
    Drop,
}

struct Command {
    name: &'static str,
    /// With its name; below zero, at least so many.
    arity: i32,
    /// Which arguments are keys: the first, the last (counted from the end below zero), and the step.
    keys: [i64; 3],
    flags: &'static [&'static str],
    run: fn(&mut Call<'_>),
    summary: &'static str,
    group: &'static str,
}

const NO_KEYS: [i64; 3] = [0; 3];

// Those that are called most often first.
#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, keys: [1, 1, 1], flags: &["readonly", "fast"], run: get,
        summary: "Get the value of a key", group: "string" },
    Command { name: "set", arity: -3, keys: [1, 1, 1], flags: &["write", "denyoom"], run: set,
        summary: "Set the string value of a key", group: "string" },
    Command { name: "incr", arity: 2, keys: [1, 1, 1], flags: &["write", "denyoom", "fast"], run: incr,
        summary: "Increment the integer value of a key by one", group: "string" },
    Command { name: "ping", arity: -1, keys: NO_KEYS, flags: &["fast"], run: ping,
        summary: "Ping the server", group: "connection" },
    Command { name: "mget", arity: -2, keys: [1, -1, 1], flags: &["readonly", "fast"], run: mget,
        summary: "Get the values of all the given keys", group: "string" },
    Command { name: "del", arity: -2, keys: [1, -1, 1], flags: &["write"], run: del,
        summary: "Delete a key", group: "generic" },
    Command { name: "echo", arity: 2, keys: NO_KEYS, flags: &["loading", "stale", "fast"], run: echo,
        summary: "Echo the given string", group: "connection" },
    Command { name: "info", arity: -1, keys: NO_KEYS, flags: &["loading", "stale"], run: info,
        summary: "Get information and statistics about the server", group: "server" },
    Command { name: "command", arity: -1, keys: NO_KEYS, flags: &["loading", "stale"], run: command,
        summary: "Get array of Redis command details", group: "server" },
    Command { name: "config", arity: -2, keys: NO_KEYS, flags: &[], run: config,
        summary: "A container for server configuration commands", group: "server" },
    Command { name: QUIT, arity: -1, keys: NO_KEYS, flags: &["loading", "stale", "fast"], run: quit,
        summary: "Close the connection", group: "connection" },
];

const QUIT: &str = "quit";

/// So much of a name that is unknown is said back, and so much of what followed it.
const SHOWN_BYTES: usize = 128;

/// Does what a request says. An empty one says nothing.
pub(crate) fn execute(call: &mut Call<'_>) -> After {
    let Some(name) = call.arguments.iter().next() else { return After::GoOn };
    match find(name) {
        Some(command) if !is_enough(command.arity, call.arguments.len()) => wrong_count(call.answers, command.name),
        Some(command) if command.flags.contains(&"denyoom") && call.store.is_full() => {
            call.answers.error(b"OOM command not allowed when used memory > 'maxmemory'.");
        }
        Some(command) => {
            (command.run)(call);
            if command.name == QUIT {
                return After::Close;
            }
        }
        // A browser that was made to speak to us: it is to learn nothing, and its body is not to be taken for commands.
        None if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") => return After::Drop,
        None => unknown(call),
    }
    After::GoOn
}

fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

fn is_enough(arity: i32, count: usize) -> bool {
    if arity < 0 { count >= arity.unsigned_abs() as usize } else { count == arity as usize }
}

fn wrong_count(answers: &mut Answers, name: &str) {
    answers.error(format!("ERR wrong number of arguments for '{name}' command").as_bytes());
}

fn unknown(call: &mut Call<'_>) {
    // As in C, a NUL ends what is shown.
    let shown = |text: &[u8], bytes_max: usize| -> Vec<u8> {
        text.iter().copied().take_while(|byte| *byte != 0).take(bytes_max).collect()
    };
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

fn ping(call: &mut Call<'_>) {
    match call.arguments.len() {
        1 => call.answers.status("PONG"),
        2 => call.answers.bulk(call.arguments.get(1)),
        _ => wrong_count(call.answers, "ping"),
    }
}

fn quit(call: &mut Call<'_>) {
    call.answers.status("OK");
}

fn echo(call: &mut Call<'_>) {
    call.answers.bulk(call.arguments.get(1));
}

// ---------------------------------------------------------------------------------------------------------- the values

fn get(call: &mut Call<'_>) {
    call.answers.bulk_or_null(call.store.get(call.arguments.get(1), call.now));
}

fn mget(call: &mut Call<'_>) {
    call.answers.array(call.arguments.len() - 1);
    for key in call.arguments.iter().skip(1) {
        call.answers.bulk_or_null(call.store.get(key, call.now));
    }
}

fn del(call: &mut Call<'_>) {
    let count = call.arguments.iter().skip(1).filter(|key| call.store.remove(key, call.now)).count();
    call.answers.integer(count as i64);
}

fn incr(call: &mut Call<'_>) {
    match call.store.add(call.arguments.get(1), 1, call.now) {
        Ok(sum) => call.answers.integer(sum),
        Err(NotAdded::NoInteger) => call.answers.error(NO_INTEGER),
        Err(NotAdded::Overflow) => call.answers.error(b"ERR increment or decrement would overflow"),
    }
}

const NO_INTEGER: &[u8] = b"ERR value is not an integer or out of range";

/// What may follow a key and a value.
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
    /// Answers the error, too. `EXAT` and `PXAT` are none of the words.
    fn parse(call: &Call<'_>) -> Result<SetOptions, &'static [u8]> {
        const SYNTAX: &[u8] = b"ERR syntax error";
        let mut options = SetOptions { expiry: Expiry::Never, only_if: None, answers_old: false };
        let mut after: Option<(&[u8], i64)> = None;
        let mut words = call.arguments.iter().skip(3);
        while let Some(word) = words.next() {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let unit_ms = if is(b"ex") { 1000 } else { 1 };
            // Whatever stands there twice is no error, but what contradicts is.
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

fn set(call: &mut Call<'_>) {
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
                call.answers.bulk_or_null(None);
            }
            return;
        }
    }
    call.store.set(key, value, options.expiry, call.now);
    if !options.answers_old {
        call.answers.status("OK");
    }
}

// ---------------------------------------------------------------------------------------------------------- the server

fn info(call: &mut Call<'_>) {
    let facts = (call.facts)();
    let (keys, expiring) = call.store.counts();
    let (bytes, bytes_max) = call.store.bytes();
    // Clients look at the version for what they may ask for.
    let server = format!(
        "redis_version:7.0.0\r\nredis_mode:standalone\r\nprocess_id:{}\r\nuptime_in_seconds:{}\r\n",
        std::process::id(),
        facts.uptime.as_secs()
    );
    let sections = [
        ("Server", server),
        ("Clients", format!("connected_clients:{}\r\n", facts.clients)),
        ("Memory", format!("used_memory:{bytes}\r\nmaxmemory:{bytes_max}\r\nmaxmemory_policy:noeviction\r\n")),
        (
            "Stats",
            format!(
                "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n",
                facts.connections, facts.commands
            ),
        ),
        (
            "Keyspace",
            if keys > 0 { format!("db0:keys={keys},expires={expiring},avg_ttl=0\r\n") } else { String::new() },
        ),
    ];
    let wanted: Vec<&[u8]> = call.arguments.iter().skip(1).collect();
    let is_wanted = |name: &str| {
        let is = |word: &&[u8]| {
            [name, "all", "default", "everything"].iter().any(|all| word.eq_ignore_ascii_case(all.as_bytes()))
        };
        wanted.is_empty() || wanted.iter().any(is)
    };
    let told: Vec<_> = sections.iter().filter(|(name, _)| is_wanted(name)).collect();
    let told: Vec<_> = told.iter().map(|(name, lines)| format!("# {name}\r\n{lines}")).collect();
    call.answers.bulk(told.join("\r\n").as_bytes());
}

/// How many arguments a command with subcommands was given, behind the one that names it.
fn unknown_subcommand(call: &mut Call<'_>, name: &str) {
    let shown = call.arguments.get(1);
    let end = shown.iter().position(|byte| *byte == 0).unwrap_or(shown.len()).min(SHOWN_BYTES);
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(&shown[..end]);
    let _ = write!(text, "'. Try {name} HELP.");
    call.answers.error(&text);
}

fn command(call: &mut Call<'_>) {
    let Some(subcommand) = call.arguments.iter().nth(1) else { return describe_all(call.answers) };
    let names = call.arguments.iter().skip(2);
    if subcommand.eq_ignore_ascii_case(b"count") {
        match call.arguments.len() {
            2 => call.answers.integer(COMMANDS.len() as i64),
            _ => wrong_count(call.answers, "command|count"),
        }
    } else if subcommand.eq_ignore_ascii_case(b"info") {
        if call.arguments.len() == 2 {
            return describe_all(call.answers);
        }
        call.answers.array(call.arguments.len() - 2);
        for name in names {
            describe(call.answers, find(name));
        }
    } else if subcommand.eq_ignore_ascii_case(b"docs") {
        let found: Vec<_> = match call.arguments.len() {
            2 => COMMANDS.iter().collect(),
            _ => names.filter_map(find).collect(),
        };
        call.answers.array(found.len() * 2);
        for command in found {
            document(call.answers, command);
        }
    } else {
        unknown_subcommand(call, "COMMAND");
    }
}

fn describe_all(answers: &mut Answers) {
    answers.array(COMMANDS.len());
    for command in COMMANDS {
        describe(answers, Some(command));
    }
}

/// As Redis did before version 6: what clients look at.
fn describe(answers: &mut Answers, command: Option<&Command>) {
    let Some(command) = command else { return answers.null_array() };
    answers.array(6);
    answers.bulk(command.name.as_bytes());
    answers.integer(command.arity.into());
    answers.array(command.flags.len());
    for flag in command.flags {
        answers.status(flag);
    }
    for place in command.keys {
        answers.integer(place);
    }
}

fn document(answers: &mut Answers, command: &Command) {
    answers.bulk(command.name.as_bytes());
    answers.array(4);
    for text in ["summary", command.summary, "group", command.group] {
        answers.bulk(text.as_bytes());
    }
}

/// What `redis-benchmark` asks for, and how much may be stored. Names are whole, without wildcards.
fn config(call: &mut Call<'_>) {
    if !call.arguments.get(1).eq_ignore_ascii_case(b"get") {
        return unknown_subcommand(call, "CONFIG");
    }
    if call.arguments.len() == 2 {
        return wrong_count(call.answers, "config|get");
    }
    let bytes_max = call.store.bytes().1.to_string();
    let bulk_bytes_max = BULK_BYTES_MAX.to_string();
    let settings =
        [("save", ""), ("appendonly", "no"), ("maxmemory", &bytes_max), ("proto-max-bulk-len", &bulk_bytes_max)];
    let is_asked_for =
        |name: &str| call.arguments.iter().skip(2).any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let asked_for: Vec<_> = settings.iter().filter(|(name, _)| is_asked_for(name)).collect();
    call.answers.array(asked_for.len() * 2);
    for (name, value) in asked_for {
        call.answers.bulk(name.as_bytes());
        call.answers.bulk(value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Parser;

    /// What is answered to lines, one after the other, each at its time.
    fn answers_to(store: &mut Store, lines: &[&str], now: Instant) -> String {
        let (mut parser, mut answers) = (Parser::default(), Answers::default());
        for line in lines {
            let data = format!("{line}\n").into_bytes();
            assert_eq!(parser.parse(&data, &mut None), Ok(Some(data.len())));
            let arguments = parser.arguments(&data);
            let mut call = Call { store, answers: &mut answers, arguments, now: &|| now, facts: &Facts::default };
            match execute(&mut call) {
                After::GoOn => {}
                After::Close => answers.status("closed"),
                After::Drop => answers.status("dropped"),
            }
        }
        String::from_utf8(answers.bytes().to_vec()).unwrap()
    }

    #[test]
    fn resp_set_does_what_its_options_say() {
        let (mut store, begin) = (Store::new(1 << 20), Instant::now());
        let now = answers_to(
            &mut store,
            &[
                "set a 1 xx",
                "get a",
                "set a 1 NX px 10",
                "set a 2 nx",
                "set a 2 xx get keepttl",
                "get a",
                "set b 1 ex 0",
            ],
            begin,
        );
        assert_eq!(
            now,
            "$-1\r\n$-1\r\n+OK\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n-ERR invalid expire time in 'set' command\r\n"
        );
        let later =
            answers_to(&mut store, &["get a", "set a 3 nx get", "set a 4 exat 1"], begin + Duration::from_millis(10));
        assert_eq!(later, "$-1\r\n$-1\r\n-ERR syntax error\r\n");
    }

    #[test]
    fn resp_over_the_limit_nothing_is_added_but_all_can_be_read_and_deleted() {
        let mut store = Store::new(100);
        let lines = ["set a 1", "set b 2", "incr a", "get a", "mget a b", "set b", "del a b", "set b 2"];
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        let expected = format!(
            "+OK\r\n{oom}{oom}$1\r\n1\r\n*2\r\n$1\r\n1\r\n$-1\r\n-ERR wrong number of arguments for 'set' command\r\n:1\r\n+OK\r\n"
        );
        assert_eq!(answers_to(&mut store, &lines, Instant::now()), expected);
    }

    #[test]
    fn resp_an_answer_is_bounded() {
        let (mut store, now) = (Store::new(1 << 30), Instant::now());
        store.set(b"a", &vec![b'x'; 4 << 20], Expiry::Never, &|| now);
        let mut parser = Parser::default();
        for (count, is_too_long) in [(7, false), (8, true), (1000, true)] {
            let data = format!("mget{}\n", " a".repeat(count)).into_bytes();
            parser.parse(&data, &mut None).unwrap();
            let mut answers = Answers::default();
            let arguments = parser.arguments(&data);
            let mut call =
                Call { store: &mut store, answers: &mut answers, arguments, now: &|| now, facts: &Facts::default };
            execute(&mut call);
            assert_eq!((answers.is_too_long(), answers.bytes().len() <= 32 << 20), (is_too_long, true), "{count}");
        }
    }

    #[test]
    fn resp_a_browser_is_not_spoken_with() {
        let mut store = Store::new(1 << 20);
        assert_eq!(answers_to(&mut store, &["POST / HTTP/1.1"], Instant::now()), "+dropped\r\n");
        assert_eq!(answers_to(&mut store, &["Host: here"], Instant::now()), "+dropped\r\n");
        assert_eq!(answers_to(&mut store, &["quit"], Instant::now()), "+OK\r\n+closed\r\n");
    }
}
