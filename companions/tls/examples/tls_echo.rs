//! An echo server over TLS, and its client.
//!
//! Run `cargo run --package switchboard-tls --example tls_echo -- --write-cert own.pem`, and beside it
//! `cargo run --package switchboard-tls --example tls_echo -- --connect localhost:1234 --ca own.pem`: each line that you type
//! comes back, until Ctrl-D. `openssl s_client -connect localhost:1234 -CAfile own.pem` is another client.
//!
//! The server makes a certificate for `localhost` when it starts, unless it is given one by `--cert FILE --key FILE`. The
//! client trusts the certificates in the file of `--ca` and no other, and wants the name that it connects to, or that of
//! `--name NAME`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, error, fs, process, thread};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use switchboard::{
    CloseReason, Connect, ConnectError, ConnectionId, Context, EventLoop, Handle, Listen, Protocol, Transport,
};
use switchboard_tls::Tls;

#[path = "../../../examples/support/output.rs"]
mod output;
use output::{complain, say};

type Failure = Box<dyn error::Error>;
type Flags = HashMap<String, String>;

/// Sends back what comes. It does not know of TLS, but to say what was negotiated.
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

/// Shows what comes.
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

/// Sends what is typed, and its end.
fn send_input(handle: &Handle, id: ConnectionId) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
        if handle.write(id, &buffer[..count]).is_err() {
            return complain("what is typed cannot be sent any more");
        }
    }
    let _ = handle.post(move |context: &mut Context<'_>| {
        if let Some(mut transport) = context.connection(id) {
            transport.shutdown_write();
        }
    });
}

fn main() {
    output::show_log();
    if let Err(error) = run() {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn run() -> Result<(), Failure> {
    let (address, flags) = arguments()?;
    let mut event_loop = EventLoop::new()?;
    switchboard::signals::shutdown_on_signals(&mut event_loop.context(), Duration::from_secs(5))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match flags.get("--connect") {
        Some(to) => dial(&mut event_loop.context(), provider, to, &flags)?,
        None => serve(&mut event_loop.context(), provider, &address, &flags)?,
    }
    Ok(event_loop.run()?)
}

fn serve(
    context: &mut Context<'_>,
    provider: Arc<CryptoProvider>,
    address: &str,
    flags: &Flags,
) -> Result<(), Failure> {
    let config = match (flags.get("--cert"), flags.get("--key")) {
        (Some(cert), key) => switchboard_tls::server_config(provider, cert, key.unwrap_or(cert))?,
        (None, _) => own_config(provider, flags.get("--write-cert"))?,
    };
    let address: SocketAddr = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
    let listen = Listen::at(address).filter(switchboard_tls::listen(Arc::new(config)));
    let listener = context.listen(listen, |_, peer| Some(Echo(peer.to_string())))?;
    let mut listener = context.listener(listener).ok_or("it has failed")?;
    listener.on_error(|_, _, error| complain(error));
    for address in listener.local_addrs()? {
        say(format_args!("listening on {address}"));
    }
    Ok(())
}

/// A certificate that is made now, and written where clients find it.
fn own_config(provider: Arc<CryptoProvider>, write_to: Option<&String>) -> Result<ServerConfig, Failure> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    if let Some(path) = write_to {
        fs::write(path, made.cert.pem()).map_err(|error| format!("cannot write {path:?}: {error}"))?;
    }
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let (chain, key) = (vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into()?);
    Ok(builder.with_no_client_auth().with_single_cert(chain, key)?)
}

fn dial(context: &mut Context<'_>, provider: Arc<CryptoProvider>, to: &str, flags: &Flags) -> Result<(), Failure> {
    let (host, port) = to.rsplit_once(':').ok_or_else(|| format!("{to:?} has no port"))?;
    let roots = switchboard_tls::roots(flags.get("--ca").ok_or("--ca FILE must say whom to trust")?)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = flags.get("--name").unwrap_or(&host).clone().try_into()?;
    context.connect(Connect::to((host, port.parse()?)).filter(switchboard_tls::connect(config, name)), Client)?;
    Ok(())
}

/// The address to listen on, and what the flags say.
fn arguments() -> Result<(String, Flags), Failure> {
    let (mut address, mut flags) = ("127.0.0.1:1234".to_owned(), Flags::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.starts_with("--") {
            true => _ = flags.insert(argument, arguments.next().ok_or("a flag without its value")?),
            false => address = argument,
        }
    }
    Ok((address, flags))
}
