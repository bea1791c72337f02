//! Sends a large message although each send is partial: the tutorial's `safeSend`, without its loop and its sleep.
//!
//! Run `nc -l -N 127.0.0.1 1234 | wc -c`, then `cargo run --example send_all 127.0.0.1:1234`.
//!
//! One call writes 16 MiB, of which the system's buffer holds some KiB. The rest is queued in the program, and is sent
//! in order as the server reads. The progress is printed every tenth of a second, to show that nothing else has to
//! wait.

#[path = "support/client.rs"]
mod client;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use client::{Outcome, say};
use switchboard::{CloseReason, ConnectError, EventLoop, Protocol, TimerId, Transport};

const MESSAGE_BYTES: usize = 16 << 20;
/// The size of the system's send buffer: small, so that each send is partial.
#[cfg(unix)]
const SYSTEM_BYTES: usize = 32 << 10;
const PERIOD: Duration = Duration::from_millis(100);

struct Sender {
    progress: Option<TimerId>,
    outcome: Outcome,
}

impl Protocol for Sender {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        #[cfg(unix)]
        if let Some(Err(error)) =
            transport.socket().map(|fd| socket2::SockRef::from(&fd).set_send_buffer_size(SYSTEM_BYTES))
        {
            log::warn!("cannot set the size of the system's buffer: {error}");
        }
        transport.write_owned((0..MESSAGE_BYTES).map(|n| (n % 251) as u8).collect());
        transport.shutdown_write();
        let id = transport.id();
        self.progress = Some(transport.context().call_every(PERIOD, move |context, _| {
            if let Some(transport) = context.connection(id) {
                say(format_args!("{} of {MESSAGE_BYTES} bytes are sent", transport.stats().bytes_sent));
            }
        }));
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.outcome.failed(&error);
    }

    /// The connection is closed gracefully only after everything was sent: any other reason is an error.
    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        match reason {
            CloseReason::PeerClosed => say(format_args!("all {MESSAGE_BYTES} bytes are sent")),
            reason => self.outcome.failed(&reason),
        }
        if let Some(timer) = self.progress.take() {
            transport.context().cancel_timer(timer);
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let server = client::server()?;
    let mut event_loop = EventLoop::new()?;
    let outcome = Outcome::default();
    event_loop.context().connect(server, Sender { progress: None, outcome: outcome.clone() })?;
    event_loop.run_until_idle()?;
    Ok(outcome.code())
}
