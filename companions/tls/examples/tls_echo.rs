//! An echo server over TLS, and its client.
//!
//! Run `cargo run --package switchboard-tls --example tls_echo -- --write-cert own.pem`, and beside it
//! `cargo run --package switchboard-tls --example tls_echo -- --connect localhost:1234 --ca own.pem`: each line that you type
//! comes back, until Ctrl-D. `openssl s_client -connect localhost:1234 -CAfile own.pem` is another client.
//!
//! The server generates a certificate for `localhost` when it starts, unless it gets one by `--cert FILE --key FILE`.
//! At SIGHUP it reloads it: later clients see the new one. The client trusts only the certificates in the file of
//! `--ca`, and requires the name that it connects to, or that of `--name NAME`.

mod certificate;
#[allow(dead_code, unexpected_cfgs)] // It is of all examples; the feature `signals` is the crate's.
#[path = "../../../examples/support/mod.rs"]
mod support;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::{env, thread};

use rustls::ClientConfig;
use support::{Failure, complain, say};
use switchboard::{
    CloseReason, Connect, ConnectError, ConnectionId, Context, EventLoop, Handle, Listen, Protocol, Transport,
};
use switchboard_tls::Tls;

/// Sends back what it receives. It knows nothing about TLS, except to print what was negotiated.
struct Echo(String);

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let Some(tls) = transport.filter::<Tls>() else { return };
        let (version, suite) = (tls.protocol_version(), tls.cipher_suite().map(|suite| suite.suite()));
        let (name, kind) = (tls.server_name(), if tls.is_resumed() { "resumed" } else { "new" });
        say(format_args!("{} has {version:?}, {suite:?}, asks for {name:?}, {kind}", self.0));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        say(format_args!("{} is gone: {reason}", self.0));
    }
}

/// Prints what it receives.
struct Client;

impl Protocol for Client {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        let (handle, id) = (transport.context().handle(), transport.id());
        thread::spawn(move || send_input(&handle, id));
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if io::stdout().write_all(data).and_then(|()| io::stdout().flush()).is_err() {
            transport.close();
        }
        data.len()
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        complain(error);
        transport.context().stop();
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        complain(format_args!("the connection is over: {reason}"));
        transport.context().stop();
    }
}

/// Sends what is typed, and the end of the input.
fn send_input(handle: &Handle, id: ConnectionId) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
        if handle.write(id, &buffer[..count]).is_err() {
            return complain("input can no longer be sent");
        }
    }
    let _ = handle.post(move |context: &mut Context<'_>| {
        if let Some(mut transport) = context.connection(id) {
            transport.shutdown_write();
        }
    });
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let mut event_loop = EventLoop::new()?;
    support::shut_down_on_signals(&mut event_loop)?;
    match certificate::take(&mut arguments, "--connect")? {
        Some(to) => {
            let dialled = dial(&mut event_loop.context(), &to, &mut arguments);
            dialled.map_err(|error| Failure::new(error.to_string()))?;
        }
        None => serve(&mut event_loop, arguments)?,
    }
    Ok(event_loop.run()?)
}

fn serve(event_loop: &mut EventLoop, mut arguments: Vec<String>) -> Result<(), Failure> {
    let config = certificate::take_from(&mut arguments, &mut event_loop.context())?;
    let address = support::listening_address_in(arguments, &certificate::FLAGS)?;
    let listen = Listen::at(address).filter(config.listen());
    let listener = event_loop.context().listen(listen, |_, peer| Some(Echo(peer.to_string())));
    let listener = listener.map_err(support::cannot_listen(address))?;
    if let Some(mut listener) = event_loop.context().listener(listener) {
        listener.on_error(|_, _, error| complain(error));
    }
    Ok(support::announce(event_loop, listener)?)
}

fn dial(context: &mut Context<'_>, to: &str, arguments: &mut Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    support::show_log();
    let mut take = |flag| certificate::take(arguments, flag).map_err(|error| format!("{error:?}"));
    let (ca, name) = (take("--ca")?, take("--name")?);
    let (host, port) = to.rsplit_once(':').ok_or_else(|| format!("{to:?} has no port"))?;
    let roots = switchboard_tls::roots(ca.ok_or("--ca FILE is required")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = name.unwrap_or_else(|| host.clone()).try_into()?;
    context.connect(Connect::to((host, port.parse()?)).filter(switchboard_tls::connect(config, name)), Client)?;
    Ok(())
}
