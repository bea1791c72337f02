// The body of an answer, out of what carries it. Bytes in, bytes out; however they were cut, it comes to the same.

/// The longest line with the size of a chunk: some servers sign each.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// The longest trailer, all its lines together.
const TRAILER_BYTES_MAX: usize = 32 << 10;

pub(crate) enum Body {
    /// So many bytes are left.
    Length {
        left: u64,
    },
    Chunked(Chunked),
    /// As long as the connection.
    UntilClose,
}

pub(crate) enum Chunked {
    /// The line with a chunk's size comes next.
    Size,
    /// So many bytes are left of a chunk.
    Data {
        left: u64,
    },
    /// The line end after a chunk.
    DataEnd,
    /// The lines after the last chunk; so long were those before.
    Trailer {
        bytes: usize,
    },
    Over,
}

impl Body {
    pub(crate) fn chunked() -> Body {
        Body::Chunked(Chunked::Size)
    }

    pub(crate) fn length(&self) -> Option<u64> {
        if let Body::Length { left } = self { Some(*left) } else { None }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Body::Length { left: 0 } | Body::Chunked(Chunked::Over))
    }

    /// Appends what is in `data` of the body to `out`, and answers how much of `data` is done with.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        match self {
            Body::Length { left } => Ok(take(left, data, out)),
            Body::UntilClose => {
                out.extend_from_slice(data);
                Ok(data.len())
            }
            Body::Chunked(chunked) => {
                let mut consumed = 0;
                while consumed < data.len() && !matches!(chunked, Chunked::Over) {
                    match chunked.step(&data[consumed..], out)? {
                        0 => break,
                        count => consumed += count,
                    }
                }
                Ok(consumed)
            }
        }
    }
}

impl Chunked {
    /// One line, or what there is of one chunk; 0 where too little is there.
    fn step(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        match self {
            Chunked::Size => match httparse::parse_chunk_size(data) {
                Ok(httparse::Status::Complete((count, size))) => {
                    *self = if size == 0 { Chunked::Trailer { bytes: 0 } } else { Chunked::Data { left: size } };
                    Ok(count)
                }
                Ok(httparse::Status::Partial) if data.len() <= SIZE_LINE_BYTES_MAX => Ok(0),
                _ => Err("the size of a chunk is malformed".to_owned()),
            },
            Chunked::Data { left } => {
                let count = take(left, data, out);
                if *left == 0 {
                    *self = Chunked::DataEnd;
                }
                Ok(count)
            }
            Chunked::DataEnd => match data {
                [b'\r', b'\n', ..] => {
                    *self = Chunked::Size;
                    Ok(2)
                }
                b"\r" => Ok(0),
                _ => Err("a chunk is longer than its size".to_owned()),
            },
            Chunked::Trailer { bytes } => {
                let end = data.iter().position(|&byte| byte == b'\n');
                let count = end.map_or(0, |end| end + 1);
                *bytes += count;
                if *bytes > TRAILER_BYTES_MAX {
                    return Err(format!("more than {TRAILER_BYTES_MAX} bytes of trailer"));
                }
                if matches!(&data[..count], b"\n" | b"\r\n") {
                    *self = Chunked::Over;
                }
                Ok(count)
            }
            Chunked::Over => Ok(0),
        }
    }
}

fn take(left: &mut u64, data: &[u8], out: &mut Vec<u8>) -> usize {
    let count = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
    out.extend_from_slice(&data[..count]);
    *left -= count as u64;
    count
}
