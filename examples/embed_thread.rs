//! A loop inside a program that has its own main loop: the event loop runs in a thread, and the two communicate through
//! a `Handle` and a channel.
//!
//! Run `cargo run --example embed_thread`, then `telnet 127.0.0.1 1234` from several windows. What you type here is
//! sent to every client, and what a client sends is printed here, escaped. The end of the input ends the program, as
//! SIGINT does.

mod support;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Failure, say};
use switchboard::{CloseReason, ConnectionId, EventLoop, Handle, Protocol, Transport, escape};

/// The messages that the main loop waits for.
enum Message {
    Typed(String),
    EndOfInput,
    Received(ConnectionId, Vec<u8>),
    /// The loop has ended, or could not start.
    Ended(Result<(), Failure>),
}

#[derive(Clone)]
struct Client {
    /// The connected clients, maintained by the loop's thread and read by the main one. An id that is stale by then
    /// does no harm.
    clients: Arc<Mutex<BTreeSet<ConnectionId>>>,
    main: SyncSender<Message>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.clients.lock().expect("no thread panics while it holds the lock").insert(transport.id());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let id = transport.id();
        if let Err(TrySendError::Full(_)) = self.main.try_send(Message::Received(id, data.to_vec())) {
            // The main loop is slow: this client waits and no other does. Its data stays buffered and is delivered
            // again.
            transport.pause_reading();
            transport.context().call_later(Duration::from_millis(10), move |context| {
                context.connection(id).as_mut().map(Transport::resume_reading);
            });
            return 0;
        }
        data.len()
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, _: CloseReason) {
        self.clients.lock().expect("no thread panics while it holds the lock").remove(&transport.id());
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
    // A thread cannot wait for the terminal and for a channel at once, so another one forwards the terminal's lines to
    // the channel. It is started first: if the loop's thread cannot be started, this one simply ends with the program.
    support::start_thread(move || {
        let lines = io::stdin().lines().map_while(Result::ok).map(Message::Typed);
        lines.chain([Message::EndOfInput]).try_for_each(|message| typed.send(message))
    })?;
    support::start_thread(move || sender.send(Message::Ended(run_loop(address, client, started))))?;
    // If the loop could not start there is no handle, and the last message says why.
    let handle = handle.recv().ok();
    for message in messages {
        match (message, &handle) {
            (Message::Typed(line), Some(handle)) => {
                for id in clients.lock().expect("no thread panics while it holds the lock").iter() {
                    let sent = handle.write(*id, format!("{line}\r\n"));
                    sent.unwrap_or_else(|error| say(format_args!("{id} missed a line: {error}")));
                }
            }
            (Message::EndOfInput, Some(handle)) => {
                handle.post(|context| context.shutdown(Duration::from_secs(5))).unwrap_or_else(|_| handle.stop());
            }
            // Unlike the loop's thread, this one may block on its output: clients then wait too, and no line is lost.
            (Message::Received(id, data), _) => drop(writeln!(io::stdout(), "{id}: {}", escape(&data))),
            (Message::Ended(result), _) => return result,
            (_, None) => {}
        }
    }
    Ok(())
}
