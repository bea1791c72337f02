//! Heads of HTTP answers, as `fetch` reads them: whole and cut.

use crate::fetch_head::Head;
use crate::input::{Input, first_result};

pub const WORDS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 301 \r\n",
    b"Location: /a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b" x\r\n",
    b", ",
];

/// What is used of a head: its length, its status, where it leads, what its body is, and what is shown of it.
type Used = (usize, u16, Option<String>, String, String);

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let data = input.rest();
    let parse = |beginning: &[u8], searched: &mut usize| match Head::parse(beginning, searched) {
        Ok(None) => None,
        Ok(Some(head)) => Some(Ok(used(&head))),
        Err(error) => Some(Err(error)),
    };
    let whole = parse(data, &mut 0);
    let mut searched = 0;
    let cut = first_result(data, seed, |beginning| parse(beginning, &mut searched));
    // An error may be found early or late, and be told otherwise; but it is one.
    match (&cut, &whole) {
        (Some(Err(_)), Some(Err(_))) => {}
        _ => assert_eq!(cut, whole, "cut by {seed}, and whole"),
    }
    if let Some(Ok(head)) = whole {
        assert!(head.0 <= data.len());
        assert_eq!(parse(&data[..head.0], &mut 0), Some(Ok(head.clone())), "what follows a head has no part in it");
        assert!(head.4.chars().all(|character| character == '\n' || !character.is_control()), "{:?}", head.4);
    }
}

fn used(head: &Head) -> Used {
    let body = match head.body() {
        Ok(body) => format!("{:?}", body.length()),
        Err(error) => error,
    };
    (head.bytes, head.status, head.location.clone(), body, head.shown.clone())
}
