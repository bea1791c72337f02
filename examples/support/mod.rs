// Shared by the examples: the address to listen on, the line that announces it, a clean end on SIGINT and SIGTERM, and
// output that nothing has to wait for.

mod output;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread;

use switchboard::{EventLoop, ListenerId};

#[allow(unused_imports)] // Not every example uses all of it.
pub(crate) use output::{complain, say, show_log};
#[allow(unused_imports)] // Some examples only shut down, and some have no loop.
pub(crate) use signals::{on_signals, shut_down_on_signals};

/// Where examples listen unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:1234";

/// An error that ends an example with exit code 1 and one line on stderr.
pub(crate) struct Failure(String);

impl Failure {
    #[allow(dead_code)] // Not every example has errors besides those of the system.
    pub(crate) fn new(text: String) -> Failure {
        Failure(text)
    }
}

/// The format in which `main` reports it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// Returns the address to listen on, from the command line; `flags` are the other arguments that the example accepts.
#[allow(dead_code)] // Some examples remove other arguments first.
pub(crate) fn listening_address(flags: &[&str]) -> Result<SocketAddr, Failure> {
    listening_address_in(std::env::args().skip(1), flags)
}

/// Returns the address from the remaining arguments. `flags` may name options that were already removed.
pub(crate) fn listening_address_in(
    arguments: impl IntoIterator<Item = String>,
    flags: &[&str],
) -> Result<SocketAddr, Failure> {
    show_log();
    let mut addresses = arguments.into_iter().filter(|argument| !flags.contains(&argument.as_str()));
    let address = addresses.next().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    if let Some(surplus) = addresses.next() {
        return Err(Failure(format!("{surplus:?} is one argument too many: usage: [ADDRESS]{}", usage(flags))));
    }
    address.parse().map_err(|_| {
        Failure(format!(
            "{address:?} is not an address to listen on: give an IP address and a port, like {DEFAULT_ADDRESS}"
        ))
    })
}

fn usage(flags: &[&str]) -> String {
    flags.iter().map(|flag| format!(" [{flag}]")).collect()
}

/// Adds the address to an error of `listen`.
pub(crate) fn cannot_listen(address: SocketAddr) -> impl Fn(io::Error) -> Failure {
    move |error| Failure(format!("cannot listen on {address}: {error}"))
}

/// Prints the addresses that the server is listening on.
pub(crate) fn announce(event_loop: &mut EventLoop, listener: ListenerId) -> io::Result<()> {
    let mut context = event_loop.context();
    let listening = context.listener(listener).ok_or(io::ErrorKind::NotConnected)?;
    for address in listening.local_addrs()? {
        say(format_args!("listening on {address}"));
    }
    Ok(())
}

/// Starts a thread that ends with the program at the latest. `thread::spawn` would panic if the system refused.
#[allow(dead_code)] // Most examples need no other thread.
pub(crate) fn start_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().spawn(run);
    started.map(drop).map_err(|error| Failure(format!("cannot start a thread: {error}")))
}
