//! rustls' unbuffered connections.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{Error, ServerConfig};

use crate::{Outcome, Scratch, Session};

/// The longest payload of a record, and the most that it has in addition to it.
const RECORD_BYTES_MAX: usize = 16 * 1024;
const OVERHEAD_BYTES_MAX: usize = 64;
const ALERT_BYTES_MAX: usize = 64;

pub struct Unbuffered {
    tls: UnbufferedServerConnection,
    /// The beginning of an incomplete record.
    begun: Vec<u8>,
}

impl Session for Unbuffered {
    fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self { tls: UnbufferedServerConnection::new(config)?, begun: Vec::new() })
    }

    fn put_back(&mut self, buffer: &mut [u8]) -> usize {
        if self.begun.is_empty() {
            return 0;
        }
        let begun = std::mem::take(&mut self.begun);
        buffer[..begun.len()].copy_from_slice(&begun);
        begun.len()
    }

    fn echo(&mut self, came: &mut [u8], scratch: &mut Scratch) -> Outcome {
        scratch.plain.clear();
        let (mut taken, mut has_ended) = (0, false);
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(&mut came[taken..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        scratch.plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    let mut room = 0;
                    while let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                        message.encode(scratch.room(room)).map(|count| scratch.length += count)
                    {
                        room = required_size;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(ConnectionState::PeerClosed) => has_ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    taken += discard;
                    self.begun.extend_from_slice(&came[taken..]);
                    let Scratch { plain, .. } = scratch;
                    if !plain.is_empty() {
                        let plain = std::mem::take(plain);
                        let room = plain.len() + (plain.len() / RECORD_BYTES_MAX + 1) * OVERHEAD_BYTES_MAX;
                        let encrypted = traffic.encrypt(&plain, scratch.room(room));
                        scratch.plain = plain;
                        match encrypted {
                            Ok(count) => scratch.length += count,
                            Err(_) => return Outcome::Ends,
                        }
                    }
                    if has_ended {
                        if let Ok(count) = traffic.queue_close_notify(scratch.room(ALERT_BYTES_MAX)) {
                            scratch.length += count;
                        }
                        return Outcome::Ends;
                    }
                    return Outcome::GoesOn;
                }
                Ok(ConnectionState::BlockedHandshake) => {
                    self.begun.extend_from_slice(&came[taken + discard..]);
                    return Outcome::GoesOn;
                }
                // rustls would send an alert next; here a peer that breaks the rules gets none.
                Ok(_) | Err(_) => return Outcome::Ends,
            }
            taken += discard;
        }
    }
}
