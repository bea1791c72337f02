// Tests of how much memory a client may hold, and for how long, in virtual time.

use switchboard::testing::Harness;

use super::*;

const HELD_MAX: usize = 1 << 20;

fn server() -> Shared {
    Server::new(1 << 20, HELD_MAX)
}

fn client(server: &Shared) -> Harness {
    let options = Options::parse(std::iter::empty()).unwrap();
    Harness::with_limits(Client::new(server, 1), limits(&options.bounds))
}

#[test]
fn resp_arguments_of_a_request_that_is_incomplete_count_with_their_spans() {
    const COUNT: usize = 20_000;
    let server = server();
    let held = || server.borrow().held_bytes;
    let part = format!("*1048576\r\n{}", "$0\r\n\r\n".repeat(COUNT));
    // An empty argument takes 6 bytes on the wire, in a doubling buffer, and a span of 8 bytes, in another one.
    let least = 2 * part.len() + 8 * COUNT;
    let most = 2 * part.len() + 2 * 8 * COUNT + 200;
    let mut first = client(&server);
    first.feed(part.as_bytes());
    assert!((least..most).contains(&held()), "{}", held());
    let mut others: Vec<_> = (0..3).map(|_| client(&server)).collect();
    for other in &mut others {
        other.feed(part.as_bytes());
    }
    let lost: Vec<_> = others.iter().map(|other| other.lost().is_some()).collect();
    assert_eq!(
        (first.lost().is_none(), &lost[..], held() <= HELD_MAX),
        (true, &[false, true, true][..], true),
        "{}",
        held()
    );
    // Connections that have ended hold nothing.
    first.reset();
    others[0].hang_up();
    assert_eq!((others[0].lost().is_some(), held()), (true, 0));
}

#[test]
fn resp_what_is_held_of_a_request_is_free_once_the_rest_has_come() {
    let server = server();
    let held = || server.borrow().held_bytes;
    let mut client = client(&server);
    let value = [b'x'; 300_000];
    client.feed(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$300000\r\n");
    client.feed(&value);
    assert!((300_000 + DOUBLED_BYTES_MAX..300_000 + DOUBLED_BYTES_MAX + 300).contains(&held()), "{}", held());
    client.feed(b"\r\n");
    assert_eq!((&client.take_written()[..], held()), (&b"+OK\r\n"[..], 0));
    // A client's name is held as long as its connection.
    client.feed(b"client setname somebody\r\n");
    assert_eq!((&client.take_written()[..], held()), (&b"+OK\r\n"[..], 8));
    client.feed(b"client setname ''\r\n");
    assert_eq!((&client.take_written()[..], held()), (&b"+OK\r\n"[..], 0));
}

// ---------------------------------------------------------------------------------------------------------------- time

const MOMENT: Duration = Duration::from_millis(1);
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

#[test]
fn resp_a_connection_that_has_not_sent_a_whole_request_is_closed_after_half_a_minute() {
    for part in [&b""[..], b"*", &GET[..GET.len() - 1], b"get a"] {
        // In one piece, and in a steady trickle of single bytes.
        for piece_bytes in [part.len().max(1), 1] {
            let mut client = client(&server());
            let mut left = REQUEST_TIMEOUT - MOMENT;
            for piece in part.chunks(piece_bytes) {
                client.feed(piece);
                client.advance(Duration::from_secs(1));
                left -= Duration::from_secs(1);
            }
            client.advance(left);
            assert_eq!((client.lost().is_none(), client.saw_end()), (true, false), "{part:?}");
            client.advance(MOMENT);
            assert!(client.lost().is_some() && client.saw_end() && !client.saw_reset(), "{part:?}");
            assert_eq!(client.take_written(), b"", "{part:?}");
        }
    }
}

#[test]
fn resp_each_request_has_half_a_minute_from_its_first_byte_to_its_last() {
    let server = server();
    let mut client = client(&server);
    client.feed(&GET[..5]);
    client.advance(REQUEST_TIMEOUT - MOMENT);
    client.feed(&GET[5..]);
    client.advance(2 * REQUEST_TIMEOUT);
    // One piece contains the end of one request and the beginning of the next.
    client.feed(&GET[..5]);
    client.advance(REQUEST_TIMEOUT - MOMENT);
    client.feed(&[&GET[5..], &GET[..5]].concat());
    client.advance(REQUEST_TIMEOUT - MOMENT);
    assert_eq!(client.take_written(), b"$-1\r\n".repeat(2));
    assert!(client.lost().is_none());
    client.feed(&GET[5..6]);
    client.advance(MOMENT);
    assert!(client.lost().is_some() && client.saw_end() && client.take_written().is_empty());
    assert_eq!(server.borrow().held_bytes, 0);
}

#[test]
fn resp_a_connection_may_be_idle_for_ten_minutes_between_requests() {
    let mut client = client(&server());
    for _ in 0..3 {
        client.feed(GET);
        assert_eq!(client.take_written(), b"$-1\r\n");
        client.advance(IDLE_TIMEOUT - MOMENT);
    }
    assert_eq!((client.lost().is_none(), client.saw_end()), (true, false));
    client.advance(MOMENT);
    assert!(client.lost().is_some() && client.saw_end() && !client.saw_reset());
}

#[test]
fn resp_a_peer_that_takes_no_answers_is_not_late_with_its_requests() {
    let server = server();
    let mut client = client(&server);
    client.feed(b"set a xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
    client.set_reading(false);
    client.feed(&GET.repeat(20_000));
    client.advance(2 * REQUEST_TIMEOUT);
    assert!(client.lost().is_none());
    client.advance(IDLE_TIMEOUT);
    assert!(client.lost().is_some());
}

#[test]
fn resp_options_are_what_the_command_line_says() {
    let parse = |line: &str| {
        let options = Options::parse(line.split_whitespace().map(str::to_owned));
        let Options { stored_bytes_max, bounds, rest } = options.ok()?;
        let limits = limits(&bounds);
        Some((stored_bytes_max, limits.connections_per_peer_max, limits.idle_timeout?, rest.join(" ")))
    };
    assert_eq!(parse("[::1]:0"), Some((STORED_BYTES_MAX, None, IDLE_TIMEOUT, "[::1]:0".to_owned())));
    let all = "--per-peer 5 --maxmemory=7 --timeout 9";
    assert_eq!(parse(&format!("{all} [::1]:0")), Some((7, Some(5), Duration::from_secs(9), "[::1]:0".to_owned())));
    for wrong in ["--per-peer", "--per-peer 0", "--per-peer x", "--per-peer -1", "--maxmemory=", "--maxmemory=x"] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn resp_a_key_that_expires_is_removed_though_nobody_asks_for_it() {
    let server = server();
    let mut client = client(&server);
    client.feed(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert!(server.borrow().alarm.is_none());
    client.feed(b"set b 1 ex 9\r\nset a 1 ex 5\r\nquit\r\n");
    let (alarm, _) = server.borrow().alarm.unwrap();
    assert_eq!(Some(alarm), server.borrow().store.next_deadline());
}

#[test]
fn resp_info_counts_the_clients_that_are_there() {
    let server = server();
    let (mut first, second) = (client(&server), client(&server));
    let mut told = |expected: [&str; 2]| {
        first.feed(b"info\r\n");
        let info = String::from_utf8(first.take_written()).unwrap();
        assert!(expected.iter().all(|line| info.contains(line)), "{info}");
    };
    told(["connected_clients:2\r\n", "total_commands_processed:1\r\n"]);
    drop(second);
    told(["connected_clients:1\r\n", "total_connections_received:2\r\n"]);
}
