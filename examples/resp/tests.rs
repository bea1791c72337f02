// Tests of whole commands, from lines to replies.

use std::time::{Duration, Instant};

use super::commands::{After, Call, Facts, execute};
use super::store::{Expiry, Store};
use super::{Answers, Parser, Session};

/// Returns the replies to lines that are executed in turn.
fn answers_to(store: &mut Store, lines: &[&str], now: Instant) -> String {
    let (mut parser, mut answers, mut session) = (Parser::default(), Answers::default(), Session::new(7));
    for line in lines {
        let data = format!("{line}\n").into_bytes();
        assert_eq!(parser.parse(&data, &mut None), Ok(Some(data.len())));
        let arguments = parser.arguments(&data);
        let mut call =
            Call { store, answers: &mut answers, session: &mut session, arguments, now: &|| now, facts: &Facts::new() };
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
        &["set a 1 xx", "get a", "set a 1 NX px 10", "set a 2 nx", "set a 2 xx get keepttl", "get a", "set b 1 ex 0"],
        begin,
    );
    assert_eq!(now, "$-1\r\n$-1\r\n+OK\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n-ERR invalid expire time in 'set' command\r\n");
    let later =
        answers_to(&mut store, &["get a", "set a 3 nx get", "set a 4 exat 1"], begin + Duration::from_millis(10));
    assert_eq!(later, "$-1\r\n$-1\r\n-ERR syntax error\r\n");
}

#[test]
fn resp_over_the_limit_nothing_is_added_but_all_can_be_read_and_deleted() {
    let mut store = Store::new(100);
    let lines = [
        "set a 1",
        "set b 2",
        "incr a",
        "decr a",
        "incrby a 1",
        "decrby a 1",
        "get a",
        "mget a b",
        "set b",
        "del a b",
        "set b 2",
    ];
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let expected = format!(
        "+OK\r\n{oom}{oom}{oom}{oom}{oom}$1\r\n1\r\n*2\r\n$1\r\n1\r\n$-1\r\n-ERR wrong number of arguments for 'set' command\r\n:1\r\n+OK\r\n"
    );
    assert_eq!(answers_to(&mut store, &lines, Instant::now()), expected);
}

#[test]
fn resp_an_answer_is_bounded() {
    let (mut store, now) = (Store::new(1 << 30), Instant::now());
    store.set(b"a", &vec![b'x'; 4 << 20], Expiry::Never, &|| now);
    let mut parser = Parser::default();
    let words = |words: &[&str], last: &str, count: usize| {
        let mut request = format!("*{}\r\n", words.len() + count);
        for word in words.iter().chain(std::iter::repeat_n(&last, count)) {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        request.into_bytes()
    };
    for (data, is_too_long) in [
        (words(&["mget"], "a", 7), false),
        (words(&["mget"], "a", 8), true),
        (words(&["mget"], "a", 1000), true),
        (words(&["command", "info"], "get", 900_000), true),
    ] {
        parser.parse(&data, &mut None).unwrap();
        let mut answers = Answers::default();
        let arguments = parser.arguments(&data);
        let mut call = Call {
            store: &mut store,
            answers: &mut answers,
            session: &mut Session::new(1),
            arguments,
            now: &|| now,
            facts: &Facts::new(),
        };
        execute(&mut call);
        let shown = String::from_utf8_lossy(&data[..40]);
        assert_eq!((answers.is_too_long(), answers.bytes().len() <= 32 << 20), (is_too_long, true), "{shown}");
    }
}

#[test]
fn resp_a_browser_is_not_spoken_with() {
    let mut store = Store::new(1 << 20);
    assert_eq!(answers_to(&mut store, &["POST / HTTP/1.1"], Instant::now()), "+dropped\r\n");
    assert_eq!(answers_to(&mut store, &["Host: here"], Instant::now()), "+dropped\r\n");
    assert_eq!(answers_to(&mut store, &["quit"], Instant::now()), "+OK\r\n+closed\r\n");
}

#[test]
fn resp_unknown_commands_are_described_by_nil_and_subcommands_by_their_full_names() {
    let now = Instant::now();
    let mut store = Store::new(1 << 20);
    let get = "*6\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n";
    let described = |lines: &[&str], store: &mut Store| answers_to(store, lines, now);
    assert_eq!(described(&["command info nosuch"], &mut store), "*1\r\n$-1\r\n");
    assert_eq!(described(&["command info nosuch GET x|y"], &mut store), format!("*3\r\n$-1\r\n{get}$-1\r\n"));
    for unknown in ["get|get", "config|nosuch", "config|", "|get", "|", "config|get|"] {
        assert_eq!(described(&[&format!("command info {unknown}")], &mut store), "*1\r\n$-1\r\n", "{unknown}");
        assert_eq!(described(&[&format!("command docs {unknown}")], &mut store), "*0\r\n", "{unknown}");
    }
    let subcommand = "*1\r\n*6\r\n$10\r\nconfig|get\r\n:-3\r\n*2\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n";
    assert_eq!(described(&["command info Config|GET"], &mut store), subcommand);
    // Without names, all commands are described.
    let all = described(&["command"], &mut store);
    assert!(all.contains(get) && all == described(&["command info"], &mut store));
    assert!(all.starts_with(&described(&["command count"], &mut store).replace(':', "*")));
    for (line, text) in [
        ("command nosuch", "unknown subcommand 'nosuch'. Try COMMAND HELP."),
        ("command count 1", "wrong number of arguments for 'command|count' command"),
        ("config", "wrong number of arguments for 'config' command"),
        ("config get", "wrong number of arguments for 'config|get' command"),
        ("config ''", "unknown subcommand ''. Try CONFIG HELP."),
    ] {
        assert_eq!(described(&[line], &mut store), format!("-ERR {text}\r\n"));
    }
}

#[test]
fn resp_hello_agrees_on_a_version_and_says_what_is_wrong_in_words_of_redis() {
    let (mut store, now) = (Store::new(1 << 20), Instant::now());
    let mut to = |lines: &[&str]| answers_to(&mut store, lines, now);
    let with = |map: &str, version: u8| {
        format!(
            "{map}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:{version}\r\n$2\r\nid\r\n:7\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
    };
    let (two, three) = (&with("*14", 2), &with("%7", 3));
    assert_eq!(
        to(&["hello", "HELLO 2", "hello 3", "hello", "hello 2", "hello"]),
        [two, two, three, three, two, two].map(|hello| &hello[..]).concat()
    );
    for (options, text) in [
        ("1", "NOPROTO unsupported protocol version"),
        ("4 nosuch", "NOPROTO unsupported protocol version"),
        ("x", "ERR Protocol version is not an integer or out of range"),
        ("03", "ERR Protocol version is not an integer or out of range"),
        ("setname a", "ERR Protocol version is not an integer or out of range"),
        ("3 Nosuch", "ERR Syntax error in HELLO option 'Nosuch'"),
        ("3 setname", "ERR Syntax error in HELLO option 'setname'"),
        ("3 auth default", "ERR Syntax error in HELLO option 'auth'"),
        ("3 auth me x", "WRONGPASS invalid username-password pair or user is disabled."),
        ("3 setname ' '", "ERR Client names cannot contain spaces, newlines or special characters."),
    ] {
        // The version does not change either.
        assert_eq!(to(&[&format!("hello {options}"), "get no"]), format!("-{text}\r\n$-1\r\n"), "{options}");
    }
    let named =
        to(&["hello 3 auth default x SetName a", "client getname", "hello 2 setname b nosuch", "client getname"]);
    let wrong = "-ERR Syntax error in HELLO option 'nosuch'\r\n";
    assert_eq!(named, format!("{three}$1\r\na\r\n{wrong}$1\r\nb\r\n"));
}

#[test]
fn resp_3_has_its_own_nulls_maps_sets_and_texts() {
    let (mut store, now) = (Store::new(1 << 20), Instant::now());
    let lines =
        ["get no", "mget no no", "set no 1 xx", "client getname", "command info no get", "config get save", "info no"];
    let described = "*6\r\n$3\r\nget\r\n:2\r\nSET2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n";
    let all = format!("NULL*2\r\nNULLNULLNULLNULL*2\r\nNULL{described}MAP$4\r\nsave\r\n$0\r\n\r\n");
    let two = all.replace("NULL", "$-1\r\n").replace("MAP", "*2\r\n").replace("SET", "*");
    assert_eq!(answers_to(&mut store, &lines, now), two + "$0\r\n\r\n");
    let three = all.replace("NULL", "_\r\n").replace("MAP", "%1\r\n").replace("SET", "~");
    let got = answers_to(&mut store, &[&["hello 3"], &lines[..]].concat(), now);
    let (_, got) = got.split_once("modules\r\n*0\r\n").unwrap();
    assert_eq!(got, three + "=4\r\ntxt:\r\n");
    let documented = answers_to(&mut store, &["hello 3", "command docs get"], now);
    assert!(documented.contains("%1\r\n$3\r\nget\r\n%2\r\n$7\r\nsummary\r\n"), "{documented}");
}

#[test]
fn resp_numbers_are_added_to_within_their_bounds() {
    let (mut store, now) = (Store::new(1 << 20), Instant::now());
    let no_integer = "-ERR value is not an integer or out of range\r\n";
    let overflow = "-ERR increment or decrement would overflow\r\n";
    for (lines, expected) in [
        (
            &["incrby a 5", "decrby a 7", "incrby a -3", "decrby a -6", "decr a", "incr a"][..],
            ":5\r\n:-2\r\n:-5\r\n:1\r\n:0\r\n:1\r\n",
        ),
        (&["incrby b -9223372036854775808", "get b"], ":-9223372036854775808\r\n$20\r\n-9223372036854775808\r\n"),
        (&["decr b", "decrby b 1", "incrby b -1"], &overflow.repeat(3)),
        (&["decrby new -9223372036854775808", "get new"], "-ERR decrement would overflow\r\n$-1\r\n"),
        (
            &["set c 9223372036854775807", "incrby c 1", "decrby c -1", "get c"],
            &format!("+OK\r\n{}$19\r\n9223372036854775807\r\n", overflow.repeat(2)),
        ),
        (
            &["incrby a 01", "incrby a +1", "decrby a ''", "incrby a 9223372036854775808", "get a"],
            &format!("{}$1\r\n1\r\n", no_integer.repeat(4)),
        ),
        (&["set d 1.0", "incrby d 1", "decrby d 1", "decr d"], &format!("+OK\r\n{}", no_integer.repeat(3))),
    ] {
        assert_eq!(answers_to(&mut store, lines, now), expected, "{lines:?}");
    }
}

#[test]
fn resp_a_client_may_say_who_it_is() {
    let (mut store, now) = (Store::new(1 << 20), Instant::now());
    let mut to = |lines: &[&str]| answers_to(&mut store, lines, now);
    let wrong = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    assert_eq!(
        to(&["client id", "CLIENT getname", "client setname a", "client getname"]),
        ":7\r\n$-1\r\n+OK\r\n$1\r\na\r\n"
    );
    assert_eq!(
        to(&["client setname a", "client setname 'a b'", "client setname \"\\xff\"", "client getname"]),
        format!("+OK\r\n{wrong}{wrong}$1\r\na\r\n")
    );
    assert_eq!(to(&["client setname a", "client setname ''", "client getname"]), "+OK\r\n+OK\r\n$-1\r\n");
    // `CLIENT SETINFO` was added in 7.2.
    assert_eq!(to(&["client setinfo lib-name x"]), "-ERR unknown subcommand 'setinfo'. Try CLIENT HELP.\r\n");
    let no_password = "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n";
    assert_eq!(
        to(&["auth x", "auth default x", "auth me x", "auth a b c"]),
        format!(
            "{no_password}+OK\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n-ERR syntax error\r\n"
        )
    );
}
