// Tests of whole commands: lines in, bytes out.

use std::time::{Duration, Instant};

use super::commands::{After, Call, Facts, execute};
use super::store::{Expiry, Store};
use super::{Answers, Parser};

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
    // Without names, all of them.
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
