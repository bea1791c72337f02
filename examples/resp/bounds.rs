// Tests of what a client may hold, in memory and in virtual time.

use switchboard::testing::Harness;

use super::*;

const HELD_MAX: usize = 1 << 20;

fn server() -> Shared {
    Server::new(1 << 20, HELD_MAX)
}

fn client(server: &Shared) -> Harness {
    Harness::with_limits(Client::new(server, 1), limits())
}

#[test]
fn resp_arguments_of_a_request_that_is_incomplete_count_with_their_spans() {
    const COUNT: usize = 20_000;
    let server = server();
    let held = || server.borrow().held_bytes;
    let part = format!("*1048576\r\n{}", "$0\r\n\r\n".repeat(COUNT));
    // An empty argument is 6 bytes on the wire, in a buffer that doubles, and a span of 8, in another one.
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
    assert_eq!((first.lost(), &lost[..], held() <= HELD_MAX), (None, &[false, true, true][..], true), "{}", held());
    // Nothing is held of those who have left.
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
    assert_eq!((&client.written()[..], held()), (&b"+OK\r\n"[..], 0));
    // A name stays with its connection.
    client.feed(b"client setname somebody\r\n");
    assert_eq!((&client.written()[..], held()), (&b"+OK\r\n"[..], 8));
    client.feed(b"client setname ''\r\n");
    assert_eq!((&client.written()[..], held()), (&b"+OK\r\n"[..], 0));
}
