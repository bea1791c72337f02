//! How requests are handled, shared by the listener or datagram socket that they come from.

use std::io;
#[cfg(unix)]
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, Gate};
#[cfg(unix)]
use super::children::{Children, Spawn};
use super::task::{Outcome, Task, caught};
use super::{RequestError, RequestHandler};
use switchboard::workers::{WorkError, WorkerPool};
use switchboard::{Address, Context, Protocol, Transport};

pub(super) type Make = dyn Fn() -> Box<dyn RequestHandler>;
pub(super) type MakeInThread = dyn Fn() -> Box<dyn RequestHandler> + Send + Sync;
pub(super) type Verify = Box<dyn Fn(&Address) -> bool>;
pub(super) type OnError = Box<dyn Fn(&mut Context<'_>, &Address, &RequestError)>;

/// Where requests are handled.
pub(super) enum Way {
    Here(Rc<Make>),
    Threads(WorkerPool, Arc<MakeInThread>),
    #[cfg(unix)]
    Processes(WorkerPool, Box<dyn Fn(&Address) -> Command>, Arc<Children>),
}

/// How the requests of a listener or a datagram socket are handled.
pub(super) struct Handling {
    pub(super) way: Way,
    pub(super) admission: Admission,
    pub(super) verify: Option<Verify>,
    pub(super) on_error: Option<OnError>,
    pub(super) timeout: Option<Duration>,
}

impl Handling {
    /// Returns whether a client may come in; one that may not is counted.
    pub(super) fn admits(&self, context: &mut Context<'_>, client: &Address) -> bool {
        let admitted = self.verify.as_ref().is_none_or(|verify| verify(client));
        if !admitted {
            self.admission.refuse(context);
        }
        admitted
    }

    /// Returns whether a connection may have filters: a child process gets the bare socket.
    pub(super) fn takes_filters(&self) -> bool {
        match &self.way {
            Way::Here(_) | Way::Threads(..) => true,
            #[cfg(unix)]
            Way::Processes(..) => false,
        }
    }

    /// Starts handling a request that was admitted.
    pub(super) fn begin(self: &Rc<Handling>, context: &mut Context<'_>, task: Task, client: Address) {
        let deadline = self.timeout.and_then(|timeout| context.now().checked_add(timeout));
        let begun = match &self.way {
            Way::Here(make) => self.begin_here(context, make.clone(), task, client.clone(), deadline),
            Way::Threads(pool, make) => {
                let (make, end, client) = (make.clone(), self.end_for(&client), client.clone());
                let work = move || task.run(&mut *make(), client, deadline);
                pool.submit(context, None, work, end);
                Ok(())
            }
            #[cfg(unix)]
            Way::Processes(pool, command, children) => {
                let (command, end) = (command(&client), self.end_for(&client));
                children.begin(context, pool, Spawn { command, task, timeout: self.timeout }, &client, end);
                Ok(())
            }
        };
        if let Err(error) = begun {
            self.end(context, error.into(), &client);
        }
    }

    /// Goes through the queue, so that the handler does not run within another callback.
    fn begin_here(
        self: &Rc<Handling>,
        context: &mut Context<'_>,
        make: Rc<Make>,
        task: Task,
        client: Address,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let end = self.end_for(&client);
        let call = context.completion(move |context, _: Option<()>| {
            let outcome = caught(|| task.run(&mut *make(), client, deadline));
            end(context, outcome);
        })?;
        // The call is this loop's own, so it cannot fail.
        let _ = call.complete(());
        Ok(())
    }

    fn end_for(
        self: &Rc<Handling>,
        client: &Address,
    ) -> impl FnOnce(&mut Context<'_>, Result<Outcome, WorkError>) + 'static {
        let (shared, client) = (self.clone(), client.clone());
        move |context, outcome| shared.end(context, outcome.unwrap_or_else(Outcome::of_error), &client)
    }

    /// Ends a request: lets in another one, and sends the answer or hands over the connection.
    pub(super) fn end(&self, context: &mut Context<'_>, outcome: Outcome, client: &Address) {
        self.admission.end(context);
        let Outcome { connection, answer, error } = outcome;
        if let (Some(Gate::Datagrams(id)), Some(answer)) = (self.admission.gate(), answer) {
            if let Some(mut socket) = context.datagram(id) {
                socket.send_to(&answer, client);
            }
        }
        if let Some((stream, give_back)) = connection {
            let protocol = give_back.map_or_else(|| Box::new(Closing) as Box<dyn Protocol>, |make| make());
            if let Err(error) = context.attach(stream, protocol) {
                log::debug!("the connection with {client} ended before the handler returned it: {error}");
            }
        }
        if let Some(error) = error {
            self.tell(context, client, &error);
        }
    }

    pub(super) fn tell(&self, context: &mut Context<'_>, client: &Address, error: &RequestError) {
        let level = match error {
            RequestError::Io(error) if is_clients(error) => log::Level::Debug,
            _ => log::Level::Warn,
        };
        log::log!(level, "the request from {client} failed: {error}");
        if let Some(hook) = &self.on_error {
            hook(context, client, error);
        }
    }

    /// Ends what still runs as far as possible. Returns whether all has ended within `grace`. Does not wait for a
    /// handler that is still at work: nothing ends it.
    pub(super) fn shutdown(&self, grace: Duration) -> bool {
        match &self.way {
            Way::Here(_) => true,
            Way::Threads(pool, _) => {
                pool.shutdown(if self.admission.in_progress() == 0 { grace } else { Duration::ZERO }).is_clean()
            }
            #[cfg(unix)]
            Way::Processes(pool, _, children) => {
                children.kill_all();
                pool.shutdown(grace).is_clean()
            }
        }
    }
}

/// Returns whether an error is the client's doing: a client could fill a log with these.
fn is_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
    )
}

/// A connection whose request was handled: the loop closes it in an orderly way, so no handler has to wait for that
/// (rule X1).
pub(super) struct Closing;

impl Protocol for Closing {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.close();
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}
