//! Drives rustls' unbuffered connections. Server and client differ in type, not in methods.

use rustls::Error;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use switchboard::filter::{Bytes, Flow};

/// What precedes the payload of a record.
const HEADER_BYTES: usize = 5;
/// The longest payload of a record, and the most that it has in addition to it.
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

/// The phase of a connection.
#[derive(Default)]
pub(crate) struct Records {
    is_ready: bool,
    has_ended: bool,
    /// How many bytes at the front of the next input rustls has processed but still needs: the beginning of a message
    /// that spans several records. It expects them at the same place in every call, and panics if there are fewer.
    needed: usize,
}

/// The outcome of a step.
enum Step<'c, Data> {
    More,
    /// The same, and data was pushed up.
    Delivered,
    /// Nothing more can be done before more input arrives.
    Blocked,
    /// The same, and something can be written.
    Writable(WriteTraffic<'c, Data>),
    Failed(Error),
}

impl Records {
    pub(crate) fn begin<C: Connection>(&mut self, connection: &mut C, flow: &mut Flow<'_>) {
        self.write(connection, flow, |_, _| Ok(()));
    }

    /// Returns how much of the input was taken.
    pub(crate) fn receive<C: Connection>(&mut self, connection: &mut C, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let whole = whole_records(data, self.needed);
        let mut taken = 0;
        loop {
            let (discarded, step) = self.step(connection, &mut data[taken..], flow);
            taken += discarded;
            match step {
                Step::Delivered if taken == data.len() => {
                    // rustls has no other output then: it processes no record before the last one was taken.
                    self.needed = 0;
                    return taken;
                }
                Step::More | Step::Delivered if flow.up_room() > 0 => {}
                Step::More | Step::Delivered => {
                    // A record was delivered, so it is not in the middle of a message.
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

    /// Encrypts all of the data to be sent.
    pub(crate) fn send<C: Connection>(&mut self, connection: &mut C, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.write(connection, flow, |traffic, down| encrypt(traffic, data, down));
        data.len()
    }

    /// Sends `close_notify`.
    pub(crate) fn finish<C: Connection>(&mut self, connection: &mut C, flow: &mut Flow<'_>) {
        self.write(connection, flow, |traffic, down| {
            let count = traffic.queue_close_notify(down.space(ALERT_BYTES_MAX))?;
            down.commit(count);
            Ok(())
        });
    }

    /// Pushes down rustls' own messages, and then what `code` writes, if writing is possible.
    fn write<C: Connection>(
        &mut self,
        connection: &mut C,
        flow: &mut Flow<'_>,
        code: impl FnOnce(&mut WriteTraffic<'_, C::Data>, &mut Bytes) -> Result<(), EncryptError>,
    ) {
        // The loop has the bytes themselves, and they are not looked at: they are the beginning of a message.
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

    /// Lets rustls take one step. Also returns how many bytes it is done with.
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
                // It is already being sent, in this order.
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
            // Early data is not enabled, so there is none; and rustls may add more states.
            Ok(state) => Step::Failed(Error::General(format!("an unexpected state: {state:?}"))),
            Err(error) => Step::Failed(error),
        };
        (discard, step)
    }

    /// Tells the flow once only: telling it again would count as progress.
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

/// Pushes down what rustls sends for an error, which is an alert for most of them, and fails.
///
/// rustls is called with the same remaining input, since it may be in the middle of that, and no more often than
/// needed: it would process the same record again, and asserts that it has not sent an alert before.
fn fail<C: Connection>(connection: &mut C, data: &mut [u8], error: Error, flow: &mut Flow<'_>) {
    while let Ok(ConnectionState::EncodeTlsData(mut message)) = connection.process(data).state {
        if encode(&mut message, flow.down()) {
            break;
        }
    }
    flow.fail(error);
}

/// Pushes a message down. Returns whether it is an alert.
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

/// With TLS 1.3 a record does not tell its content type, but nothing else is as short.
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
            // With records smaller than usual, or after one of rustls' own messages.
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
