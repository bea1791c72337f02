//! One simulated connection for many inputs: to make one takes longer than most parsers take for an input.

use std::cell::RefCell;

use switchboard::testing::Harness;
use switchboard::{Protocol, Transport};

/// Holds the connection, and calls nothing by itself.
struct Nothing;

impl Protocol for Nothing {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// How many inputs are given the same connection: its network remembers what has happened.
const INPUTS_MAX: usize = 1000;

thread_local! {
    /// A connection, and how many inputs have been given it.
    static IDLE: RefCell<Option<(Harness, usize)>> = const { RefCell::new(None) };
}

/// Calls `call` with a connection that is open and on which nothing is queued, and returns what was written to it too.
///
/// Another input may have been given the same connection before, if it neither ended it nor changed its limits.
pub fn with<R>(call: impl FnOnce(&mut Transport<'_>) -> R) -> (R, Vec<u8>) {
    // An input that fails leaves none behind.
    let idle = IDLE.with_borrow_mut(Option::take);
    let (mut harness, inputs) = idle.unwrap_or_else(|| (Harness::new(Nothing), 0));
    let mut transport = harness.transport().expect("it was open when it was put aside");
    let input_bytes_max = transport.input_bytes_max();
    let result = call(&mut transport);
    let (is_closing, has_written) = (transport.is_closing(), transport.queued_bytes() > 0);
    let is_as_before = !is_closing && transport.is_reading() && transport.input_bytes_max() == input_bytes_max;
    if has_written || is_closing {
        harness.settle();
    }
    let written = harness.take_written();
    if is_as_before && inputs < INPUTS_MAX {
        IDLE.set(Some((harness, inputs + 1)));
    }
    (result, written)
}

/// Calls a protocol with `pieces` as the loop does: what it does not consume comes again, with what follows it, and
/// nothing comes after it has closed or paused the connection. Returns what is left.
pub fn feed<'a>(
    protocol: &mut impl Protocol,
    transport: &mut Transport<'_>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let (mut kept, mut kept_bytes_most) = (Vec::new(), 0);
    for piece in pieces {
        let data = match kept.is_empty() {
            true => piece,
            false => {
                kept.extend_from_slice(piece);
                &kept
            }
        };
        let mut consumed = 0;
        while consumed < data.len() && transport.is_reading() {
            let rest = &data[consumed..];
            let count = protocol.data_received(transport, rest);
            assert!(count <= rest.len(), "{count} bytes consumed of {}", rest.len());
            if count == 0 {
                break;
            }
            consumed += count;
        }
        match kept.is_empty() {
            true => kept.extend_from_slice(&piece[consumed..]),
            false => drop(kept.drain(..consumed)),
        }
        kept_bytes_most = kept_bytes_most.max(kept.len());
    }
    assert!(
        kept_bytes_most <= transport.input_bytes_max() || transport.is_closing(),
        "{kept_bytes_most} bytes are kept"
    );
    kept
}
