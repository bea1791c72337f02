//! The packets of MQTT 3.1.1: their framing, their fields, and topics with the filters that match them.

use std::rc::Rc;

use switchboard::framing::{Found, Framer, FramingError};

const TOPIC_BYTES_MAX: usize = 256;

/// How a peer broke the protocol.
pub(crate) type Broken = &'static str;

/// Finds packets: a byte, the length of the rest in one to four bytes of seven bits, the rest.
pub(crate) struct Packets;

impl Framer for Packets {
    fn find(&self, data: &[u8], _: usize, bytes_max: usize) -> Found {
        let more = data.iter().skip(1).take(4).take_while(|byte| **byte >= 0x80).count();
        let digits = data.iter().skip(1).take(more + 1).rev();
        // If the length is incomplete, this is the least that it can be.
        let end = 2 + more + digits.fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        if more == 4 || end > bytes_max {
            return Found::Broken(FramingError::LengthOverMax { bytes: end as u64, bytes_max });
        }
        match end <= data.len() {
            true => Found::Frame { start: 0, end, next: end },
            // The rest of the length comes first: it may be too much.
            false => Found::Partial { scanned: 0, needed_bytes: if data.len() < 2 + more { 2 + more } else { end } },
        }
    }
}

/// What follows the length of a packet; its fields are taken from the front.
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// Returns that of a whole packet.
    pub(crate) fn of(packet: &'a [u8]) -> Body<'a> {
        Body(&packet[2 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count()..])
    }

    /// Returns an error if anything is left of it.
    pub(crate) fn end(&self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err("a packet is too long for its fields") }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("a packet is too short for its fields")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u16, Broken> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(crate) fn id(&mut self) -> Result<u16, Broken> {
        Some(self.number()?).filter(|id| *id != 0).ok_or("a packet identifier is 0")
    }

    fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Result<&'a str, Broken> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| "a string is not UTF-8")?;
        Some(text).filter(|text| !text.contains('\0')).ok_or("a string contains U+0000")
    }

    fn filter(&mut self) -> Result<&'a str, Broken> {
        let filter = self.text()?;
        let fixed = if filter == "#" { "" } else { filter.strip_suffix("/#").unwrap_or(filter) };
        let is_right = fixed.split('/').all(|level| level == "+" || !level.contains(['+', '#']));
        let is_filter = is_right && (1..=TOPIC_BYTES_MAX).contains(&filter.len());
        if is_filter { Ok(filter) } else { Err("that is not a topic filter") }
    }

    fn topic(&mut self) -> Result<&'a str, Broken> {
        let is_topic = |topic: &&str| !topic.contains(['+', '#']) && !topic.starts_with('$');
        Some(self.filter()?).filter(is_topic).ok_or("a topic has wildcards, or is the broker's own")
    }
}

/// What a client asks for with its first packet.
pub(crate) struct Connect<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) will: Option<Message>,
}

/// Why that is refused, and the code that tells the client, if there is one.
pub(crate) struct Refused {
    pub(crate) code: Option<u8>,
    pub(crate) why: Broken,
}

impl From<Broken> for Refused {
    fn from(why: Broken) -> Refused {
        Refused { code: None, why }
    }
}

impl<'a> Connect<'a> {
    pub(crate) fn read(head: u8, mut body: Body<'a>) -> Result<Connect<'a>, Refused> {
        match (head, body.text()?, body.byte()?) {
            (0x10, "MQTT", 4) => {}
            (0x10, "MQTT" | "MQIsdp", _) => {
                return Err(Refused { code: Some(1), why: "unsupported version of MQTT" });
            }
            _ => return Err("it does not begin with MQTT's CONNECT".into()),
        }
        let (flags, keep_alive_s, name) = (body.byte()?, body.number()?, body.text()?);
        let (has_will, will_qos, is_clean) = (flags & 0x04 != 0, flags >> 3 & 3, flags & 0x02 != 0);
        let mut will = || Ok::<_, Broken>(Message::new(body.topic()?, body.bytes()?, will_qos, flags & 0x20 != 0));
        let will = if has_will { Some(will()?) } else { None };
        (0..(flags & 0xc0).count_ones()).try_for_each(|_| body.bytes().map(drop))?; // The user and the password.
        // The reserved flag; a will's flags without a will; a QoS of 3; a password without a user.
        let is_wrong = flags & 0x01 != 0 || !has_will && flags & 0x38 != 0 || will_qos == 3 || flags & 0xc0 == 0x40;
        if is_wrong || body.end().is_err() {
            return Err("CONNECT has flags that do not go together, or is too long".into());
        }
        if name.is_empty() && !is_clean {
            return Err(Refused { code: Some(2), why: "a session to be kept has no name" });
        }
        Ok(Connect { name, is_clean, keep_alive_s, will })
    }
}

/// A filter, and the QoS that is asked for.
pub(crate) type Wish<'a> = (&'a str, u8);

/// Reads the identifier of SUBSCRIBE, and what it asks for.
pub(crate) fn wishes(mut body: Body<'_>) -> Result<(u16, Vec<Wish<'_>>), Broken> {
    let (id, mut wishes) = (body.id()?, Vec::new());
    while wishes.is_empty() || body.end().is_err() {
        let (filter, qos) = (body.filter()?, Some(body.byte()?).filter(|qos| *qos <= 2));
        wishes.push((filter, qos.ok_or("SUBSCRIBE asks for an unknown QoS")?));
    }
    Ok((id, wishes))
}

/// Reads the identifier of UNSUBSCRIBE, and its filters.
pub(crate) fn filters(mut body: Body<'_>) -> Result<(u16, Vec<&str>), Broken> {
    let (id, mut filters) = (body.id()?, vec![body.filter()?]);
    while body.end().is_err() {
        filters.push(body.filter()?);
    }
    Ok((id, filters))
}

/// An application's message; its copies share the large parts.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) topic: Rc<str>,
    pub(crate) payload: Rc<[u8]>,
    pub(crate) qos: u8,
    pub(crate) is_retained: bool,
}

impl Message {
    pub(crate) fn new(topic: &str, payload: &[u8], qos: u8, is_retained: bool) -> Message {
        Message { topic: topic.into(), payload: payload.into(), qos, is_retained }
    }

    /// Reads a PUBLISH packet with this first byte: the message, and its identifier with QoS 1.
    pub(crate) fn read(head: u8, mut body: Body<'_>) -> Result<(Message, Option<u16>), Broken> {
        let (topic, qos) = (body.topic()?, head >> 1 & 1); // 0, or 1, or 1 again.
        let id = if qos == 0 { None } else { Some(body.id()?) };
        Ok((Message::new(topic, body.0, qos, head & 1 != 0), id))
    }

    /// Returns its cost, which is never less than the memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        1024 + self.payload.len()
    }

    /// Returns its PUBLISH packet; `id` is used with QoS 1.
    pub(crate) fn packet(&self, id: u16, is_again: bool) -> Vec<u8> {
        let head = 0x30 | u8::from(is_again) << 3 | self.qos << 1 | u8::from(self.is_retained);
        let id = &id.to_be_bytes()[..if self.qos > 0 { 2 } else { 0 }];
        packet(head, &[&(self.topic.len() as u16).to_be_bytes(), self.topic.as_bytes(), id, &self.payload])
    }
}

pub(crate) fn packet(head: u8, parts: &[&[u8]]) -> Vec<u8> {
    let (mut packet, body) = (vec![head], parts.concat());
    let mut length = body.len();
    while length >= 0x80 {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    [packet, body].concat()
}

/// Returns whether a filter matches a topic: `+` any level, `#` any number of levels at the end, neither one that
/// starts with `$`.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut levels) = (filter.split('/'), topic.split('/'));
    while !topic.starts_with('$') || !filter.starts_with(['+', '#']) {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(wanted), Some(level)) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    false
}
