//! GET and SET of Redis' protocol.

use std::collections::HashMap;

use crate::Dialect;

/// The longest string of a request.
const STRING_BYTES_MAX: usize = 32 * 1024;

#[derive(Default)]
pub struct Resp {
    values: HashMap<Vec<u8>, Vec<u8>>,
}

/// What was read of a request.
enum Read<T> {
    Whole(T),
    Partial,
    Wrong,
}

impl Dialect for Resp {
    fn look_at_clock(&mut self) {}

    fn answer(&mut self, data: &[u8], answers: &mut Vec<u8>) -> Option<usize> {
        let mut rest = data;
        loop {
            match request(rest) {
                Read::Whole((strings, bytes)) => {
                    self.execute(&strings, answers)?;
                    rest = &rest[bytes..];
                }
                Read::Partial => return Some(data.len() - rest.len()),
                Read::Wrong => return None,
            }
        }
    }
}

impl Resp {
    fn execute(&mut self, strings: &[&[u8]; 3], answers: &mut Vec<u8>) -> Option<()> {
        match *strings {
            [b"GET", key, b""] => match self.values.get(key) {
                Some(value) => answers.extend_from_slice(value),
                None => answers.extend_from_slice(b"$-1\r\n"),
            },
            [b"SET", key, value] => {
                // As it is answered.
                let mut stored = format!("${}\r\n", value.len()).into_bytes();
                stored.extend_from_slice(value);
                stored.extend_from_slice(b"\r\n");
                self.values.insert(key.to_vec(), stored);
                answers.extend_from_slice(b"+OK\r\n");
            }
            _ => return None,
        }
        Some(())
    }
}

/// Returns the strings of a request, two or three, and how many bytes it has.
fn request(mut data: &[u8]) -> Read<([&[u8]; 3], usize)> {
    let before = data.len();
    let count = match number(&mut data, b'*') {
        Read::Whole(count @ 2..=3) => count,
        Read::Whole(_) | Read::Wrong => return Read::Wrong,
        Read::Partial => return Read::Partial,
    };
    let mut strings = [&b""[..]; 3];
    for string in &mut strings[..count] {
        match number(&mut data, b'$') {
            Read::Whole(bytes) if bytes > STRING_BYTES_MAX => return Read::Wrong,
            Read::Whole(bytes) if data.len() < bytes + 2 => return Read::Partial,
            Read::Whole(bytes) => {
                *string = &data[..bytes];
                data = &data[bytes + 2..];
            }
            Read::Partial => return Read::Partial,
            Read::Wrong => return Read::Wrong,
        }
    }
    Read::Whole((strings, before - data.len()))
}

/// Takes a line with a number behind this sign.
fn number(data: &mut &[u8], sign: u8) -> Read<usize> {
    let mut number = 0;
    for (at, &byte) in data.iter().enumerate() {
        match byte {
            _ if at == 0 && byte == sign => {}
            b'0'..=b'9' if at > 0 && number <= STRING_BYTES_MAX => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if at > 1 && data.len() > at + 1 => {
                *data = &data[at + 2..];
                return Read::Whole(number);
            }
            b'\r' if at > 1 => return Read::Partial,
            _ => return Read::Wrong,
        }
    }
    Read::Partial
}
