//! The echo server on several cores: several threads with a loop each, and the connections spread among them.
//!
//! Run `cargo run --example multicore_echo --release --features workers`, followed by `--`, an address and a number of
//! loops if you like; the default is one loop per core. Each answer begins with the number of the loop that sent it, so
//! telnet from several windows shows which loop serves which connection.

#[allow(dead_code)] // Contains more than this example uses.
mod support;

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use switchboard::workers::{EventLoopGroup, GroupHandle};
use switchboard::{EventLoop, Protocol, Transport};

struct Echo {
    loop_index: usize,
}

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(format!("{}: ", self.loop_index).as_bytes());
        transport.write(data);
        data.len()
    }
}

fn main() -> Result<(), support::Failure> {
    let loops = std::env::args().nth(2);
    let address = support::listening_address(&loops.iter().map(String::as_str).collect::<Vec<_>>())?;
    let loops = match loops {
        Some(loops) => loops.parse().map_err(|_| io::Error::other(format!("{loops:?} is not a number of loops")))?,
        None => thread::available_parallelism()?,
    };
    let group = EventLoopGroup::builder(loops).name("echo").start().map_err(io::Error::from)?;
    // Each loop has its own factory, whose protocols stay in that loop.
    let listener = group.listen_each(address, |loop_index, _| move |_, _| Some(Echo { loop_index }));
    let listener = listener.map_err(support::cannot_listen(address))?;
    shut_down_on_signals(group.handle().clone())?;
    support::say(format_args!("listening on {}", listener.local_addr()));
    let counters = group.join().map_err(io::Error::from)?;
    support::say(format_args!("{} connections served", counters.connections_made));
    Ok(())
}

/// Waits for signals in a loop of its own, in a thread that ends with the program. The first signal lets connections
/// receive what was written to them, the second ends the program at once.
fn shut_down_on_signals(group: GroupHandle) -> Result<(), support::Failure> {
    let (tell, told) = mpsc::channel();
    support::start_thread(move || {
        let waits = EventLoop::new().and_then(|mut signals| {
            support::shut_down_on_signals(&mut signals)?;
            Ok(signals)
        });
        match waits {
            Ok(mut signals) => {
                let _ = tell.send(Ok(()));
                if signals.run().is_ok() {
                    group.shutdown(Duration::from_secs(5));
                }
                if signals.run().is_ok() {
                    group.stop();
                }
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    })?;
    Ok(told.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?)
}
