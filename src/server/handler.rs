//! What users implement for requests, and how it may go wrong.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use super::Request;
use switchboard::escape;

/// What is done with a request: `socketserver`'s `BaseRequestHandler`. Each request has one of its own; a closure that
/// takes `&mut Request` is one, too.
///
/// `setup`, `handle` and `finish` are called in this order; `finish` also where `handle` has failed, and neither after a
/// failed `setup`. Then what was written is sent, and the connection closed in an orderly way. An error, of whatever type, or a
/// panic drops what was not sent and resets the connection, so that no client takes half an answer for the whole.
pub trait RequestHandler {
    /// Before the request is handled.
    ///
    /// # Errors
    ///
    /// Ends the request; see [`Requests::on_error`](super::Requests::on_error).
    fn setup(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = request;
        Ok(())
    }

    /// Reads the request and answers it.
    ///
    /// # Errors
    ///
    /// As [`setup`](RequestHandler::setup).
    fn handle(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// After the request was handled.
    ///
    /// # Errors
    ///
    /// As [`setup`](RequestHandler::setup).
    fn finish(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = request;
        Ok(())
    }
}

impl<F: FnMut(&mut Request) -> Result<(), Box<dyn Error + Send + Sync>>> RequestHandler for F {
    fn handle(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
        self(request)
    }
}

/// One request, from its beginning to its end.
pub(super) fn run(handler: &mut dyn RequestHandler, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
    handler.setup(request)?;
    let handled = handler.handle(request);
    let finished = handler.finish(request);
    handled.and(finished)?;
    request.flush()?;
    Ok(())
}

/// How a request went wrong; for [`Requests::on_error`](super::Requests::on_error).
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// What the system said to reading and writing, or an I/O error of its handler's. `TimedOut`: its time was up.
    Io(io::Error),
    /// Any other error that its handler returned.
    Handler(Box<dyn Error + Send + Sync>),
    /// Its handler panicked with this message.
    Panic(String),
    /// Its child process ended with another status than success; by a signal where it took too long.
    Child(std::process::ExitStatus),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Io(error) => error.fmt(f),
            RequestError::Handler(error) => error.fmt(f),
            RequestError::Panic(message) => {
                fmt::write(f, format_args!("its handler panicked: {}", escape(message.as_bytes())))
            }
            RequestError::Child(status) => fmt::write(f, format_args!("its process ended with {status}")),
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RequestError::Io(error) => error.source(),
            RequestError::Handler(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> RequestError {
        RequestError::Io(error)
    }
}

impl From<Box<dyn Error + Send + Sync>> for RequestError {
    fn from(error: Box<dyn Error + Send + Sync>) -> RequestError {
        match error.downcast::<io::Error>() {
            Ok(error) => RequestError::Io(*error),
            Err(error) => RequestError::Handler(error),
        }
    }
}
