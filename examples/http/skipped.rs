// The body of a request, which is read to its end, since the next request begins after it.

use super::{Body, Status};

/// The longest body that is read, the sizes of its chunks included.
pub(super) const BODY_BYTES_MAX: u64 = 1 << 20;

/// A body that is discarded.
pub(crate) struct Skipped {
    body: Body,
    bytes: u64,
}

impl Skipped {
    pub(crate) fn new(body: Body) -> Skipped {
        Skipped { body, bytes: 0 }
    }

    /// Returns how many bytes of `data` were consumed.
    pub(crate) fn skip(&mut self, data: &[u8]) -> Result<usize, Status> {
        let count = self.body.decode(data, &mut Vec::new()).map_err(|_| Status::BadRequest)?;
        self.bytes += count as u64;
        if self.bytes > BODY_BYTES_MAX { Err(Status::BodyTooLong) } else { Ok(count) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.body.is_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines with a size of one that are accepted.
    const GOOD_SIZES: &[&str] =
        &["1", "0000000000000001", "1;x", "1;x=y", "1;x=\"y\"", "1;x;y=z", "1;x=\"a\\\"b; c\té\";y"];
    /// Lines whose size is malformed, or which others would read as another size; whose end is missing, or which others
    /// would see end elsewhere; and whose extensions are malformed.
    const BAD_SIZES: &[&str] = &[
        "",
        ";x",
        " ",
        " 1",
        "\t1",
        "+1",
        "-1",
        "0x1",
        "1h",
        "g",
        "1,1",
        "1 1",
        "1 ",
        "1_0",
        "00000000000000001",
        "\r\n1",
        "1\0",
        "1\n",
        "1\r",
        "1;x\n",
        "1;x\n0\r\n\r\nGET / HTTP/1.1",
        "1;x\0",
        "1;x\x01",
        "1;x\x7f",
        "1;x\ry",
        "1;x=\"\n\"",
        "1;x=\"\r\n\"",
        "1;x=\"\\\n\"",
        "1;x=\"\0\"",
        "1;",
        "1;;x",
        "1; ",
        "1;=y",
        "1;x=",
        "1;x ",
        "1 ;x",
        "1; x",
        "1;x =y",
        "1;x= y",
        "1;x=\"y",
        "1;x=\"y\"z",
        "1;x y",
        "1;x=y=z",
        "1;x=y z",
        "1;é",
        "1;\"x\"",
    ];
    const GOOD_TRAILERS: &[&str] = &[
        "",
        "X: y\r\n",
        "X:\r\n",
        "X:\ty é \r\nZ: :\r\n",
        "Content-Lengths: 3\r\nTransfer-Encoding-x: y\r\nX-Host: z\r\n",
    ];
    const BAD_TRAILERS: &[&str] = &[
        "Content-Length: 3\r\n",
        "X: y\r\nTRANSFER-encoding:\r\n",
        "Host: x\r\n",
        "no colon\r\n",
        "no-colon\r\n",
        ": y\r\n",
        "X : y\r\n",
        "X\t: y\r\n",
        " X: y\r\n",
        "X: y\r\n folded\r\n",
        "X: y\r\n\tfolded\r\n",
        "X: \0\r\n",
        "X: y\n",
        "X: y\nZ: a\r\n",
        "\n",
        "X: y\rZ: a\r\n",
        "X: y\r\r\n",
        "\r\r\n",
        "X: \x7f\r\n",
        "X\0: y\r\n",
        "(X): y\r\n",
        "é: y\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n",
    ];

    #[test]
    fn http_bodies_are_skipped_however_they_are_cut_and_bounded() {
        let stream = b"4\r\nWiki\r\n5;x=\"y\"\r\npedia\r\n0\r\nTrailer: t\r\n\r\nGET";
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let mut skipped = Skipped::new(Body::strictly_chunked());
                let mut consumed = 0;
                for there in [first, second, stream.len()] {
                    consumed += skipped.skip(&stream[consumed..there]).ok().unwrap();
                }
                assert_eq!(
                    (skipped.is_over(), &stream[consumed..]),
                    (true, &b"GET"[..]),
                    "cut at {first} and {second}"
                );
            }
        }
        // Many small chunks count with the framing around them.
        let mut skipped = Skipped::new(Body::strictly_chunked());
        let chunk = "1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\nz\r\n";
        let most = BODY_BYTES_MAX as usize / chunk.len() + 1;
        let failed = (0..most).position(|_| skipped.skip(chunk.as_bytes()).is_err());
        assert_eq!(failed, Some(most - 1));
    }

    /// Skips a chunked body that arrives in pieces. Returns the error status, or how much of the stream is left after
    /// the body if the body is complete.
    fn skip(stream: &[u8], cuts: &[usize]) -> Result<Option<usize>, Status> {
        let mut skipped = Skipped::new(Body::strictly_chunked());
        let mut consumed = 0;
        for &there in cuts.iter().chain([&stream.len()]) {
            consumed += skipped.skip(&stream[consumed..there])?;
        }
        Ok(skipped.is_over().then_some(stream.len() - consumed))
    }

    /// Skips a body, and asserts that the result is the same however it is split.
    fn skip_cut(stream: &[u8]) -> Result<Option<usize>, Status> {
        let whole = skip(stream, &[]);
        for cut in 0..stream.len() {
            assert_eq!(skip(stream, &[cut]), whole, "{:?} cut at {cut}", stream.escape_ascii().to_string());
        }
        assert_eq!(skip(stream, &(0..stream.len()).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    #[test]
    fn http_chunks_that_can_be_taken_in_two_ways_are_refused_however_they_are_cut() {
        let refused = Err(Status::BadRequest);
        let longest = format!("1;{}", "x".repeat(1020));
        let longer = format!("1;{}", "x".repeat(1021));
        let good = GOOD_SIZES.iter().copied().chain([&longest[..]]).map(|line| (line, true));
        for (line, is_good) in good.chain(BAD_SIZES.iter().copied().chain([&longer[..]]).map(|line| (line, false))) {
            let expected = if is_good { Ok(Some(3)) } else { refused };
            assert!(
                is_good || skip_cut(format!("{line}\r\n\r\nGET").as_bytes()) == refused,
                "{line:?} as the last one"
            );
            assert_eq!(skip_cut(format!("{line}\r\nz\r\n0\r\n\r\nGET").as_bytes()), expected, "{line:?}");
        }
        for chunks in
            ["4\r\nWikis\r\n", "4\nWiki", "4\r\nWiki\n", "4\r\nWiki0\r\n", "4\r\nWiki\r\r\n", "4\r\nWiki\r0\r\n"]
        {
            assert_eq!(skip_cut(chunks.as_bytes()), refused, "{chunks:?}");
        }
        for partial in ["", "4", "4;x=\"", "4\r\nWik", "4\r\nWiki\r\n", "0\r\n", "0\r\nX: y\r\n", "0\r\nX: y\r\n\r"] {
            assert_eq!(skip_cut(partial.as_bytes()), Ok(None), "{partial:?}");
        }
    }

    #[test]
    fn http_trailers_are_looked_at_as_header_fields_are() {
        let good = GOOD_TRAILERS.iter().map(|trailer| (trailer, true));
        for (trailer, is_good) in good.chain(BAD_TRAILERS.iter().map(|trailer| (trailer, false))) {
            let expected = if is_good { Ok(Some(3)) } else { Err(Status::BadRequest) };
            assert_eq!(skip_cut(format!("0\r\n{trailer}\r\nGET").as_bytes()), expected, "{trailer:?}");
        }
        // Trailers are bounded, and none of their bytes is looked at twice: each is consumed at once, and not left for
        // the next call.
        let mut skipped = Skipped::new(Body::strictly_chunked());
        assert_eq!(skipped.skip(b"0\r\nX: "), Ok(6));
        let taken = (0..100_000).take_while(|_| skipped.skip(b"y").is_ok_and(|count| count == 1)).count();
        assert_eq!(taken, (32 << 10) - "X: ".len());
    }
}
