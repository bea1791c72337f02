//! A request to be handled, and its outcome.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::handler;
use super::request::GiveBack;
use super::{Request, RequestError, RequestHandler};
use switchboard::workers::WorkError;
use switchboard::{Address, BlockingStream, Detached, escape};

/// A request whose handling has not begun.
pub(super) enum Task {
    Stream(Accepted),
    Datagram(Vec<u8>),
}

/// The outcome of a request.
#[derive(Default)]
pub(super) struct Outcome {
    /// Closed in an orderly way, unless it is given back to a protocol.
    pub(super) connection: Option<(BlockingStream, Option<GiveBack>)>,
    /// The answer to a datagram: none if the handler failed or wrote nothing.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) error: Option<RequestError>,
}

/// A connection whose handling has not begun; reset if it never does.
pub(super) struct Accepted(pub(super) Option<BlockingStream>);

impl Accepted {
    pub(super) fn take(mut self) -> Option<BlockingStream> {
        self.0.take()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            Detached::from(stream).abort();
        }
    }
}

impl Task {
    pub(super) fn run(self, handler: &mut dyn RequestHandler, client: Address, deadline: Option<Instant>) -> Outcome {
        match self {
            Task::Stream(accepted) => accepted.take().map_or_else(Outcome::default, |stream| {
                Outcome::of(Request::of_stream(stream, client, deadline), handler)
            }),
            Task::Datagram(data) => Outcome::of(Request::of_datagram(data, client, deadline), handler),
        }
    }
}

impl Outcome {
    fn of(mut request: Request, handler: &mut dyn RequestHandler) -> Outcome {
        if let Err(error) = handler::run(handler, &mut request) {
            return RequestError::from(error).into();
        }
        if request.datagram().is_some() {
            return Outcome { answer: request.into_answer(), ..Outcome::default() };
        }
        Outcome { connection: request.into_connection(), ..Outcome::default() }
    }

    pub(super) fn of_error(error: WorkError) -> Outcome {
        let error = match error {
            WorkError::Panic(message) => RequestError::Panic(message),
            other => RequestError::Io(io::Error::other(other)),
        };
        error.into()
    }
}

impl From<io::Error> for Outcome {
    fn from(error: io::Error) -> Outcome {
        RequestError::Io(error).into()
    }
}

impl From<RequestError> for Outcome {
    fn from(error: RequestError) -> Outcome {
        Outcome { error: Some(error), ..Outcome::default() }
    }
}

/// Handles a request on the loop's own thread. A panic becomes its outcome, as in the threads of a pool.
pub(super) fn caught(work: impl FnOnce() -> Outcome) -> Result<Outcome, WorkError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|it| &**it));
        let message = message.unwrap_or("(no message)").to_owned();
        log::error!("a handler panicked: {}", escape(message.as_bytes()));
        // The payload's destructor may panic too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(mem::forget);
        WorkError::Panic(message)
    })
}
