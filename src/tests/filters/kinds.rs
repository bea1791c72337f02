//! Filters for tests.

use std::io::Write as _;

use crate::filter::{Filter, Flow};

/// Changes every byte, at most `step` of them at a time.
pub(crate) struct Masked {
    pub(crate) key: u8,
    pub(crate) step: usize,
}

impl Filter for Masked {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(self.step).min(flow.up_room());
        data[..count].iter_mut().for_each(|byte| *byte ^= self.key);
        flow.up().push(&data[..count]);
        count
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let count = data.len().min(self.step);
        let space = flow.down().space(count);
        space.iter_mut().zip(data).for_each(|(to, from)| *to = from ^ self.key);
        flow.down().commit(count);
        count
    }
}

/// What TLS does, but without secrets: a handshake of both sides, records, an end that must be announced, and alerts.
///
/// The client begins with `H` and a key, and the server answers with `S` and a key; `R`, a length of two bytes and the
/// masked bytes are a record, `E` is the end, `A` an alert.
pub(crate) struct Sealed {
    is_client: bool,
    own_key: u8,
    key: Option<u8>,
    record: usize,
}

impl Sealed {
    pub(crate) fn client(own_key: u8, record: usize) -> Sealed {
        Sealed { is_client: true, own_key, key: None, record }
    }

    pub(crate) fn server(own_key: u8, record: usize) -> Sealed {
        Sealed { is_client: false, own_key, key: None, record }
    }

    fn shake(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let expected = if self.is_client { b'S' } else { b'H' };
        match *data {
            [first, ..] if first != expected => self.refuse(flow, data.len()),
            [_, key, ..] => {
                self.key = Some(key ^ self.own_key);
                if !self.is_client {
                    flow.down().push(&[b'S', self.own_key]);
                }
                flow.set_ready();
                2
            }
            _ => 0,
        }
    }

    fn refuse(&mut self, flow: &mut Flow<'_>, length: usize) -> usize {
        flow.down().push(b"A");
        flow.fail("a broken record");
        length
    }
}

impl Filter for Sealed {
    fn begin(&mut self, flow: &mut Flow<'_>) {
        if self.is_client {
            flow.down().push(&[b'H', self.own_key]);
        }
    }

    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let Some(key) = self.key else { return self.shake(data, flow) };
        match *data {
            [b'R', high, low, ..] => {
                let end = 3 + usize::from(u16::from_be_bytes([high, low]));
                let Some(payload) = data.get_mut(3..end) else { return 0 };
                payload.iter_mut().for_each(|byte| *byte ^= key);
                flow.up().push(payload);
                end
            }
            [b'R', ..] | [] => 0,
            [b'E', ..] => {
                flow.end();
                1
            }
            [b'A', ..] => {
                flow.fail("an alert");
                1
            }
            _ => self.refuse(flow, data.len()),
        }
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        let payload = &data[..data.len().min(self.record)];
        let key = self.key.expect("it is ready");
        let masked: Vec<u8> = payload.iter().map(|byte| byte ^ key).collect();
        let _ = flow.down().write_all(&[&b"R"[..], &(payload.len() as u16).to_be_bytes(), &masked].concat());
        payload.len()
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        flow.down().push(b"E");
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        flow.fail("no end was said");
    }
}

/// Takes all available records in one call, as TLS does.
pub(crate) struct Eager(pub(crate) Sealed);

impl Filter for Eager {
    fn receive(&mut self, data: &mut [u8], flow: &mut Flow<'_>) -> usize {
        let mut taken = 0;
        loop {
            match self.0.receive(&mut data[taken..], flow) {
                0 => return taken,
                count => taken += count,
            }
        }
    }

    fn begin(&mut self, flow: &mut Flow<'_>) {
        self.0.begin(flow);
    }

    fn send(&mut self, data: &[u8], flow: &mut Flow<'_>) -> usize {
        self.0.send(data, flow)
    }

    fn finish(&mut self, flow: &mut Flow<'_>) {
        self.0.finish(flow);
    }

    fn receive_end(&mut self, flow: &mut Flow<'_>) {
        self.0.receive_end(flow);
    }
}
