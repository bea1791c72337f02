//! A loop inside a program that has its own main loop: it runs in a thread, and they talk by a `Handle` and a channel.
//!
//! Run `cargo run --example embed_thread`, then `telnet 127.0.0.1 1234` from several windows. What is typed here is sent
//! to every client; what a client sends is printed here, escaped. The end of the input ends the program, as SIGINT does.

mod support;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Failure, say};
use switchboard::{CloseReason, ConnectionId, EventLoop, Handle, Protocol, Transport, escape};

/// What the main loop waits for.
enum Message {
    Typed(String),
    EndOfInput,
    Received(ConnectionId, Vec<u8>),
    /// The loop has ended, or could not begin.
    Ended(Result<(), Failure>),
}

#[derive(Clone)]
struct Client {
    /// Who is there: kept in the loop's thread, read in the main one. An id that is stale by then does no harm.
    clients: Arc<Mutex<BTreeSet<ConnectionId>>>,
    main: SyncSender<Message>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.clients.lock().expect("nobody panics over it").insert(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let id = transport.id();
        if let Err(TrySendError::Full(_)) = self.main.try_send(Message::Received(id, data.to_vec())) {
            // The main loop is slow: this client waits and nobody else does. What it sent is kept and offered again.
            transport.pause_reading();
            transport.context().call_later(Duration::from_millis(10), move |context| {
                context.connection(id).as_mut().map(Transport::resume_reading);
            });
            return 0;
        }
        data.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        self.clients.lock().expect("nobody panics over it").remove(&transport.id());
    }
}

fn run_loop(address: SocketAddr, client: Client, started: SyncSender<Handle>) -> Result<(), Failure> {
    let mut event_loop = EventLoop::new()?;
    support::shut_down_on_signals(&mut event_loop)?;
    let listener = event_loop.context().listen(address, move |_, _| Some(client.clone()));
    support::announce(&mut event_loop, listener.map_err(support::cannot_listen(address))?)?;
    let _ = started.send(event_loop.context().handle());
    Ok(event_loop.run()?)
}

fn main() -> Result<(), Failure> {
    let address = support::listening_address(&[])?;
    let clients = Arc::default();
    let (sender, messages) = sync_channel(64);
    let (started, handle) = sync_channel(1);
    let client = Client { clients: Arc::clone(&clients), main: sender.clone() };
    let typed = sender.clone();
    // Nobody can wait for the terminal and for a channel at once, so a thread feeds the one into the other. It is started
    // first: where the loop's thread cannot be started, this one just ends with the program.
    support::start_thread(move || {
        let lines = io::stdin().lines().map_while(Result::ok).map(Message::Typed);
        lines.chain([Message::EndOfInput]).try_for_each(|message| typed.send(message))
    })?;
    support::start_thread(move || sender.send(Message::Ended(run_loop(address, client, started))))?;
    // Where the loop could not begin there is no handle, and the last message says why.
    let handle = handle.recv().ok();
    for message in messages {
        match (message, &handle) {
            (Message::Typed(line), Some(handle)) => {
                for id in clients.lock().expect("nobody panics over it").iter() {
                    let sent = handle.write(*id, format!("{line}\r\n"));
                    sent.unwrap_or_else(|error| say(format_args!("{id} misses a line: {error}")));
                }
            }
            (Message::EndOfInput, Some(handle)) => {
                handle.post(|context| context.shutdown(Duration::from_secs(5))).unwrap_or_else(|_| handle.stop());
            }
            // This thread may wait for its output, unlike the loop's: clients wait with it then, and no line is lost.
            (Message::Received(id, data), _) => drop(writeln!(io::stdout(), "{id}: {}", escape(&data))),
            (Message::Ended(result), _) => return result,
            (_, None) => {}
        }
    }
    Ok(())
}
