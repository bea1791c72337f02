//! The select server on event sources: the loop waits for the listener and the clients; the rest is done here.
//!
//! Run `cargo run --example select_server_register`, then `telnet 127.0.0.1 1234` from several windows, and type. It
//! prints the same as `select_server`: each connect, line and disconnect.
//!
//! The loop takes care of polling, timers, signals, source ids, the removal of sources, and fairness: a handler that
//! returns `Again` is called again in the next turn, after the others. What remains is what each socket needs:
//! accepting and reading until that would block, and handling each kind of error. `select_server` leaves that to the
//! loop too, as well as limits, writing without blocking, urgent data, and a graceful close.

#[allow(dead_code)] // Some of it is for the loop's own listeners.
mod support;
#[path = "support/transcript.rs"]
mod transcript;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use switchboard::{Context, EventLoop, SourceAction, SourceId, TimerId};
use transcript::{Client, UNFINISHED_WAIT};

/// How long to wait after accepting has failed, for instance because no descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts one client. The timer that retries after an error needs the source's own id.
fn accept(context: &mut Context<'_>, listener: &mut TcpListener, own_id: &Rc<Cell<Option<SourceId>>>) -> SourceAction {
    match listener.accept() {
        Ok((stream, peer)) => {
            serve(context, stream, peer);
            SourceAction::Again // Others may be waiting, and there is no second event for them.
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => SourceAction::Wait,
            // That client has already disconnected.
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => SourceAction::Again,
            // There is no second event for the waiting clients. Retrying at once would spin; not retrying would leave
            // them in the backlog for ever.
            _ => {
                support::complain(format_args!("cannot accept: {error}"));
                let own_id = own_id.clone();
                context.call_later(ACCEPT_RETRY, move |context| {
                    let id = own_id.get().expect("it is set before the first turn");
                    if let Err(error) = context.reregister(id, Interest::READABLE) {
                        support::complain(format_args!("cannot accept any more: {error}"));
                        context.stop();
                    }
                });
                SourceAction::Wait
            }
        },
    }
}

fn serve(context: &mut Context<'_>, stream: TcpStream, peer: SocketAddr) {
    let client = Rc::new(RefCell::new(Client::new(peer)));
    let mut timer = None;
    let handler =
        move |context: &mut Context<'_>, stream: &mut TcpStream, _| read(context, stream, &client, &mut timer);
    if let Err(error) = context.register(stream, Interest::READABLE, handler) {
        support::complain(format_args!("cannot serve {peer}: {error}"));
    }
}

/// Reads once. On `Remove` the loop drops the stream, which closes it.
fn read(
    context: &mut Context<'_>,
    stream: &mut TcpStream,
    client: &Rc<RefCell<Client>>,
    timer: &mut Option<TimerId>,
) -> SourceAction {
    let mut buffer = [0; 16 * 1024];
    let received = match stream.read(&mut buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return SourceAction::Wait,
        Err(error) if error.kind() == ErrorKind::Interrupted => return SourceAction::Again,
        Err(_) => 0, // A reset: only this client is gone.
    };
    if let Some(timer) = timer.take() {
        context.cancel_timer(timer);
    }
    if received == 0 {
        client.borrow_mut().left();
        return SourceAction::Remove;
    }
    if client.borrow_mut().received(&buffer[..received]) {
        let client = client.clone();
        *timer = Some(context.call_later(UNFINISHED_WAIT, move |_| client.borrow_mut().print_unfinished()));
    }
    SourceAction::Again
}

fn main() -> Result<(), support::Failure> {
    let address = support::listening_address(&[])?;
    let mut event_loop = EventLoop::new()?;
    let listener = TcpListener::bind(address).map_err(support::cannot_listen(address))?;
    let local_addr = listener.local_addr()?;
    let own_id = Rc::new(Cell::new(None));
    let id = own_id.clone();
    let handler = move |context: &mut Context<'_>, listener: &mut TcpListener, _| accept(context, listener, &own_id);
    id.set(Some(event_loop.context().register(listener, Interest::READABLE, handler)?));
    support::shut_down_on_signals(&mut event_loop)?;
    support::say(format_args!("listening on {local_addr}"));
    event_loop.run()?;
    Ok(())
}
