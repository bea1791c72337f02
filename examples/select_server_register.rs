//! The select server a second time: listener and clients are sources that the loop waits for, and all else is done here.
//!
//! Run `cargo run --example select_server_register`, then `telnet 127.0.0.1 1234` from several windows, and type. It
//! prints the same as `select_server`: who comes, each line, who leaves.
//!
//! The loop has taken over the wait, the timers, signals, the names of sources and their end, and the sharing of time:
//! a handler that answers `Again` is called in the next turn, when the others have had theirs. What is left is what each
//! socket needs: to accept and to read until nothing is there, and to know one error from another. `select_server` leaves
//! that to the loop too, and with it limits, writing without blocking, urgent data, and an orderly close.

#[allow(dead_code)] // How a listener of the loop's own is announced.
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

/// How long accepting waits where there is no descriptor left, for instance.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts one client. The source's own id is for the timer that has it tried again.
fn accept(context: &mut Context<'_>, listener: &mut TcpListener, own_id: &Rc<Cell<Option<SourceId>>>) -> SourceAction {
    match listener.accept() {
        Ok((stream, peer)) => {
            serve(context, stream, peer);
            SourceAction::Again // Others may wait; nobody tells of them once more.
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => SourceAction::Wait,
            // That client is gone again.
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted => SourceAction::Again,
            // Those who wait are told of no more. Trying at once would spin, not trying would leave them alone for ever.
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

/// Reads once. With `Remove` the loop drops the stream, which closes it.
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
        Err(_) => 0, // A reset: he has left, and only he.
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
