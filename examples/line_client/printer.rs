// A thread that writes received data to stdout. A stopped terminal or a full pipe holds up the server, by way of the
// connection, but neither the loop nor the program's end. Nothing is lost.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};

use super::client::Outcome;
use super::support::{Failure, start_thread};
use switchboard::{Completion, Transport};

pub(crate) struct Printer(Sender<(Vec<u8>, Completion<io::Result<()>>)>);

impl Printer {
    pub(crate) fn start() -> Result<Printer, Failure> {
        let (pieces, received) = channel::<(Vec<u8>, Completion<io::Result<()>>)>();
        start_thread(move || {
            for (piece, done) in received {
                let mut stdout = io::stdout();
                let _ = done.complete(stdout.write_all(&piece).and_then(|()| stdout.flush()));
            }
        })?;
        Ok(Printer(pieces))
    }

    /// Has a piece written, and pauses reading from the connection until it is. The loop runs until then, even if the
    /// connection has ended.
    pub(crate) fn print(&self, transport: &mut Transport<'_>, piece: Vec<u8>, outcome: &Outcome) -> io::Result<()> {
        let (id, outcome) = (transport.id(), outcome.clone());
        let done = transport.context().completion(move |context, written: Option<io::Result<()>>| {
            let mut connection = context.connection(id);
            match written {
                Some(Ok(())) => connection.iter_mut().for_each(Transport::resume_reading),
                Some(Err(error)) => {
                    outcome.failed(&format_args!("cannot write: {error}"));
                    connection.iter_mut().for_each(Transport::abort);
                }
                None => {}
            }
        })?;
        transport.pause_reading();
        self.0.send((piece, done)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
