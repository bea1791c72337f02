//! Datagram sockets in the loops: each datagram can be told apart from all others, and arrives no more often than the
//! network delivers it.

use std::net::SocketAddr;
use std::panic::resume_unwind;

use super::actions::act_around;
use super::ledger::{Ledger, PANIC, with};
use crate::datagram::DatagramSocket;
use crate::ids::Id;
use crate::sys::is_out_of_buffers;
use crate::testing::{HostId, Network};
use crate::{Address, CloseReason, Context, DatagramError, DatagramId, DatagramProtocol, DatagramTransport};

/// A datagram socket of a loop.
pub(super) struct Bound {
    host: usize,
    at: SocketAddr,
    id: Option<DatagramId>,
    life: Life,
    /// It was closed or aborted, or will be by the next panic: nothing may be delivered.
    closing: bool,
    aborted: bool,
    panicked: bool,
    connected: bool,
    /// `pause_writing` was the last of the two mark callbacks.
    over: bool,
    bytes_max: usize,
    /// How many datagrams were given to it while it was open, and how many of them it has reported as not sent.
    given: u64,
    unsent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    New,
    Made,
    Lost,
}

/// A datagram that was sent: from which socket, where to, and how long it is.
pub(super) struct Sent {
    from: SocketAddr,
    to: SocketAddr,
    count: usize,
    /// How often it was received.
    received: u32,
}

/// The most sockets that a host has in its life.
const SOCKETS_MAX: usize = 4;

/// Each datagram begins with its number, except empty ones.
const NUMBER_BYTES: usize = 8;

fn content(number: usize, count: usize) -> Vec<u8> {
    let pattern = (NUMBER_BYTES..count).map(|at| (number + at) as u8);
    let begin = (number as u64).to_le_bytes().into_iter().take(count);
    begin.chain(pattern).collect()
}

struct Program(usize);

/// Does something to a datagram socket of a host, or binds another one.
pub(super) fn act(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let own: Vec<_> = (0..ledger.bound.len()).filter(|&index| ledger.bound[index].host == host).collect();
    if own.len() < SOCKETS_MAX && !ledger.ending[host] && (own.is_empty() || ledger.random.hits(300)) {
        return bind(ledger, context, host);
    }
    if own.is_empty() {
        return;
    }
    let index = own[ledger.random.below(own.len() as u64) as usize];
    let Some(mut transport) = ledger.bound[index].id.and_then(|id| context.datagram(id)) else { return };
    act_on(ledger, &mut transport, index);
}

fn bind(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    ledger.coverage.hit("bind_datagram");
    let ip = [10, 0, 0, host as u8 + 1];
    let address = SocketAddr::from((if ledger.random.hits(500) { ip } else { [0; 4] }, 0));
    let index = ledger.bound.len();
    ledger.protocols += 1;
    let id = match context.bind_datagram(address, Program(index)) {
        Ok(id) => id,
        Err(error) => return ledger.violated(format!("cannot bind: {error}")),
    };
    let at = context.datagram(id).and_then(|transport| transport.local_addr().ok()?.as_inet());
    let Some(port) = at.map(|at| at.port()) else { return ledger.violated("a bound socket has no address") };
    ledger.bound.push(Bound {
        host,
        at: (ip, port).into(),
        id: Some(id),
        life: Life::New,
        closing: false,
        aborted: false,
        panicked: false,
        connected: false,
        over: false,
        bytes_max: ledger.limits.each.datagram_bytes_max,
        given: 0,
        unsent: 0,
    });
}

fn act_on(ledger: &mut Ledger, transport: &mut DatagramTransport<'_>, index: usize) {
    match ledger.random.below(20) {
        0..=9 => send(ledger, transport, index, 1),
        10 => {
            ledger.coverage.hit("datagrams in a burst");
            let count = ledger.random.between(2, 12);
            send(ledger, transport, index, count);
        }
        11 => {
            ledger.coverage.hit("datagram socket connects");
            let to = destination(ledger);
            ledger.bound[index].connected = true;
            // A socket that has ended reports an error.
            let _ = transport.connect(to);
        }
        12 => {
            let bytes = ledger.random.below(2000) as usize;
            ledger.bound[index].bytes_max = bytes;
            transport.set_datagram_bytes_max(bytes);
        }
        13 => transport.set_write_marks(ledger.random.below(3000) as usize, ledger.random.below(3000) as usize),
        14 => {
            ledger.coverage.hit("datagram socket closes");
            ledger.bound[index].closing = true;
            transport.close();
        }
        15 if ledger.random.hits(300) => {
            ledger.bound[index].closing = true;
            ledger.bound[index].aborted = true;
            transport.abort();
        }
        _ => {
            let host = ledger.bound[index].host;
            act_around(ledger, &mut transport.context(), host);
        }
    }
}

/// The address of a socket that exists or existed, or one where there is none.
fn destination(ledger: &mut Ledger) -> SocketAddr {
    let some = ledger.random.below(ledger.bound.len() as u64) as usize;
    let at = ledger.bound[some].at;
    if ledger.random.hits(150) { SocketAddr::new(at.ip(), 9) } else { at }
}

fn send(ledger: &mut Ledger, transport: &mut DatagramTransport<'_>, index: usize, datagrams: u64) {
    let large = datagrams > 1 && ledger.random.hits(500);
    for _ in 0..datagrams {
        let to = destination(ledger);
        let count = match ledger.random.below(20) {
            // Several of these are more than the kernel takes at once.
            _ if large => ledger.random.between(40_000, 65_507),
            0 => 0,
            1..=14 => ledger.random.between(8, 200),
            15..=17 => ledger.random.between(200, 3000),
            _ => ledger.random.between(3000, 20_000),
        } as usize;
        let number = ledger.sent.len();
        let from = ledger.bound[index].at;
        ledger.sent.push(Sent { from, to, count, received: 0 });
        ledger.write_max = ledger.write_max.max(count);
        ledger.coverage.hit("datagram sent");
        let bound = &mut ledger.bound[index];
        bound.given += u64::from(!bound.closing);
        transport.send_to(&content(number, count), &to.into());
    }
}

impl Ledger {
    /// A callback of a datagram socket is called.
    fn enters_bound(&mut self, index: usize, what: &'static str) {
        self.coverage.hit(what);
        let Bound { life, closing, .. } = self.bound[index];
        self.check(life == Life::Made, || format!("{what} of a socket that is {life:?}"));
        self.check(!closing, || format!("{what} after close"));
    }

    fn datagram_comes(&mut self, index: usize, data: &[u8], from: &Address, truncated: bool) {
        let Bound { at, bytes_max, .. } = self.bound[index];
        let number = data.first_chunk().map(|number| u64::from_le_bytes(*number) as usize);
        let Some(number) = number else {
            let cut_off = truncated && data.len() == bytes_max;
            return self.check(data.is_empty() || cut_off, || format!("a datagram of {} bytes", data.len()));
        };
        let copies = self.copies_max;
        let Some(sent) = self.sent.get_mut(number) else { return self.violated("a datagram that nobody has sent") };
        sent.received += 1;
        let (received, count) = (sent.received, sent.count);
        let meant = sent.to == at && Some(sent.from) == from.as_inet();
        let whole = if truncated { count > bytes_max && data.len() == bytes_max } else { count == data.len() };
        let same = content(number, data.len()) == data;
        self.check(meant, || format!("{at} receives a datagram that was sent to another, or by another than {from}"));
        self.check(whole && same, || format!("{} of {count} bytes, truncated: {truncated}", data.len()));
        self.check(received <= copies, || format!("a datagram is received {received} times"));
        if received > 1 {
            self.coverage.hit("datagram doubled");
        }
    }

    /// All loops shut down, so their sockets close.
    pub(super) fn close_bound(&mut self) {
        self.bound.iter_mut().for_each(|bound| bound.closing = true);
    }

    pub(super) fn has_bound_left(&self) -> bool {
        self.bound.iter().any(|bound| bound.life == Life::Made)
    }
}

impl Program {
    fn act(&self, ledger: &mut Ledger, transport: &mut DatagramTransport<'_>) {
        for _ in 0..ledger.random.below(3) {
            if ledger.actions == 0 {
                return;
            }
            ledger.actions -= 1;
            if ledger.random.hits(5) {
                ledger.coverage.hit("panic of a datagram socket");
                let bound = &mut ledger.bound[self.0];
                (bound.closing, bound.panicked) = (true, true);
                ledger.panics[ledger.bound[self.0].host] += 1;
                resume_unwind(Box::new(PANIC));
            }
            act_on(ledger, transport, self.0);
        }
    }

    fn mark(&self, transport: &mut DatagramTransport<'_>, high: bool) {
        with(|ledger| {
            ledger.enters_bound(self.0, if high { "datagram pause" } else { "datagram resume" });
            let before = std::mem::replace(&mut ledger.bound[self.0].over, high);
            ledger.check(before != high, || format!("twice the same mark of a datagram socket, high: {high}"));
            self.act(ledger, transport);
        });
    }
}

impl DatagramProtocol for Program {
    fn connection_made(&mut self, transport: &mut DatagramTransport<'_>) {
        with(|ledger| {
            let life = std::mem::replace(&mut ledger.bound[self.0].life, Life::Made);
            ledger.check(life == Life::New, || format!("a socket is made that is {life:?}"));
            self.act(ledger, transport);
        });
    }

    fn datagram_received(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        with(|ledger| {
            ledger.enters_bound(self.0, if data.is_empty() { "datagram empty" } else { "datagram received" });
            ledger.datagram_comes(self.0, data, from, false);
            self.act(ledger, transport);
        });
    }

    fn datagram_truncated(&mut self, transport: &mut DatagramTransport<'_>, data: &[u8], from: &Address) {
        with(|ledger| {
            ledger.enters_bound(self.0, "datagram truncated");
            ledger.datagram_comes(self.0, data, from, true);
            self.act(ledger, transport);
        });
    }

    fn error_received(&mut self, transport: &mut DatagramTransport<'_>, error: &DatagramError) {
        with(|ledger| {
            let bound = &mut ledger.bound[self.0];
            let (what, fits) = match error {
                DatagramError::Send { .. } => ("datagram not sent", true),
                DatagramError::Socket(error) if is_out_of_buffers(error) => ("receive fails", true),
                DatagramError::Socket(_) => ("datagram refused", bound.connected),
                DatagramError::Dropped(count) => ("datagrams dropped", *count > 0),
            };
            bound.unsent += match &error {
                DatagramError::Send { .. } => 1,
                DatagramError::Dropped(count) => *count,
                DatagramError::Socket(_) => 0,
            };
            if ledger.bound[self.0].closing {
                // Lost datagrams are reported before the end, and nothing else is after close.
                ledger.coverage.hit("datagrams lost at an end");
                let ended = transport.local_addr().is_err();
                return ledger.check(ended, || format!("an error after close: {error}"));
            }
            ledger.enters_bound(self.0, what);
            ledger.check(fits, || format!("an error that cannot be: {error}"));
            self.act(ledger, transport);
        });
    }

    fn pause_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        self.mark(transport, true);
    }

    fn resume_writing(&mut self, transport: &mut DatagramTransport<'_>) {
        self.mark(transport, false);
    }

    fn connection_lost(&mut self, transport: &mut DatagramTransport<'_>, reason: CloseReason) {
        with(|ledger| {
            ledger.coverage.hit("datagram socket lost");
            let bound = &mut ledger.bound[self.0];
            let life = std::mem::replace(&mut bound.life, Life::Lost);
            let fits = match &reason {
                CloseReason::Closed | CloseReason::Timeout(_) => bound.closing,
                CloseReason::Aborted => bound.aborted,
                CloseReason::Panic(_) => bound.panicked,
                CloseReason::Shutdown => ledger.ending[bound.host],
                _ => false,
            };
            bound.closing = true;
            ledger.check(life == Life::Made, || format!("a socket is lost that is {life:?}"));
            ledger.check(fits, || format!("a datagram socket is lost for a reason that nobody gave: {reason}"));
            self.act(ledger, transport);
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            with(|ledger| ledger.protocols -= 1);
        }
    }
}

/// Closes or aborts all sockets of a host.
pub(super) fn end_all(ledger: &mut Ledger, context: &mut Context<'_>, host: usize, aborts: bool) {
    for bound in ledger.bound.iter_mut().filter(|bound| bound.host == host) {
        let Some(mut transport) = bound.id.and_then(|id| context.datagram(id)) else { continue };
        bound.closing = true;
        bound.aborted |= aborts;
        if aborts { transport.abort() } else { transport.close() }
    }
}

/// Checks that each datagram given to a socket has gone to the kernel, or was reported as unsent (U1).
pub(super) fn at_the_end(ledger: &mut Ledger, network: &Network, hosts: &[HostId]) {
    for index in 0..ledger.bound.len() {
        let Bound { host, at, life, given, unsent, .. } = ledger.bound[index];
        let taken = network.datagrams_taken(hosts[host], at.port());
        let accounted = life != Life::Lost || given == taken + unsent;
        ledger.check(accounted, || {
            format!("{given} datagrams were given to {at}, {taken} sent, {unsent} told as unsent")
        });
    }
}

/// Checks at rest that nothing waits to be sent, and nothing to be received.
pub(super) fn at_rest(ledger: &mut Ledger, id: Id, datagram: &DatagramSocket, unread: usize) {
    let (open, queued) = (datagram.is_open(), datagram.queued_cost());
    let receives = open && !datagram.backs_off();
    ledger.check(unread == 0 || !receives, || format!("{unread} datagrams are to be received by {id}"));
    let waits = datagram.sends_later;
    ledger
        .check(queued == 0 || waits, || format!("{queued} bytes of datagrams wait at {id}, and nothing holds them up"));
    ledger.check(open || queued > 0, || format!("{id} is closing, with nothing left to send"));
}
