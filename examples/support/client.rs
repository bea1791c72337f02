// Shared by the clients among the examples: the server's name and port, and exit code 1 if there was no answer.

#[allow(clippy::duplicate_mod)] // An example that also listens contains this module twice, which does no harm.
mod output;

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;

use switchboard::Connect;

#[allow(unused_imports)] // Not every example uses all of it.
pub(crate) use output::{complain, say, show_log};

const DEFAULT_SERVER: &str = "127.0.0.1:1234";

/// Returns the server from the command line: a name or an address, and a port.
pub(crate) fn server() -> Result<Connect, String> {
    show_log();
    let server = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    name_and_port(&server).map(Connect::to)
}

/// Splits the argument that names a server into a name or an address, and a port.
pub(crate) fn name_and_port(server: &str) -> Result<(String, u16), String> {
    if let Some((host, port)) = server.rsplit_once(':') {
        if let Ok(port) = port.parse::<u16>() {
            return Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port));
        }
    }
    Err(format!("{server:?} is not a server: give a name or an address, and a port, like {DEFAULT_SERVER}"))
}

/// Whether something has failed, as the protocols of a client report.
#[derive(Clone, Default)]
pub(crate) struct Outcome(Rc<Cell<bool>>);

impl Outcome {
    pub(crate) fn failed(&self, error: &impl std::fmt::Display) {
        complain(error);
        self.0.set(true);
    }

    /// Returns the exit code of a finished client, once its output is written, so that a slow reader gets all of it.
    pub(crate) fn code(&self) -> ExitCode {
        output::wait_until_written();
        if self.0.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
