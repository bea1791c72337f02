//! How rustls' unbuffered connections are driven. Server and client differ in type, not in methods.

use rustls::Error;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use switchboard::filter::{Bytes, Flow};

/// What precedes the payload of a record.
const HEADER_BYTES: usize = 5;
/// A record carries at most so much, and more than its payload at most so much.
const RECORD_BYTES_MAX: usize = 16 * 1024;
const OVERHEAD_BYTES_MAX: usize = 64;

/// An alert in a record.
const ALERT_BYTES_MAX: usize = 256;

/// One of the two kinds of connections.
pub(crate) trait Connection {
    type Data;

    fn process<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(data)
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, data: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(data)
    }
}

/// How far a connection is.
#[derive(Default)]
pub(crate) struct Records {
    is_ready: bool,
    has_ended: bool,
    /// So many bytes at the front of what is offered next rustls has processed, and still needs: the beginning of a message
    /// that comes in several records. It looks for them at the same place, whatever it is called for, and panics where there
    /// are fewer.
    needed: usize,
}

/// What a step has come to.
enum Step<'c, Data> {
    More,
    /// The same, records of data having been put up.
    Delivered,
    /// Nothing more can be done before something comes.
    Blocked,
    /// The same, and something can be written.
    Writable(WriteTraffic<'c, Data>),
    Failed(Error),
}

impl Records {
    pub(crate) fn begin<C: Connection>(&mut self, connection: &mut C, flow: &mut Flow<'_>) {
        self.write(connection, flow, |_, _| Ok(()));
    }

    /// Returns how much of what came was taken.
    pub(crate) fn receive<C: Connection>(&mut self, connection: &mut C, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let whole = whole_records(data, self.needed);
        let mut taken = 0;
        loop {
            let (discarded, step) = self.step(connection, &mut data[taken..], flow);
            taken += discarded;
            match step {
                Step::Delivered if taken == data.len() => {
                    // rustls has nothing else to say then: it processes no record before the last one was taken.
                    self.needed = 0;
                    return taken;
                }
                Step::More | Step::Delivered if flow.up_room() > 0 => {}
                Step::More | Step::Delivered => {
                    // A record was delivered, which is never one in the middle of a message.
                    self.needed = 0;
                    return taken;
                }
                Step::Blocked | Step::Writable(_) => {
                    self.needed = whole.saturating_sub(taken);
                    return taken;
                }
                Step::Failed(error) => {
                    fail(connection, &mut data[taken..], error, flow);
                    return taken;
                }
            }
        }
    }

    /// Encrypts all of what is to be sent.
    pub(crate) fn send<C: Connection>(&mut self, connection: &mut C, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.write(connection, flow, |traffic, down| encrypt(traffic, data, down));
        data.len()
    }

    /// Says `close_notify`.
    pub(crate) fn finish<C: Connection>(&mut self, connection: &mut C, flow: &mut Flow<'_>) {
        self.write(connection, flow, |traffic, down| {
            let count = traffic.queue_close_notify(down.space(ALERT_BYTES_MAX))?;
            down.commit(count);
            Ok(())
        });
    }

    /// Puts down what rustls has to say, and then what `code` writes, if it can be written.
    fn write<C: Connection>(
        &mut self,
        connection: &mut C,
        flow: &mut Flow<'_>,
        code: impl FnOnce(&mut WriteTraffic<'_, C::Data>, &mut Bytes) -> Result<(), EncryptError>,
    ) {
        // The bytes themselves are with the loop, and are not looked at: they are the beginning of a message.
        let mut stands_for_needed = vec![0; self.needed];
        loop {
            match self.step(connection, &mut stands_for_needed, flow).1 {
                Step::More | Step::Delivered => {}
                Step::Blocked => return,
                Step::Writable(mut traffic) => {
                    if let Err(error) = code(&mut traffic, flow.down()) {
                        flow.fail(error);
                    }
                    return;
                }
                Step::Failed(error) => return fail(connection, &mut stands_for_needed, error, flow),
            }
        }
    }

    /// Lets rustls do one thing. Returns how many bytes it is done with, too.
    fn step<'c, C: Connection>(
        &mut self,
        connection: &'c mut C,
        data: &mut [u8],
        flow: &mut Flow<'_>,
    ) -> (usize, Step<'c, C::Data>) {
        let UnbufferedStatus { mut discard, state, .. } = connection.process(data);
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                self.set_ready(flow);
                let mut step = Step::Delivered;
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            flow.up().push(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => step = Step::Failed(error),
                    }
                }
                step
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encode(&mut message, flow.down());
                Step::More
            }
            Ok(ConnectionState::TransmitTlsData(message)) => {
                // It is on its way, in this order.
                message.done();
                Step::More
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                self.set_ready(flow);
                Step::Writable(traffic)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.set_ended(flow);
                Step::More
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Step::Blocked,
            // Early data is not enabled, so there is none; and rustls may come to have more states.
            Ok(state) => Step::Failed(Error::General(format!("an unexpected state: {state:?}"))),
            Err(error) => Step::Failed(error),
        };
        (discard, step)
    }

    /// Said once: what is said anew is taken for progress.
    fn set_ready(&mut self, flow: &mut Flow<'_>) {
        if !std::mem::replace(&mut self.is_ready, true) {
            flow.set_ready();
        }
    }

    fn set_ended(&mut self, flow: &mut Flow<'_>) {
        if !std::mem::replace(&mut self.has_ended, true) {
            flow.end();
        }
    }
}

/// Puts down what rustls has to say of an error, which is an alert for most of them, and fails.
///
/// It is called with the rest of what was before it, which it may be in the middle of, and not once more than needed: it
/// would look at the same record again, and asserts that it has said no alert before.
fn fail<C: Connection>(connection: &mut C, data: &mut [u8], error: Error, flow: &mut Flow<'_>) {
    while let Ok(ConnectionState::EncodeTlsData(mut message)) = connection.process(data).state {
        if encode(&mut message, flow.down()) {
            break;
        }
    }
    flow.fail(error);
}

/// Puts a message down. Returns whether it is an alert.
fn encode<Data>(message: &mut EncodeTlsData<'_, Data>, down: &mut Bytes) -> bool {
    let mut room = 0;
    loop {
        let space = down.space(room);
        match message.encode(space) {
            Ok(count) => {
                let is_alert = is_alert(&space[..count]);
                down.commit(count);
                return is_alert;
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => room = required_size,
            Err(EncodeError::AlreadyEncoded) => return false,
        }
    }
}

/// With TLS 1.3 a record does not tell what it has, but nothing else is as short.
fn is_alert(record: &[u8]) -> bool {
    matches!(record, [21, ..] | [23, _, _, 0, 19, ..])
}

fn encrypt<Data>(traffic: &mut WriteTraffic<'_, Data>, data: &[u8], down: &mut Bytes) -> Result<(), EncryptError> {
    let mut room = data.len() + (data.len() / RECORD_BYTES_MAX + 1) * OVERHEAD_BYTES_MAX;
    loop {
        match traffic.encrypt(data, down.space(room)) {
            Ok(count) => {
                down.commit(count);
                return Ok(());
            }
            // With records smaller than usual, or with a message of rustls' own before them.
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) if required_size > room => {
                room = required_size;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns where the last whole record ends, if one begins at `start`.
fn whole_records(data: &[u8], start: usize) -> usize {
    let mut end = start;
    while let Some(&[_, _, _, high, low]) = data.get(end..end + HEADER_BYTES) {
        let next = end + HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        if next > data.len() {
            break;
        }
        end = next;
    }
    end
}
