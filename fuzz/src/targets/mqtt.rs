//! Packets of MQTT: cut anywhere, encoded again, read a second time; and whole sessions of the broker.

use switchboard::framing::Framer;
use switchboard::testing::Harness;

use super::frames;
use crate::input::{Input, is_one_in_a_thousand, pieces};
use crate::mqtt_broker::packets::{Body, Connect, Message, Packets, Refused, filters, matches, packet, wishes};
use crate::mqtt_broker::{Client, limits};

pub const WORDS: &[&[u8]] = &[
    b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a",
    b"\x10\x17\0\x04MQTT\x04\x26\0\x0a\0\x01b\0\x03a/w\0\x02hi",
    b"\x30\x07\0\x03a/bhi",
    b"\x32\x09\0\x03a/b\0\x07hi",
    b"\x82\x08\0\x01\0\x03a/#\x01",
    b"\xa2\x07\0\x02\0\x03a/+",
    b"\x40\x02\0\x01",
    b"\xc0\0",
    b"\xe0\0",
    b"\x80\x80\x80\x01",
    b"\xff\xff\xff\x7f",
    b"/",
    b"+",
    b"#",
    b"$SYS/",
    b"\0\x04MQTT\x05",
    b"\0\x06MQIsdp\x03",
];

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let data = input.rest();
    let packets = frames::check(&Packets, data, seed, next);
    let (mut topics, mut wanted) = (Vec::new(), Vec::new());
    for packet in &packets {
        let mut head = Fields { rest: &packet[length_bytes(packet) + 1..] };
        match packet[0] {
            0x10 => connect(packet, head),
            0x30..=0x3f => topics.extend(publish(packet, head)),
            0x82 => {
                let second = head.wishes();
                assert_eq!(wishes(Body::of(packet)).ok(), second);
                wanted.extend(second.into_iter().flat_map(|(_, wishes)| wishes).map(|(filter, _)| filter));
            }
            0xa2 => {
                let second = head.filters();
                assert_eq!(filters(Body::of(packet)).ok(), second);
                wanted.extend(second.into_iter().flat_map(|(_, filters)| filters));
            }
            _ => {}
        }
    }
    for filter in wanted.iter().take(8) {
        for topic in topics.iter().take(8) {
            let levels: Vec<&str> = topic.split('/').collect();
            let is_wild_at_the_systems = topic.starts_with('$') && filter.starts_with(['+', '#']);
            let second = !is_wild_at_the_systems && fits(&filter.split('/').collect::<Vec<_>>(), &levels);
            assert_eq!(matches(filter, topic), second, "{filter:?} {topic:?}");
        }
    }
    if is_one_in_a_thousand(data) {
        let whole = session(std::iter::once(data));
        assert_eq!(session(pieces(data, seed)), whole, "a session, cut by {seed}, and whole");
    }
}

/// What the broker's answers are, and whether it has ended the connection.
fn session<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut client = Harness::with_limits(Client::protocol(&Default::default()), limits());
    pieces.for_each(|piece| client.feed(piece));
    // Pieces that come too late are answered with a reset.
    (client.take_written(), client.saw_end() || client.saw_reset())
}

/// How many bytes the length of a packet takes.
fn length_bytes(packet: &[u8]) -> usize {
    1 + packet[1..].iter().position(|byte| *byte < 0x80).expect("a packet is complete")
}

/// Returns the packet that `data` begins with: 2.2.3 of the standard.
fn next(data: &[u8]) -> frames::Next {
    let (mut multiplier, mut length, mut at) = (1, 0, 1);
    loop {
        let byte = data.get(at).copied();
        length += usize::from(byte.unwrap_or_default() & 0x7f) * multiplier;
        multiplier *= 128;
        at += 1;
        if byte.is_some_and(|byte| byte >= 0x80) && at == 5 || at + length > Packets.frame_bytes_max() {
            return Some(Err(()));
        }
        match byte {
            None => return None,
            Some(0x80..) => {}
            Some(_) => return Some(Ok((data.get(..at + length)?.to_vec(), at + length))),
        }
    }
}

fn publish<'a>(packet: &'a [u8], mut second: Fields<'a>) -> Option<&'a str> {
    let head = packet[0];
    if head & 0x04 != 0 {
        return None; // The broker has no QoS 2.
    }
    let found = Message::read(head, Body::of(packet));
    let topic = second.topic();
    let id = if head & 0x02 == 0 { Some(None) } else { second.id().map(Some) };
    let (Some(topic), Some(id)) = (topic, id) else {
        assert!(found.is_err(), "{:?} is wrong", packet.escape_ascii().to_string());
        return None;
    };
    let (message, found_id) = found.expect("a packet that is right is read");
    assert_eq!((&*message.topic, &*message.payload, found_id), (topic, second.rest, id));
    assert_eq!((message.qos, message.is_retained), (head >> 1 & 1, head & 1 == 1));
    // Encoded, it is the same, with the shortest length.
    let encoded = message.packet(id.unwrap_or_default(), head & 0x08 != 0);
    assert_eq!(encoded, shortest(packet), "encoded again");
    Some(topic)
}

/// Returns a packet with its length in as few bytes as possible.
fn shortest(whole: &[u8]) -> Vec<u8> {
    let body = &whole[1 + length_bytes(whole)..];
    let mut length = Vec::new();
    for place in 0..4 {
        let rest = body.len() >> (7 * place);
        if place > 0 && rest == 0 {
            break;
        }
        let more = if rest >= 128 { 0x80 } else { 0 };
        length.push((rest % 128) as u8 + more);
    }
    let second = [&whole[..1], &length[..], body].concat();
    assert_eq!(packet(whole[0], &[body]), second, "a length in as few bytes as possible");
    second
}

fn connect(packet: &[u8], mut second: Fields<'_>) {
    let found = Connect::read(packet[0], Body::of(packet));
    let expected = second.connect();
    match (found, expected) {
        (Ok(found), Some(Ok(expected))) => {
            let will = found.will.as_ref().map(|will| (&*will.topic, &*will.payload, will.qos, will.is_retained));
            assert_eq!((found.name, found.is_clean, found.keep_alive_s, will), expected);
        }
        (Err(Refused { code: Some(code), .. }), Some(Err(expected))) => assert_eq!(code, expected),
        (Err(Refused { code: None, .. }), None) => {}
        (found, expected) => {
            panic!("{:?} and {expected:?}", found.map_err(|refused| refused.why).map(|found| found.name))
        }
    }
}

/// What a client asks for: its name, whether the session is clean, the keep-alive, and its will.
type Asked<'a> = (&'a str, bool, u16, Will<'a>);

/// A will: its topic, its payload, its QoS, and whether it is retained.
type Will<'a> = Option<(&'a str, &'a [u8], u8, bool)>;

/// Fields by their places in a packet.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) * 256 + u16::from(self.byte()?))
    }

    fn id(&mut self) -> Option<u16> {
        self.number().filter(|id| *id > 0)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number()?);
        let bytes = self.rest.get(..length)?;
        self.rest = &self.rest[length..];
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok().filter(|text| text.bytes().all(|byte| byte != 0))
    }

    /// 4.7.1: `#` is a level by itself and the last one, `+` is a level by itself.
    fn filter(&mut self) -> Option<&'a str> {
        let filter = self.text().filter(|text| (1..=256).contains(&text.len()))?;
        let levels: Vec<&str> = filter.split('/').collect();
        let is_right = levels.iter().enumerate().all(|(place, level)| match *level {
            "+" => true,
            "#" => place + 1 == levels.len(),
            level => level.bytes().all(|byte| byte != b'+' && byte != b'#'),
        });
        is_right.then_some(filter)
    }

    fn topic(&mut self) -> Option<&'a str> {
        self.filter().filter(|topic| topic.bytes().all(|byte| byte != b'+' && byte != b'#') && !topic.starts_with('$'))
    }

    fn wishes(&mut self) -> Option<(u16, Vec<(&'a str, u8)>)> {
        let id = self.id()?;
        let mut wishes = vec![(self.filter()?, self.byte().filter(|qos| *qos < 3)?)];
        while !self.rest.is_empty() {
            wishes.push((self.filter()?, self.byte().filter(|qos| *qos < 3)?));
        }
        Some((id, wishes))
    }

    fn filters(&mut self) -> Option<(u16, Vec<&'a str>)> {
        let id = self.id()?;
        let mut filters = vec![self.filter()?];
        while !self.rest.is_empty() {
            filters.push(self.filter()?);
        }
        Some((id, filters))
    }

    /// 3.1; the code of a refusal that has one.
    fn connect(&mut self) -> Option<Result<Asked<'a>, u8>> {
        let (protocol, version) = (self.text()?, self.byte()?);
        if (protocol, version) != ("MQTT", 4) {
            return (protocol == "MQTT" || protocol == "MQIsdp").then_some(Err(1));
        }
        let flags = self.byte()?;
        let flag = |place: u8| flags >> place & 1 == 1;
        let (user, password, retained, qos, will, clean) =
            (flag(7), flag(6), flag(5), flags >> 3 & 3, flag(2), flag(1));
        let (keep_alive, name) = (self.number()?, self.text()?);
        let will_told = if will { Some((self.topic()?, self.bytes()?, qos, retained)) } else { None };
        if user {
            self.bytes()?;
        }
        if password {
            self.bytes()?;
        }
        let is_right = !flag(0) && qos < 3 && (will || !retained && qos == 0) && (user || !password);
        if !is_right || !self.rest.is_empty() {
            return None;
        }
        Some(if name.is_empty() && !clean { Err(2) } else { Ok((name, clean, keep_alive, will_told)) })
    }
}

/// Returns whether the levels of a filter fit those of a topic: 4.7.1.
fn fits(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([wanted, filter @ ..], [level, topic @ ..]) => (*wanted == "+" || wanted == level) && fits(filter, topic),
        _ => false,
    }
}
