// The standard input: a source of the loop if the system can wait for it, and read by a thread otherwise.
//
// A piece is read only when it is asked for, so a server that does not read holds up the input, and memory is bounded.

#[cfg(unix)]
use std::cell::Cell;
use std::io::{self, Read};
#[cfg(unix)]
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::support::{Failure, start_thread};
use switchboard::{ConnectionId, Context};
#[cfg(unix)]
use switchboard::{SourceAction, SourceId};

const PIECE_BYTES: usize = 16 << 10;

/// Called with each piece; an empty one is the end.
type Give = fn(&mut Context<'_>, ConnectionId, &[u8]);

pub(crate) enum Typed {
    /// The flag says whether a piece is wanted, since an event may come that nobody has asked for.
    #[cfg(unix)]
    Source(SourceId, Rc<Cell<bool>>),
    Thread(SyncSender<()>),
}

impl Typed {
    /// Asks for one more piece.
    #[cfg_attr(not(unix), allow(unused_variables))] // The thread does not need the loop for this.
    pub(crate) fn read_more(&self, context: &mut Context<'_>) {
        match self {
            // Events are edge-triggered, and only one piece is read for each, so reregister to be told of data that is
            // already there.
            #[cfg(unix)]
            Typed::Source(source, is_wanted) => {
                is_wanted.set(true);
                let _ = context.reregister(*source, mio::Interest::READABLE);
            }
            Typed::Thread(wanted) => drop(wanted.try_send(())),
        }
    }
}

/// Starts reading, with the first piece.
pub(crate) fn begin(context: &mut Context<'_>, id: ConnectionId, give: Give) -> Result<Typed, Failure> {
    #[cfg(unix)]
    if let Some(typed) = as_source(context, id, give) {
        return Ok(typed);
    }
    let typed = by_thread(context, id, give)?;
    typed.read_more(context);
    Ok(typed)
}

/// Registers the input as a source, if the system can wait for it. It is not made non-blocking, since other programs
/// share it.
#[cfg(unix)]
fn as_source(context: &mut Context<'_>, id: ConnectionId, give: Give) -> Option<Typed> {
    use std::fs::File;
    use std::io::IsTerminal;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt;

    let input = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let kind = input.metadata().ok()?.file_type();
    if !(input.is_terminal() || kind.is_fifo() || kind.is_socket()) {
        return None;
    }
    let is_wanted = Rc::new(Cell::new(true));
    let asked = is_wanted.clone();
    let mut piece = vec![0; PIECE_BYTES];
    let read = move |context: &mut Context<'_>, input: &mut mio::unix::pipe::Receiver, _| {
        if !asked.get() {
            return SourceAction::Wait;
        }
        match input.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => SourceAction::Again,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SourceAction::Wait,
            // An error, such as that of a terminal that is gone, counts as the end.
            Ok(0) | Err(_) => {
                give(context, id, &[]);
                SourceAction::Remove
            }
            Ok(count) => {
                asked.set(false);
                give(context, id, &piece[..count]);
                SourceAction::Wait
            }
        }
    };
    // Whatever it is, it can be read and polled like a pipe.
    let source = context.register(OwnedFd::from(input).into(), mio::Interest::READABLE, read).ok()?;
    // It must not keep the loop running once the connection has ended.
    context.set_background(source, true);
    Some(Typed::Source(source, is_wanted))
}

fn by_thread(context: &mut Context<'_>, id: ConnectionId, give: Give) -> Result<Typed, Failure> {
    let handle = context.handle();
    let (wanted, asked) = sync_channel(1);
    // The thread ends with the program at the latest.
    start_thread(move || {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(()) = asked.recv() {
            let count = loop {
                match io::stdin().read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.unwrap_or(0),
                }
            };
            let read = piece[..count].to_vec();
            if handle.post(move |context| give(context, id, &read)).is_err() || count == 0 {
                return;
            }
        }
    })?;
    Ok(Typed::Thread(wanted))
}
