//! The trait of request handlers, and how a request may fail.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use super::Request;
use switchboard::escape;

/// Handles a request: `socketserver`'s `BaseRequestHandler`. Each request has a handler of its own. Closures that take
/// `&mut Request` are handlers too.
///
/// `setup`, `handle` and `finish` are called in this order; `finish` even if `handle` failed, but neither if `setup`
/// failed. Then the output is sent and the connection closed in an orderly way. An error of any type, or a panic, drops
/// unsent output and resets the connection, so that no client takes half an answer for a whole one.
pub trait RequestHandler {
    /// Called before the request is handled.
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
    /// Ends the request, as for [`setup`](RequestHandler::setup).
    fn handle(&mut self, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Called after the request was handled.
    ///
    /// # Errors
    ///
    /// Ends the request, as for [`setup`](RequestHandler::setup).
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

/// Runs a request from beginning to end.
pub(super) fn run(handler: &mut dyn RequestHandler, request: &mut Request) -> Result<(), Box<dyn Error + Send + Sync>> {
    handler.setup(request)?;
    let handled = handler.handle(request);
    let finished = handler.finish(request);
    handled.and(finished)?;
    request.flush()?;
    Ok(())
}

/// How a request failed; see [`Requests::on_error`](super::Requests::on_error).
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// A read or write error, or an I/O error that the handler returned. `TimedOut`: its time was up.
    Io(io::Error),
    /// Any other error that the handler returned.
    Handler(Box<dyn Error + Send + Sync>),
    /// The handler panicked with this message.
    Panic(String),
    /// The child process ended with a status other than success; by a signal if it took too long.
    Child(std::process::ExitStatus),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Io(error) => error.fmt(f),
            RequestError::Handler(error) => error.fmt(f),
            RequestError::Panic(message) => {
                fmt::write(f, format_args!("the handler panicked: {}", escape(message.as_bytes())))
            }
            RequestError::Child(status) => fmt::write(f, format_args!("the child process ended with {status}")),
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
