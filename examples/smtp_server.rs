//! A mail server: accepts mail for any recipient, and stores it in a folder.
//!
//! Run `cargo run --example smtp_server --features server -- --maildir mail`, then `telnet 127.0.0.1 1234`, and type
//! `EHLO me`, `MAIL FROM:<a@example.org>`, `RCPT TO:<b@example.org>`, `DATA`, a message, a dot on a line of its own,
//! `QUIT`. Each mail becomes a file in `mail/new`; without `--maildir` it is only printed. It relays nothing and has no
//! authentication: it is an example, and helps to test programs that send mail.
//!
//! It runs on one thread; a pool of threads writes the files, since waiting for the disk would block all clients. With
//! `--threads 4` it is the tutorial's threaded mail server: the same session in a blocking handler, four at a time.
//!
//! A peer that is silent for five minutes, or `--timeout SECONDS`, is told so and disconnected; so is one whose message
//! takes more than twice that. `--per-peer N` limits the connections of one address. On Ctrl-C messages in progress are
//! still accepted, and all clients are told of the end. `smtp_server_tls`, in `companions/tls`, adds STARTTLS.

#[path = "support/bounds.rs"]
mod bounds;
pub(crate) mod smtp;
pub(crate) mod support;
#[cfg(all(test, feature = "testing"))]
#[path = "smtp/tests.rs"]
mod tests;

use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bounds::Bounds;
use smtp::{Session, Spool, StartTls, Step, reply};
use support::Failure;
use switchboard::framing::{LineEnding, LineHandler, LineReceiver};
use switchboard::workers::{WorkError, WorkerPool};
use switchboard::{EventLoop, Limits, Listen, Timeout, Transport, WhenFull};

const SILENCE: Duration = Duration::from_secs(300);

/// The timer for receiving a message.
const MESSAGE: u16 = 0;

pub(crate) struct Client {
    session: Session,
    shared: Rc<Shared>,
}

/// The state that all clients share.
pub(crate) struct Shared {
    pub(crate) spool: Arc<Spool>,
    pub(crate) writers: WorkerPool,
    pub(crate) timeout: Duration,
    /// If `None`, STARTTLS is not offered.
    pub(crate) starttls: Option<StartTls>,
}

impl Client {
    pub(crate) fn protocol(shared: &Rc<Shared>) -> LineReceiver<Client> {
        let client = Client { session: Session::new(shared.starttls.is_some()), shared: shared.clone() };
        LineReceiver::new(client).line_ending(LineEnding::CrLf)
    }

    fn follow(&mut self, transport: &mut Transport<'_>, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Reply(text) => self.reply(transport, &text),
            Step::Close(text) => {
                transport.write(&reply(text));
                transport.close();
            }
            Step::Store(message) => {
                // Commands that follow, such as QUIT, must wait for the reply.
                transport.pause_reading();
                transport.cancel_timer(MESSAGE);
                let spool = self.shared.spool.clone();
                let store = move || spool.store(&message);
                self.shared.writers.submit_for(transport, Some(smtp::STORING), store, Client::stored);
            }
            Step::StartTls => {
                let Some(make) = &self.shared.starttls else { return };
                transport.write(&reply(smtp::GO_AHEAD));
                // If there is input behind the command, the loop ends the connection.
                transport.set_filter(make());
                self.session = self.session.secured();
            }
        }
    }

    fn stored(&mut self, transport: &mut Transport<'_>, result: Result<io::Result<()>, WorkError>) {
        transport.resume_reading();
        self.reply(transport, if let Ok(Ok(())) = result { smtp::STORED } else { smtp::NOT_STORED });
    }

    fn reply(&mut self, transport: &mut Transport<'_>, text: &str) {
        transport.write(&reply(text));
        if self.session.is_in_message() {
            return transport.set_timer(MESSAGE, 2 * self.shared.timeout);
        }
        transport.cancel_timer(MESSAGE);
        if transport.context().is_draining() {
            self.follow(transport, Step::Close(smtp::CLOSING));
        }
    }
}

impl LineHandler for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.write(&reply(smtp::GREETING));
    }

    fn line_bytes_max(&self, _: usize) -> usize {
        self.session.line_bytes_max()
    }

    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        let step = self.session.line(line);
        self.follow(transport, step);
    }

    fn line_too_long(&mut self, transport: &mut Transport<'_>) {
        let step = self.session.line_too_long();
        self.follow(transport, step);
    }

    fn timer(&mut self, transport: &mut Transport<'_>, _: u16) {
        self.follow(transport, Step::Close(smtp::TOO_SLOW));
    }

    fn timed_out(&mut self, transport: &mut Transport<'_>, _: Timeout) {
        self.follow(transport, Step::Close(smtp::TOO_SLOW));
    }

    fn draining(&mut self, transport: &mut Transport<'_>) {
        if !self.session.is_in_message() && transport.is_reading() {
            self.follow(transport, Step::Close(smtp::CLOSING));
        }
    }
}

fn main() -> Result<(), Failure> {
    serve(EventLoop::new()?, std::env::args().skip(1).collect(), None)
}

/// Runs the server that the arguments describe.
pub(crate) fn serve(
    mut event_loop: EventLoop,
    mut arguments: Vec<String>,
    starttls: Option<StartTls>,
) -> Result<(), Failure> {
    let bounds = Bounds::take_from(&mut arguments, SILENCE)?;
    let threads: Option<usize> = bounds::take_number(&mut arguments, "--threads")?;
    let maildir = smtp::take_maildir(&mut arguments);
    let address = support::listening_address_in(arguments, &smtp::FLAGS)?;
    let spool = Arc::new(Spool::new(maildir)?);
    if let Some(threads) = threads.and_then(NonZeroUsize::new) {
        return smtp::serve_by_threads(address, threads, spool, bounds.timeout);
    }
    let writers = WorkerPool::new(NonZeroUsize::new(4).expect("it is not 0"), smtp::CONNECTIONS_MAX);
    let limits = Limits::default()
        .with_read_idle_timeout(Some(bounds.timeout))
        .with_connections_max(smtp::CONNECTIONS_MAX)
        .with_connections_per_peer_max(bounds.per_peer_max)
        .with_when_full(WhenFull::Refuse);
    let shared = Rc::new(Shared { spool, writers, timeout: bounds.timeout, starttls });
    let listen = Listen::at(address).limits(limits).refusal(smtp::TOO_MANY);
    let listener = event_loop.context().listen(listen, move |_, _| Some(Client::protocol(&shared)));
    let listener = listener.map_err(support::cannot_listen(address))?;
    support::on_signals(&mut event_loop.context(), |context, _| context.drain(smtp::GRACE))?;
    support::announce(&mut event_loop, listener)?;
    event_loop.run()?;
    Ok(())
}
