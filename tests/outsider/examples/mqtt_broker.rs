//! An MQTT 3.1.1 broker: QoS 0 and 1, retained messages, wills, wildcards, keep-alive, sessions that outlast connections.
//!
//! `cargo run --package outsider --example mqtt_broker`; `mosquitto_sub -p 1234 -t '#'`; `mosquitto_pub -p 1234 -t a -m b`.
//!
//! Anybody may connect. A subscription at QoS 2 is granted 1; a message at QoS 2 ends its connection, the only refusal
//! that 3.1.1 has. Nothing outlasts the process; a signal ends it without wills, as the standard allows.

#[path = "mqtt_broker/packets.rs"]
pub(crate) mod packets;
mod support;
#[cfg(test)]
#[path = "mqtt_broker/tests.rs"]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use switchboard::framing::{FrameHandler, Framed};
use switchboard::{CloseReason, ConnectionId, Context, Limit, Limits, LoopLimits, Timeout, Transport};

use self::packets::{Body, Broken, Connect, Message, Packets, Refused, filters, matches, packet, wishes};

const CONNECT_BYTES_MAX: usize = 4 << 10;
const PACKET_BYTES_MAX: usize = 256 << 10; // After CONNECT.
const FILTERS_MAX: usize = 100; // For each session.
const SESSIONS_MAX: usize = 2000; // Above it, sessions of absent clients end.
const IN_FLIGHT_MAX: usize = 20; // Unacknowledged messages of a session; others wait.
const QUEUES_BYTES_MAX: usize = 128 << 20; // Unacknowledged; above it the session with the most ends.
const UNSENT_BYTES_MAX: usize = 4 << 20; // Above it QoS 0 is dropped.
const RETAINED_BYTES_MAX: usize = 16 << 20; // Above it nothing more is retained.

/// What a session subscribes to, and the QoS that was granted.
type Filters = BTreeMap<String, u8>;

/// Returns the highest QoS of those filters that match a topic.
fn granted(filters: &Filters, topic: &str) -> Option<u8> {
    filters.iter().filter(|(filter, _)| matches(filter, topic)).map(|(_, qos)| *qos).max()
}

#[derive(Default)]
struct Session {
    connection: Option<ConnectionId>, // None while its client is away.
    is_clean: bool,                   // It ends with its connection.
    filters: Filters,
    queue: VecDeque<(Message, u16, bool)>, // To be delivered at QoS 1, with an identifier, and whether it was sent before.
    queue_bytes: usize,
    in_flight: usize, // How many at the front were sent on this connection.
    last_id: u16,
}

impl Session {
    fn send(&mut self, context: &mut Context<'_>, message: &Message, granted: Option<u8>) {
        let Some(granted) = granted else { return };
        let message = Message { qos: granted.min(message.qos), ..message.clone() };
        let mut transport = self.connection.and_then(|id| context.connection(id));
        if message.qos > 0 {
            self.queue_bytes += message.bytes();
            self.last_id = self.last_id % u16::MAX + 1;
            self.queue.push_back((message, self.last_id, false));
            if let Some(transport) = &mut transport {
                self.send_queued(transport);
            }
        } else if let Some(transport) = transport.filter(|to| to.queued_bytes() <= UNSENT_BYTES_MAX).as_mut() {
            transport.write_owned(message.packet(0, false));
        }
    }

    fn send_queued(&mut self, transport: &mut Transport<'_>) {
        while self.in_flight < self.queue.len().min(IN_FLIGHT_MAX) {
            let (message, id, was_sent) = &mut self.queue[self.in_flight];
            transport.write_owned(message.packet(*id, std::mem::replace(was_sent, true)));
            self.in_flight += 1;
        }
    }

    fn acknowledge(&mut self, transport: &mut Transport<'_>, id: u16) {
        let place = self.queue.iter().take(self.in_flight).position(|queued| queued.1 == id);
        if let Some((message, ..)) = place.and_then(|place| self.queue.remove(place)) {
            self.queue_bytes -= message.bytes();
            self.in_flight -= 1;
            self.send_queued(transport);
        }
    }
}

#[derive(Default)]
pub(crate) struct Broker {
    sessions: BTreeMap<Rc<str>, Session>,
    retained: BTreeMap<Rc<str>, Message>,
}

impl Broker {
    /// Begins a session or resumes one, which is taken over from its connection.
    fn open(&mut self, transport: &mut Transport<'_>, name: Rc<str>, is_clean: bool) {
        let known = self.sessions.remove(&name);
        if let Some(mut other) = known.as_ref().and_then(|session| transport.connection(session.connection?)) {
            other.close();
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.retain(|_, session| session.connection.is_some());
        }
        let kept = known.filter(|session| !session.is_clean && !is_clean);
        transport.write(&[0x20, 2, kept.is_some().into(), 0]);
        let connection = Some(transport.id());
        let mut session = Session { connection, is_clean, in_flight: 0, ..kept.unwrap_or_default() };
        session.send_queued(transport);
        self.sessions.insert(name, session);
    }

    fn subscribe(&mut self, transport: &mut Transport<'_>, name: &str, body: Body<'_>) -> Result<(), Broken> {
        let session = self.sessions.get_mut(name).ok_or("the session has ended")?;
        let ((id, wishes), mut codes, mut filters) = (wishes(body)?, Vec::new(), Filters::new());
        for (filter, qos) in wishes {
            let (filter, qos) = (filter.to_owned(), qos.min(1));
            let has_room = session.filters.len() < FILTERS_MAX || session.filters.contains_key(&filter);
            codes.push(if has_room { qos } else { 0x80 });
            filters.extend(has_room.then(|| (filter.clone(), qos)));
            session.filters.extend(has_room.then_some((filter, qos)));
        }
        transport.write(&packet(0x90, &[&id.to_be_bytes(), &codes]));
        let context = &mut transport.context();
        self.retained.values().for_each(|of| session.send(context, of, granted(&filters, &of.topic)));
        self.end_the_longest(context);
        // That went through all retained messages, and is done once a turn, so that others are served.
        transport.pause_reading();
        transport.set_timer(0, Duration::ZERO);
        Ok(())
    }

    fn publish(&mut self, context: &mut Context<'_>, message: Message) {
        let live = Message { is_retained: false, ..message.clone() };
        self.sessions.values_mut().for_each(|to| to.send(context, &live, granted(&to.filters, &live.topic)));
        if message.is_retained {
            self.retained.remove(&message.topic);
            let bytes = message.bytes() + self.retained.values().map(Message::bytes).sum::<usize>();
            if !message.payload.is_empty() && bytes <= RETAINED_BYTES_MAX {
                self.retained.insert(message.topic.clone(), message);
            }
        }
        self.end_the_longest(context);
    }

    fn end_the_longest(&mut self, context: &mut Context<'_>) {
        while self.sessions.values().map(|session| session.queue_bytes).sum::<usize>() > QUEUES_BYTES_MAX {
            let longest = self.sessions.iter().max_by_key(|of| of.1.queue_bytes).map(|of| of.0.clone());
            let session = longest.and_then(|name| self.sessions.remove(&name));
            if let Some(mut transport) = session.and_then(|session| context.connection(session.connection?)) {
                transport.abort_over_limit(Limit::QueueBytes);
            }
        }
    }
}

pub(crate) struct Client {
    broker: Rc<RefCell<Broker>>, // Which all connections share.
    name: Option<Rc<str>>,       // None before CONNECT.
    will: Option<Message>,
}

impl Client {
    pub(crate) fn protocol(broker: &Rc<RefCell<Broker>>) -> Framed<Packets, Client> {
        Framed::new(Packets, Client { broker: broker.clone(), name: None, will: None })
    }

    fn connect(&mut self, transport: &mut Transport<'_>, head: u8, body: Body<'_>) -> Result<(), Broken> {
        let Connect { name, is_clean, keep_alive_s, will } = match Connect::read(head, body) {
            Ok(connect) => connect,
            Err(Refused { code, why }) => {
                code.into_iter().for_each(|code| transport.write(&[0x20, 2, 0, code]));
                return Err(why);
            }
        };
        let name: Rc<str> = match name {
            "" => format!("\0{}", transport.id()).into(), // No client can choose that.
            name => name.into(),
        };
        transport.set_timeout(Timeout::Handshake, None);
        let silence = Duration::from_millis(1500 * u64::from(keep_alive_s));
        transport.set_timeout(Timeout::ReadIdle, (keep_alive_s > 0).then_some(silence));
        self.broker.borrow_mut().open(transport, name.clone(), is_clean);
        (self.name, self.will) = (Some(name), will);
        Ok(())
    }

    fn serve(&mut self, transport: &mut Transport<'_>, bytes: &[u8]) -> Result<(), Broken> {
        let mut body = Body::of(bytes);
        let Some(name) = &self.name else { return self.connect(transport, bytes[0], body) };
        let mut broker = self.broker.borrow_mut();
        let session = broker.sessions.get_mut(name).ok_or("the session has ended")?;
        match bytes[0] {
            head @ (0x30 | 0x31 | 0x32 | 0x33 | 0x3a | 0x3b) => {
                let (message, id) = Message::read(head, body)?;
                broker.publish(&mut transport.context(), message);
                if let Some(id) = id {
                    transport.write(&packet(0x40, &[&id.to_be_bytes()]));
                }
                return Ok(());
            }
            0x40 => session.acknowledge(transport, body.id()?),
            0x82 => return broker.subscribe(transport, name, body),
            0xa2 => {
                let (id, filters) = filters(body)?;
                session.filters.retain(|filter, _| !filters.contains(&filter.as_str()));
                transport.write(&packet(0xb0, &[&id.to_be_bytes()]));
                return Ok(());
            }
            0xc0 => transport.write(&[0xd0, 0]),
            0xe0 => {
                self.will = None;
                transport.close();
            }
            _ => return Err("the packet is not for a broker, has QoS 2 or reserved flags"),
        }
        body.end()
    }
}

impl FrameHandler for Client {
    fn frame_received(&mut self, transport: &mut Transport<'_>, packet: &[u8]) {
        if let Err(why) = self.serve(transport, packet) {
            transport.close_for(why);
        }
    }

    fn frame_bytes_max(&self, _: usize) -> usize {
        if self.name.is_none() { CONNECT_BYTES_MAX } else { PACKET_BYTES_MAX }
    }

    fn timer(&mut self, transport: &mut Transport<'_>, _: u16) {
        transport.resume_reading();
    }

    fn draining(&mut self, transport: &mut Transport<'_>) {
        self.will = None;
        transport.close();
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        let (Some(name), mut broker) = (&self.name, self.broker.borrow_mut()) else { return };
        // Unless another connection has taken the session over.
        if let Some(session) = broker.sessions.get_mut(name).filter(|of| of.connection == Some(transport.id())) {
            session.connection = None;
            broker.sessions.retain(|_, session| session.connection.is_some() || !session.is_clean);
        }
        if let Some(will) = self.will.take() {
            broker.publish(&mut transport.context(), will);
        }
    }
}

/// Keeps reading from a client that does not read: its acknowledgements make room, and its silence has to be noticed.
pub(crate) fn limits() -> LoopLimits {
    let each = Limits::default().with_connections_max(1000).with_pause_reading_over_high(false);
    LoopLimits::from(each.with_handshake_timeout(Some(Duration::from_secs(10)))).with_loop_queue_bytes_max(64 << 20)
}

fn main() -> ExitCode {
    support::serve(limits(), |context, address| {
        let broker = Rc::new(RefCell::new(Broker::default()));
        broker.borrow_mut().publish(context, Message::new("$SYS/broker/version", b"mqtt_broker", 0, true));
        context.listen(address, move |_, _| Some(Client::protocol(&broker)))
    })
}
