// Shared by the programs of this folder: the certificate of a server, from files or generated at the start, and
// reloaded at SIGHUP.

use std::fs;
use std::sync::Arc;

use rustls::ServerConfig;
use switchboard::Context;
use switchboard_tls::Reloadable;

use super::support::Failure;

/// The options in the usage text.
#[allow(dead_code)] // One has those of another program.
pub(crate) const FLAGS: [&str; 3] = ["--cert FILE", "--key FILE", "--write-cert FILE"];

/// The source of the certificate.
struct Certificate {
    cert: Option<String>,
    key: Option<String>,
    write_to: Option<String>,
}

/// Takes `--cert FILE`, `--key FILE` and `--write-cert FILE` out of the arguments. Without a given certificate one is
/// generated for `localhost`, and written where clients find it.
///
/// At SIGHUP it is loaded, or generated, again: later clients see the new one, and existing connections keep theirs.
/// The loop reads the file itself, since it is short.
pub(crate) fn take_from(arguments: &mut Vec<String>, context: &mut Context<'_>) -> Result<Reloadable, Failure> {
    let certificate = Certificate {
        cert: take(arguments, "--cert")?,
        key: take(arguments, "--key")?,
        write_to: take(arguments, "--write-cert")?,
    };
    let config = Reloadable::new(Arc::new(certificate.load().map_err(Failure::new)?));
    reload_at_hangup(context, certificate, config.clone())?;
    Ok(config)
}

/// Takes a flag and the word after it.
pub(crate) fn take(arguments: &mut Vec<String>, flag: &str) -> Result<Option<String>, Failure> {
    let Some(place) = arguments.iter().position(|argument| argument == flag) else { return Ok(None) };
    if place + 1 == arguments.len() {
        return Err(Failure::new(format!("{flag} needs a value")));
    }
    Ok(arguments.drain(place..place + 2).nth(1))
}

impl Certificate {
    fn load(&self) -> Result<ServerConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        if let Some(cert) = &self.cert {
            let key = self.key.as_ref().unwrap_or(cert);
            return switchboard_tls::server_config(provider, cert, key).map_err(|error| error.to_string());
        }
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
        if let Some(path) = &self.write_to {
            fs::write(path, made.cert.pem()).map_err(|error| format!("cannot write {path:?}: {error}"))?;
        }
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
        let key = made.signing_key.serialize_der().try_into().map_err(str::to_owned)?;
        builder.with_single_cert(vec![made.cert.der().clone()], key).map_err(|error| error.to_string())
    }
}

#[cfg(unix)]
fn reload_at_hangup(context: &mut Context<'_>, certificate: Certificate, config: Reloadable) -> std::io::Result<()> {
    use super::support::{complain, say};
    use switchboard::signals::{Signal, add_signal_handler};
    let reload = move |_: &mut Context<'_>, _| match certificate.load() {
        Ok(loaded) => {
            config.set(Arc::new(loaded));
            say("the certificate was reloaded");
        }
        // A server that has a valid one goes on with it.
        Err(error) => complain(format_args!("cannot reload the certificate: {error}")),
    };
    add_signal_handler(context, [Signal::HUP], reload)?;
    Ok(())
}

/// Elsewhere there is no such signal.
#[cfg(not(unix))]
fn reload_at_hangup(_: &mut Context<'_>, _: Certificate, _: Reloadable) -> std::io::Result<()> {
    Ok(())
}
