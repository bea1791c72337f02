// The table of commands: their names, how many arguments they take, and the functions that execute them.

use super::commands::{self, Call};
use super::{about, session};

pub(super) struct Command {
    /// A subcommand's name begins with its command's: `config|get`.
    pub(super) name: &'static str,
    /// How many words a request has, including the name; if negative, the minimum.
    pub(super) arity: i32,
    /// Which arguments are keys: the first, the last (counted from the end if negative), and the step.
    pub(super) keys: [i64; 3],
    pub(super) flags: &'static [&'static str],
    pub(super) run: fn(&mut Call<'_>),
    pub(super) summary: &'static str,
    pub(super) group: &'static str,
    pub(super) subcommands: &'static [Command],
}

const NO_KEYS: [i64; 3] = [0; 3];
const ONE_KEY: [i64; 3] = [1, 1, 1];
const ALL_KEYS: [i64; 3] = [1, -1, 1];

const ADDING: &[&str] = &["write", "denyoom", "fast"];
const ALWAYS: &[&str] = &["loading", "stale"];
const ALWAYS_FAST: &[&str] = &["loading", "stale", "fast"];

pub(super) const QUIT: &str = "quit";

// The most frequent commands come first.
#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, keys: ONE_KEY, flags: &["readonly", "fast"], run: commands::get,
        summary: "Get the value of a key", group: "string", subcommands: &[] },
    Command { name: "set", arity: -3, keys: ONE_KEY, flags: &["write", "denyoom"], run: commands::set,
        summary: "Set the string value of a key", group: "string", subcommands: &[] },
    Command { name: "incr", arity: 2, keys: ONE_KEY, flags: ADDING, run: commands::incr,
        summary: "Increment the integer value of a key by one", group: "string", subcommands: &[] },
    Command { name: "ping", arity: -1, keys: NO_KEYS, flags: &["fast"], run: commands::ping,
        summary: "Ping the server", group: "connection", subcommands: &[] },
    Command { name: "mget", arity: -2, keys: ALL_KEYS, flags: &["readonly", "fast"], run: commands::mget,
        summary: "Get the values of all the given keys", group: "string", subcommands: &[] },
    Command { name: "del", arity: -2, keys: ALL_KEYS, flags: &["write"], run: commands::del,
        summary: "Delete a key", group: "generic", subcommands: &[] },
    Command { name: "decr", arity: 2, keys: ONE_KEY, flags: ADDING, run: commands::decr,
        summary: "Decrement the integer value of a key by one", group: "string", subcommands: &[] },
    Command { name: "incrby", arity: 3, keys: ONE_KEY, flags: ADDING, run: commands::incrby,
        summary: "Increment the integer value of a key by the given amount", group: "string", subcommands: &[] },
    Command { name: "decrby", arity: 3, keys: ONE_KEY, flags: ADDING, run: commands::decrby,
        summary: "Decrement the integer value of a key by the given number", group: "string", subcommands: &[] },
    Command { name: "echo", arity: 2, keys: NO_KEYS, flags: ALWAYS_FAST, run: commands::echo,
        summary: "Echo the given string", group: "connection", subcommands: &[] },
    Command { name: "info", arity: -1, keys: NO_KEYS, flags: ALWAYS, run: about::info,
        summary: "Get information and statistics about the server", group: "server", subcommands: &[] },
    Command { name: "command", arity: -1, keys: NO_KEYS, flags: ALWAYS, run: about::command,
        summary: "Get array of Redis command details", group: "server", subcommands: OF_COMMAND },
    Command { name: "config", arity: -2, keys: NO_KEYS, flags: &[], run: commands::nothing,
        summary: "A container for server configuration commands", group: "server", subcommands: OF_CONFIG },
    Command { name: "hello", arity: -1, keys: NO_KEYS, flags: ALWAYS_FAST, run: session::hello,
        summary: "Handshake with Redis", group: "connection", subcommands: &[] },
    Command { name: "auth", arity: -2, keys: NO_KEYS, flags: ALWAYS_FAST, run: session::auth,
        summary: "Authenticate to the server", group: "connection", subcommands: &[] },
    Command { name: "client", arity: -2, keys: NO_KEYS, flags: &[], run: commands::nothing,
        summary: "A container for client connection commands", group: "connection", subcommands: OF_CLIENT },
    Command { name: QUIT, arity: -1, keys: NO_KEYS, flags: ALWAYS_FAST, run: commands::quit,
        summary: "Close the connection", group: "connection", subcommands: &[] },
];

#[rustfmt::skip]
const OF_COMMAND: &[Command] = &[
    Command { name: "command|count", arity: 2, keys: NO_KEYS, flags: ALWAYS, run: about::command_count,
        summary: "Get total number of Redis commands", group: "server", subcommands: &[] },
    Command { name: "command|info", arity: -2, keys: NO_KEYS, flags: ALWAYS, run: about::command_info,
        summary: "Get array of specific Redis command details, or all when no argument is given.", group: "server",
        subcommands: &[] },
    Command { name: "command|docs", arity: -2, keys: NO_KEYS, flags: ALWAYS, run: about::command_docs,
        summary: "Get array of specific Redis command documentation", group: "server", subcommands: &[] },
];

#[rustfmt::skip]
const OF_CONFIG: &[Command] = &[
    Command { name: "config|get", arity: -3, keys: NO_KEYS, flags: ALWAYS, run: about::config_get,
        summary: "Get the values of configuration parameters", group: "server", subcommands: &[] },
];

#[rustfmt::skip]
const OF_CLIENT: &[Command] = &[
    Command { name: "client|id", arity: 2, keys: NO_KEYS, flags: ALWAYS, run: session::client_id,
        summary: "Returns the client ID for the current connection", group: "connection", subcommands: &[] },
    Command { name: "client|getname", arity: 2, keys: NO_KEYS, flags: ALWAYS, run: session::client_getname,
        summary: "Get the current connection name", group: "connection", subcommands: &[] },
    Command { name: "client|setname", arity: 3, keys: NO_KEYS, flags: ALWAYS, run: session::client_setname,
        summary: "Set the current connection name", group: "connection", subcommands: &[] },
];

impl Command {
    pub(super) fn takes(&self, count: usize) -> bool {
        let count = count as i32; // Far fewer than it holds.
        count == self.arity || (self.arity < 0 && count >= -self.arity)
    }

    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Command> {
        let is_it = |subcommand: &&Command| {
            let own = subcommand.name.split_once('|').map_or("", |(_, own)| own);
            name.eq_ignore_ascii_case(own.as_bytes())
        };
        self.subcommands.iter().find(is_it)
    }
}

pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    // Names are lower-case letters, which only letters become this way.
    let is = |own: &[u8]| own.iter().zip(name).all(|(own, byte)| *own == byte | 0x20);
    COMMANDS.iter().find(|command| command.name.len() == name.len() && is(command.name.as_bytes()))
}

/// Returns the command with this full name, as in `config|get`.
pub(super) fn named(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|byte| *byte == b'|') {
        Some(bar) => find(&name[..bar])?.subcommand(&name[bar + 1..]),
        None => find(name),
    }
}
