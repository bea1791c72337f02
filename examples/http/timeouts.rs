// Tests of the timeouts, in virtual time: on the real clock the tests would have to wait for them. And of clients that
// read late, which a simulated network plays.

use switchboard::testing::Harness;
use switchboard::{CloseReason, Timeout};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const MINUTE: Duration = Duration::from_secs(60);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    super::limits(&Bounds { timeout: IDLE_TIMEOUT, per_peer_max: None })
}

fn harness() -> Harness {
    Harness::with_limits(Client::new(Responses::new()), limits())
}

/// Returns the status lines of what was written since the last call.
fn statuses(harness: &mut Harness) -> Vec<String> {
    let written = String::from_utf8(harness.take_written()).unwrap();
    written.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).map(str::to_owned).collect()
}

#[test]
fn http_a_connection_without_a_request_is_closed_in_order_after_a_minute() {
    for requests in [0, 1, 3] {
        let mut harness = harness();
        for _ in 0..requests {
            harness.advance(MINUTE - MOMENT);
            harness.feed(GET);
            assert_eq!(statuses(&mut harness), ["200 OK"]);
        }
        harness.advance(MINUTE - MOMENT);
        assert_eq!((harness.lost().is_none(), harness.saw_end()), (true, false), "after {requests}");
        harness.advance(MOMENT);
        assert!(matches!(harness.lost(), Some(CloseReason::Closed)) && harness.saw_end(), "after {requests}");
        assert!(!harness.saw_reset() && harness.take_written().is_empty(), "after {requests}");
    }
}

#[test]
fn http_the_date_is_asked_for_once_a_second() {
    let answers = Responses::new();
    let mut harness = Harness::with_limits(Client::new(answers.clone()), limits());
    for _ in 0..3 {
        harness.feed(GET);
        assert!(answers.borrow().date.ends_with(" GMT"));
        answers.borrow_mut().date = "the same".to_owned();
        harness.feed(GET);
        assert_eq!((statuses(&mut harness).len(), &answers.borrow().date[..]), (2, "the same"));
        harness.advance(Duration::from_secs(1));
        assert!(answers.borrow().date.is_empty());
    }
    // An idle server is not woken for it.
    assert!(harness.lost().is_none());
    harness.advance(IDLE_TIMEOUT);
    assert!(harness.lost().is_some() && answers.borrow().date.is_empty());
}

#[test]
fn http_a_request_has_ten_seconds_though_it_goes_on_all_the_time() {
    for (begin, more) in
        [(&b""[..], "GET / HTTP/1.1"), (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", "a body")]
    {
        let mut harness = harness();
        harness.feed(GET);
        harness.advance(2 * TEN_SECONDS);
        assert_eq!(statuses(&mut harness), ["200 OK"]);
        harness.feed(begin);
        for byte in more.bytes().cycle().take(20) {
            assert!(harness.take_written().is_empty() && harness.lost().is_none(), "{more}");
            harness.feed(&[byte]);
            harness.advance(TEN_SECONDS / 20);
        }
        assert_eq!(statuses(&mut harness), ["408 Request Timeout"], "{more}");
        assert!(harness.saw_end() && !harness.saw_reset(), "{more}");
    }
}

#[test]
fn http_the_next_request_has_ten_seconds_of_its_own() {
    let mut harness = harness();
    harness.feed(&GET[..9]);
    harness.advance(TEN_SECONDS - MOMENT);
    harness.feed(&[&GET[9..], &GET[..9]].concat());
    assert_eq!(statuses(&mut harness), ["200 OK"]);
    harness.advance(TEN_SECONDS - MOMENT);
    assert!(harness.take_written().is_empty() && harness.lost().is_none());
    harness.advance(MOMENT);
    assert_eq!(statuses(&mut harness), ["408 Request Timeout"]);
}

#[test]
fn http_an_empty_line_behind_a_request_begins_no_other() {
    for empty in ["\r\n", "\n", "\r\n\r\n"] {
        for cut in 0..=empty.len() {
            let mut harness = harness();
            harness.feed(&[GET, &empty.as_bytes()[..cut]].concat());
            harness.feed(&empty.as_bytes()[cut..]);
            assert_eq!(statuses(&mut harness), ["200 OK"]);
            harness.advance(2 * TEN_SECONDS);
            assert!(harness.take_written().is_empty() && harness.lost().is_none(), "{empty:?} cut at {cut}");
            // What follows it has its own ten seconds, and no more.
            harness.feed(&GET[..9]);
            harness.advance(TEN_SECONDS - MOMENT);
            harness.feed(&GET[9..]);
            assert_eq!(statuses(&mut harness), ["200 OK"]);
            harness.feed(&[empty.as_bytes(), &GET[..9]].concat());
            harness.advance(TEN_SECONDS);
            assert_eq!(statuses(&mut harness), ["408 Request Timeout"]);
        }
    }
}

#[test]
fn http_who_takes_no_answers_is_gone_after_a_minute_and_the_time_to_close() {
    let mut harness = harness();
    harness.set_reading(false);
    harness.feed(&GET.repeat(100_000));
    harness.advance(MINUTE - MOMENT);
    assert!(harness.lost().is_none());
    harness.advance(MOMENT + limits().close_timeout);
    assert!(matches!(harness.lost(), Some(CloseReason::Timeout(Timeout::Close))));
}

/// A client that has begun to send a body that is too long, and has not seen the refusal yet.
fn refused() -> Harness {
    let mut harness = harness();
    harness.set_reading(false);
    harness.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    harness
}

#[test]
fn http_who_sends_a_whole_body_before_it_reads_gets_the_refusal() {
    for (mib, is_cut_off) in [(7, false), (9, true)] {
        let mut harness = refused();
        (0..mib).for_each(|_| harness.feed(&[0; 1 << 20]));
        harness.end();
        harness.set_reading(true);
        assert_eq!(statuses(&mut harness), ["413 Content Too Large"]);
        let why = if is_cut_off { "Protocol(\"413 Content Too Large\")" } else { "PeerClosed" };
        assert_eq!(format!("{:?}", harness.lost().unwrap()), why, "{mib} MiB");
        assert_eq!(harness.saw_reset(), is_cut_off, "{mib} MiB");
    }
}

#[test]
fn http_who_goes_on_after_a_refusal_has_two_seconds() {
    let mut harness = refused();
    for _ in 0..20 {
        harness.feed(b"x");
        assert!(harness.lost().is_none());
        harness.advance(Duration::from_millis(100));
    }
    assert!(matches!(harness.lost(), Some(CloseReason::Protocol(_))));
    // What is silent does not get more.
    let mut harness = refused();
    harness.advance(Duration::from_secs(2) - MOMENT);
    assert!(harness.lost().is_none());
    harness.advance(MOMENT);
    assert!(matches!(harness.lost(), Some(CloseReason::Protocol(_))));
}

/// Returns whether the n-th request is for a page that is there; the pattern has no short period.
fn is_found(n: usize) -> bool {
    (n * n / 7) % 3 == 0
}

#[test]
fn http_a_late_reader_gets_the_answer_to_each_request() {
    // Their answers are many times what the kernels and the loop keep for a client that does not read.
    const REQUESTS: usize = 10_000;
    let path = |n| if is_found(n) { "/" } else { "/no" };
    let requests: String = (0..REQUESTS).map(|n| format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(n))).collect();
    for ends in [false, true] {
        let mut harness = harness();
        harness.set_reading(false);
        harness.feed(requests.as_bytes());
        if ends {
            harness.end();
        }
        harness.set_reading(true);
        let found: Vec<bool> = statuses(&mut harness).iter().map(|status| status == "200 OK").collect();
        assert!(found.iter().copied().eq((0..REQUESTS).map(is_found)), "{} answers, {ends}", found.len());
        assert_eq!((harness.saw_end(), harness.saw_reset()), (ends, false));
    }
}
