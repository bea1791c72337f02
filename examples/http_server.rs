//! A small HTTP/1.1 server that serves one text, at `/`, to any number of clients.
//!
//! Run `cargo run --example http_server`, then `curl -i http://127.0.0.1:1234/`, or open that URL in a browser.
//! `wrk -c 50 http://127.0.0.1:1234/` measures it.
//!
//! Connections are kept alive, and requests may be pipelined: requests that arrive in one read are answered in one
//! write. Request bodies are read and discarded. Heads (16 KiB) and bodies (1 MiB) are bounded, and each must arrive
//! within 10 s. A connection without a request is closed after 60 s, or `--timeout SECONDS`, and so is a silent peer.
//! `--per-peer N` limits the connections of one address. An ambiguous request is refused, and its connection closed.

#[path = "support/bounds.rs"]
pub(crate) mod bounds;
pub(crate) mod http;
pub(crate) mod support;

use std::time::Duration;

use bounds::Bounds;
use http::{Heading, Refused, Request, Responses, SharedResponses, Skipped, Status, Then};
use switchboard::{EventLoop, Limits, Listen, Protocol, Timeout, Transport};

/// How long a head may take from its first byte to its last, and then how long the body may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Room for one read and a head: this much input may be left over if the client does not read responses.
const INPUT_BYTES_MAX: usize = 128 << 10;

pub(crate) struct Client {
    answers: SharedResponses,
    state: State,
    /// Whether the timeout of an incomplete request is running.
    is_timed: bool,
}

enum State {
    /// How far the end of the next head was looked for, and how many bytes of empty lines precede the head.
    Head {
        searched: usize,
        empty: usize,
    },
    /// The body is being skipped; then the response is sent, of which only the head if the last field is true.
    Body(Skipped, Status, Then, bool),
    Refused(Refused),
}

impl Client {
    pub(crate) fn new(answers: SharedResponses) -> Client {
        Client { answers, state: State::Head { searched: 0, empty: 0 }, is_timed: false }
    }

    /// Takes one head, or the part of a body that has arrived. Returns how many bytes that is, or 0 if more must come.
    fn step(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Result<usize, Status> {
        match &mut self.state {
            State::Head { searched, empty } => match Request::parse(data, searched, empty) {
                Heading::Empty(bytes) => Ok(bytes),
                Heading::Partial => Ok(0),
                Heading::Refused(status) => Err(status),
                Heading::Request(request) => Ok(self.take_head(transport, request)),
            },
            State::Body(skipped, status, then, is_head) => {
                let count = skipped.skip(data)?;
                if skipped.is_over() {
                    let (status, then, is_head) = (*status, *then, *is_head);
                    self.state = State::Head { searched: 0, empty: 0 };
                    self.answer(transport, status, then, is_head);
                }
                Ok(count)
            }
            State::Refused(refused) => Ok(refused.discard(transport, data.len())),
        }
    }

    fn take_head(&mut self, transport: &mut Transport<'_>, request: Request) -> usize {
        let then = request.then();
        if request.body.is_over() {
            self.answer(transport, request.status, then, request.is_head);
        } else {
            if request.expects_continue {
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.state = State::Body(Skipped::new(request.body), request.status, then, request.is_head);
        }
        request.bytes
    }

    #[inline(always)]
    fn answer(&mut self, transport: &mut Transport<'_>, status: Status, then: Then, is_head: bool) {
        http::answer(&self.answers, transport, status, then, is_head);
        if then == Then::Closes {
            transport.close();
        }
    }

    /// Refuses a request. Nothing that follows is answered, since it is unknown where the next request would begin.
    fn refuse(&mut self, transport: &mut Transport<'_>, status: Status) {
        http::answer(&self.answers, transport, status, Then::Closes, false);
        (self.state, self.is_timed) = (State::Refused(Refused::begin(transport, status)), true);
    }

    /// Runs the timeout while a request is incomplete.
    fn time(&mut self, transport: &mut Transport<'_>, is_partial: bool) {
        if is_partial != self.is_timed {
            self.is_timed = is_partial;
            transport.set_timeout(Timeout::Handshake, is_partial.then_some(REQUEST_TIMEOUT));
        }
    }
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let mut consumed = 0;
        while consumed < data.len() && transport.is_reading() {
            let begins_anew = matches!(self.state, State::Head { .. });
            match self.step(transport, &data[consumed..]) {
                Ok(0) => break,
                Ok(count) => consumed += count,
                Err(status) => {
                    self.refuse(transport, status);
                    return data.len();
                }
            }
            // The next request has its own timeout.
            if begins_anew {
                self.time(transport, false);
            }
        }
        let is_partial = consumed < data.len() || !matches!(self.state, State::Head { .. });
        let waits = is_partial && transport.is_reading();
        self.time(transport, waits);
        consumed
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        match (timeout, &self.state) {
            (_, State::Refused(refused)) => refused.end(transport),
            (Timeout::Handshake, _) => self.refuse(transport, Status::Timeout),
            _ => transport.close(),
        }
    }
}

/// Large enough for a load generator whose clients all connect at once; the system may allow fewer.
const BACKLOG: u32 = 4096;

pub(crate) fn limits(bounds: &Bounds) -> Limits {
    bounds.limits().with_input_bytes_max(INPUT_BYTES_MAX)
}

fn main() -> Result<(), support::Failure> {
    let mut arguments = std::env::args().skip(1).collect();
    let bounds = Bounds::take_from(&mut arguments, IDLE_TIMEOUT)?;
    let address = support::listening_address_in(arguments, &bounds::FLAGS)?;
    let mut event_loop = EventLoop::with_limits(limits(&bounds))?;
    let answers = Responses::new();
    let listen = Listen::at(address).backlog(BACKLOG);
    let listener = event_loop.context().listen(listen, move |_, _| Some(Client::new(answers.clone())));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::shut_down_on_signals(&mut event_loop)?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
#[path = "http/timeouts.rs"]
mod timeouts;
