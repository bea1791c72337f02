// Decodes a message body from its framing: bytes in, bytes out, and the result does not depend on how they were split.

#[path = "chunks.rs"] // Shared with `companions/fetch`.
mod chunks;

use chunks::{Chunked, Rules};

pub(crate) enum Body {
    /// This many bytes are left.
    Length { left: u64 },
    /// Boxed, since most bodies are none of these.
    Chunked(Box<Chunked>),
    /// Ends with the connection.
    UntilClose,
}

impl Body {
    /// The chunked body of a response.
    pub(crate) fn chunked() -> Body {
        Body::Chunked(Box::new(Chunked::new(Rules::Answer)))
    }

    /// The chunked body of a request.
    pub(crate) fn strictly_chunked() -> Body {
        Body::Chunked(Box::new(Chunked::new(Rules::Strict)))
    }

    pub(crate) fn length(&self) -> Option<u64> {
        if let Body::Length { left } = self { Some(*left) } else { None }
    }

    pub(crate) fn is_over(&self) -> bool {
        match self {
            Body::Length { left } => *left == 0,
            Body::Chunked(chunked) => chunked.is_over(),
            Body::UntilClose => false,
        }
    }

    /// Appends the part of the body in `data` to `out`, and returns how many bytes of `data` were consumed.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        match self {
            Body::Length { left } => Ok(take(left, data, out)),
            Body::UntilClose => {
                out.extend_from_slice(data);
                Ok(data.len())
            }
            Body::Chunked(chunked) => chunked.decode(data, out),
        }
    }
}

fn take(left: &mut u64, data: &[u8], out: &mut Vec<u8>) -> usize {
    let count = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
    out.extend_from_slice(&data[..count]);
    *left -= count as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the body, whether it is over, and how much of the stream is left, which must be the same for each cut.
    fn read(stream: &str) -> Result<(String, bool, usize), String> {
        let cut_at = |cut: usize| {
            let (mut body, mut out) = (Body::chunked(), Vec::new());
            let mut consumed = body.decode(&stream.as_bytes()[..cut], &mut out)?;
            consumed += body.decode(&stream.as_bytes()[consumed..], &mut out)?;
            Ok((String::from_utf8(out).unwrap(), body.is_over(), stream.len() - consumed))
        };
        let whole = cut_at(stream.len());
        (0..stream.len()).for_each(|cut| assert_eq!(cut_at(cut), whole, "{stream:?} cut at {cut}"));
        whole
    }

    #[test]
    fn fetch_takes_no_cut_body_for_a_whole_one() {
        let long = format!("0;{}", "x".repeat(2000));
        for size in [
            "",
            ";x",
            " ",
            "\t",
            " 0",
            "+0",
            "-0",
            "0x0",
            "0h",
            "0 0",
            "0\0",
            "0;\0",
            "0;x\n",
            "0\n",
            "00000000000000000",
            &long,
        ] {
            assert!(read(&format!("{size}\r\n\r\n")).is_err(), "{size:?}");
            assert!(read(&format!("4\r\nWiki\r\n{size}\r\n\r\n")).is_err(), "{size:?}");
        }
        for rest in ["", "0", "0\r\n", "0\r\n\r", "0\r\nX: y\r\n", "5", "5\r\n"] {
            let got = read(&format!("4\r\nWiki\r\n{rest}"));
            assert!(matches!(&got, Ok((body, false, 0)) if body == "Wiki"), "{rest:?}: {got:?}");
        }
    }

    #[test]
    fn fetch_does_not_look_at_extensions_and_trailers() {
        for (size, trailer) in
            [("0", ""), ("0 ", ""), ("0 ;", ""), ("0;;=\"", "no colon\r\n"), ("00", " X : y\n"), ("0", "\rX\r\n")]
        {
            let got = read(&format!("4\r\nWiki\r\n{size}\r\n{trailer}\r\nrest"));
            assert_eq!(got, Ok(("Wiki".to_owned(), true, 4)), "{size:?}, {trailer:?}");
        }
    }
}
