// The body of an answer, out of what carries it. Bytes in, bytes out; however they were cut, it comes to the same.

#[path = "chunks.rs"] // It is a part of two examples, from two places.
mod chunks;

use chunks::{Chunked, Rules};

pub(crate) enum Body {
    /// So many bytes are left.
    Length {
        left: u64,
    },
    Chunked(Chunked),
    /// As long as the connection.
    UntilClose,
}

impl Body {
    /// The one of an answer.
    pub(crate) fn chunked() -> Body {
        Body::Chunked(Chunked::new(Rules::Answer))
    }

    /// The one of a request.
    pub(crate) fn strictly_chunked() -> Body {
        Body::Chunked(Chunked::new(Rules::Strict))
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

    /// Appends what is in `data` of the body to `out`, and answers how much of `data` is done with.
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
