//! What the connections of a load say, and what they must hear.

use crate::exchange::Exchange;
use crate::options::{Options, Workload};
use crate::pattern::Pattern;
use crate::result::Result;
use crate::turn::Deadline;

pub enum Talk {
    /// Messages of so many bytes, which come back.
    Echo(Pattern, usize),
    /// Requests, all alike, and their answers.
    Asking(Exchange),
}

impl Talk {
    pub fn new(options: &Options, deadline: Deadline) -> Result<Self> {
        Ok(match options.workload {
            Workload::Http => Self::Asking(Exchange::http(&options.address, deadline)?),
            Workload::Resp => Self::Asking(Exchange::resp(&options.address, options.message_bytes, deadline)?),
            _ => Self::Echo(Pattern::new(), options.message_bytes),
        })
    }

    pub fn request_bytes(&self) -> usize {
        match self {
            Self::Echo(_, bytes) => *bytes,
            Self::Asking(exchange) => exchange.request_bytes(),
        }
    }

    pub fn answer_bytes(&self) -> usize {
        match self {
            Self::Echo(_, bytes) => *bytes,
            Self::Asking(exchange) => exchange.answer_bytes(),
        }
    }

    /// Returns how many bytes answer so many sent ones.
    pub fn answered_by(&self, sent: u64) -> u64 {
        match self {
            Self::Echo(..) => sent,
            Self::Asking(exchange) => sent / exchange.request_bytes() as u64 * exchange.answer_bytes() as u64,
        }
    }

    /// Returns what a connection says from a position of its stream on. `length` is at most `PIECE_BYTES_MAX`.
    pub fn request(&self, connection: usize, position: u64, length: usize) -> &[u8] {
        match self {
            Self::Echo(pattern, _) => pattern.at(Pattern::beginning(connection) + position, length),
            Self::Asking(exchange) => exchange.request(position, length),
        }
    }

    /// Compares what a connection has received at a position with what it must be; the error says which byte differs.
    pub fn verify(&self, connection: usize, position: u64, came: &[u8]) -> std::result::Result<(), usize> {
        match self {
            Self::Echo(pattern, _) => pattern.verify(Pattern::beginning(connection) + position, came),
            Self::Asking(exchange) => exchange.verify(position, came),
        }
    }
}
