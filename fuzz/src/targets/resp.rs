//! Requests of Redis' protocol: whole and cut, and what was encoded comes back.

use crate::input::{Input, pieces};
use crate::resp::request::{LINE_BYTES_MAX, Parser};

pub const WORDS: &[&[u8]] = &[
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*",
    b"$",
    b"\r\n",
    b"-1\r\n",
    b"PING\r\n",
    b"SET k \"a\\x00b\"\r\n",
    b"\"",
    b"'",
    b"\\",
    b"\\xff",
    b"*1048577\r\n",
];

/// The requests in an input, and the error that ends them.
#[derive(Debug, Default, PartialEq)]
struct Requests {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<String>,
    /// The length of all requests.
    bytes: usize,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let data = input.rest();
    let whole = requests(std::iter::once(data));
    assert_eq!(requests(pieces(data, seed)), whole, "cut by {seed}, and whole");
    // What was understood means the same in the form that clients send.
    let encoded: Vec<u8> = whole.requests.iter().flat_map(|request| encode(request)).collect();
    let again = requests(std::iter::once(&encoded[..]));
    assert_eq!(again.error, None);
    assert_eq!(again.bytes, encoded.len());
    assert_eq!(again.requests, whole.requests);
}

fn encode(request: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Parses as a connection does, which keeps what was not consumed.
fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Requests {
    let mut found = Requests::default();
    let (mut parser, mut begun, mut kept) = (Parser::default(), None, Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        while !kept.is_empty() {
            match parser.parse(&kept, &mut begun) {
                Ok(Some(bytes)) => {
                    let arguments = parser.arguments(&kept).iter().map(<[u8]>::to_vec).collect();
                    found.requests.push(arguments);
                    found.bytes += bytes;
                    kept.drain(..bytes);
                }
                Ok(None) => {
                    let begun = begun.as_ref().expect("the state of a request that is not complete");
                    // A request that waits for no bulk string holds one line, and each argument took six bytes.
                    assert!(begun.held_bytes() <= 64 + 16 * LINE_BYTES_MAX + 4 * kept.len());
                    break;
                }
                Err(error) => {
                    found.error = Some(error.to_string());
                    return found;
                }
            }
        }
    }
    found
}
