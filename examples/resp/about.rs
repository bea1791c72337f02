// What the server reports about itself: its commands, its settings and its statistics.

use super::Answers;
use super::commands::Call;
use super::request::BULK_BYTES_MAX;
use super::table::{COMMANDS, Command, named};

/// Clients check the version to see which features they may use.
pub(super) const REDIS_VERSION: &str = "7.0.0";

pub(super) fn info(call: &mut Call<'_>) {
    let facts = call.facts;
    let (keys, expiring) = call.store.counts();
    let (bytes, bytes_max) = call.store.bytes();
    let server = format!(
        "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{}\r\nuptime_in_seconds:{}\r\n",
        std::process::id(),
        facts.begun.elapsed().as_secs()
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
    call.answers.text(&told.join("\r\n"));
}

// -------------------------------------------------------------------------------------------------------- the commands

pub(super) fn command(call: &mut Call<'_>) {
    describe_all(call.answers);
}

pub(super) fn command_count(call: &mut Call<'_>) {
    call.answers.integer(COMMANDS.len() as i64);
}

pub(super) fn command_info(call: &mut Call<'_>) {
    if call.arguments.len() == 2 {
        return describe_all(call.answers);
    }
    call.answers.array(call.arguments.len() - 2);
    for name in call.arguments.iter().skip(2) {
        match named(name) {
            Some(command) => describe(call.answers, command),
            None => call.answers.null(),
        }
    }
}

pub(super) fn command_docs(call: &mut Call<'_>) {
    let found: Vec<_> = match call.arguments.len() {
        2 => COMMANDS.iter().collect(),
        _ => call.arguments.iter().skip(2).filter_map(named).collect(),
    };
    call.answers.map(found.len());
    for command in found {
        call.answers.bulk(command.name.as_bytes());
        call.answers.map(2);
        for text in ["summary", command.summary, "group", command.group] {
            call.answers.bulk(text.as_bytes());
        }
    }
}

fn describe_all(answers: &mut Answers) {
    answers.array(COMMANDS.len());
    for command in COMMANDS {
        describe(answers, command);
    }
}

/// Writes the six elements that Redis had before version 6, which are the ones that clients read.
fn describe(answers: &mut Answers, command: &Command) {
    answers.array(6);
    answers.bulk(command.name.as_bytes());
    answers.integer(command.arity.into());
    answers.set(command.flags.len());
    for flag in command.flags {
        answers.status(flag);
    }
    for place in command.keys {
        answers.integer(place);
    }
}

// -------------------------------------------------------------------------------------------------------- the settings

/// Knows the settings that `redis-benchmark` asks for, and `maxmemory`. Names must be complete, without wildcards.
pub(super) fn config_get(call: &mut Call<'_>) {
    let bytes_max = call.store.bytes().1.to_string();
    let bulk_bytes_max = BULK_BYTES_MAX.to_string();
    let settings =
        [("save", ""), ("appendonly", "no"), ("maxmemory", &bytes_max), ("proto-max-bulk-len", &bulk_bytes_max)];
    let is_asked_for =
        |name: &str| call.arguments.iter().skip(2).any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let asked_for: Vec<_> = settings.iter().filter(|(name, _)| is_asked_for(name)).collect();
    call.answers.map(asked_for.len());
    for (name, value) in asked_for {
        call.answers.bulk(name.as_bytes());
        call.answers.bulk(value.as_bytes());
    }
}
