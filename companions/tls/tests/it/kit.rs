//! Shared by the tests: certificates, configurations, a protocol that records its callbacks, and two hosts on a
//! network.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use switchboard::testing::{Faults, HostId, Network, Peer};
use switchboard::{
    Address, CloseReason, Connect, ConnectError, ConnectionId, Context, Limits, Listen, Protocol, Transport,
};
use switchboard_tls::Tls;

pub(crate) const V12: &SupportedProtocolVersion = &rustls::version::TLS12;
pub(crate) const V13: &SupportedProtocolVersion = &rustls::version::TLS13;
pub(crate) const BOTH: [&SupportedProtocolVersion; 2] = [V12, V13];
pub(crate) const NAME: &str = "localhost";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// All of them, made once.
pub(crate) struct Identities {
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) server: Identity,
    pub(crate) renewed: Identity,
    pub(crate) expired: Identity,
    pub(crate) client: Identity,
    /// Issued by an authority that nobody trusts.
    pub(crate) stranger: Identity,
}

pub(crate) fn identities() -> &'static Identities {
    static MADE: OnceLock<Identities> = OnceLock::new();
    MADE.get_or_init(|| {
        let (authority, issuer) = authority();
        let server = |issuer: &Issuer<'_, KeyPair>| identity(issuer, NAME, |_| {});
        Identities {
            authority,
            server: server(&issuer),
            renewed: server(&issuer),
            expired: identity(&issuer, NAME, |params| params.not_after = rcgen::date_time_ymd(2000, 1, 1)),
            client: identity(&issuer, "client", |_| {}),
            stranger: server(&self::authority().1),
        }
    })
}

/// Ed25519, whose signatures all have the same length, so the same seed gives the same run.
fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = key();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), Issuer::new(params, key))
}

fn identity(issuer: &Issuer<'_, KeyPair>, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    change(&mut params);
    let key = key();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity {
        certificate: certificate.der().clone(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(identities().authority.clone()).unwrap();
    Arc::new(roots)
}

pub(crate) fn server_of(version: &'static SupportedProtocolVersion, identity: &Identity) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let chain = vec![identity.certificate.clone()];
    builder.with_no_client_auth().with_single_cert(chain, identity.key.clone_key()).unwrap()
}

pub(crate) fn server(version: &'static SupportedProtocolVersion) -> ServerConfig {
    server_of(version, &identities().server)
}

/// A server that asks its clients for a certificate.
pub(crate) fn asking_server(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(), provider()).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let identity = &identities().server;
    let chain = vec![identity.certificate.clone()];
    builder.with_client_cert_verifier(verifier).with_single_cert(chain, identity.key.clone_key()).unwrap()
}

pub(crate) fn client(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    builder.with_root_certificates(roots()).with_no_client_auth()
}

pub(crate) fn known_client(version: &'static SupportedProtocolVersion, identity: &Identity) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let chain = vec![identity.certificate.clone()];
    builder.with_root_certificates(roots()).with_client_auth_cert(chain, identity.key.clone_key()).unwrap()
}

/// What a protocol's callbacks reported.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<String>,
    pub(crate) data: Vec<u8>,
    pub(crate) id: Option<ConnectionId>,
}

pub(crate) type Noted = Rc<RefCell<Seen>>;

pub(crate) enum Event<'a> {
    Made,
    Data(&'a [u8]),
    Eof,
}

pub(crate) type Act = fn(Event<'_>, &mut Transport<'_>);

/// Records its callbacks, and calls `act`.
pub(crate) struct Noting {
    pub(crate) noted: Noted,
    pub(crate) act: Act,
}

impl Protocol for Noting {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.noted.borrow_mut().events.push("made".into());
        self.noted.borrow_mut().id = Some(transport.id());
        (self.act)(Event::Made, transport);
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.noted.borrow_mut().data.extend_from_slice(data);
        (self.act)(Event::Data(data), transport);
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.noted.borrow_mut().events.push("eof".into());
        (self.act)(Event::Eof, transport);
    }

    fn connect_failed(&mut self, _: &mut Transport<'_>, error: ConnectError) {
        self.noted.borrow_mut().events.push(format!("failed: {error}"));
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.noted.borrow_mut().events.push(format!("lost: {reason}"));
    }
}

/// Closes when the peer has ended.
pub(crate) fn idle(event: Event<'_>, transport: &mut Transport<'_>) {
    if let Event::Eof = event {
        transport.close();
    }
}

/// Leaves its half open when the peer has ended.
pub(crate) fn stays(_: Event<'_>, _: &mut Transport<'_>) {}

pub(crate) fn echo(event: Event<'_>, transport: &mut Transport<'_>) {
    match event {
        Event::Made => {}
        Event::Data(data) => transport.write(data),
        Event::Eof => transport.close(),
    }
}

/// With more turns in a row that do nothing, the loop counts as spinning.
const IDLE_TURNS_MAX: u64 = 6;

/// A server and a client, each on its own host.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) server_host: HostId,
    pub(crate) client_host: HostId,
    pub(crate) server: Noted,
    pub(crate) client: Noted,
    pub(crate) to: SocketAddr,
    /// What the owner of the listener was told.
    pub(crate) errors: Rc<RefCell<Vec<String>>>,
}

impl World {
    /// Creates one with a listener on `filtered`.
    pub(crate) fn new(seed: u64, faults: Faults, filtered: impl FnOnce(Listen) -> Listen, act: Act) -> World {
        let limits = Limits::default().with_filter_timeout(Some(300 * SECOND)).with_close_timeout(300 * SECOND);
        World::with_limits(seed, faults, limits, filtered, act)
    }

    pub(crate) fn with_limits(
        seed: u64,
        faults: Faults,
        limits: Limits,
        filtered: impl FnOnce(Listen) -> Listen,
        act: Act,
    ) -> World {
        let mut network = Network::new(seed, faults);
        network.set_tracing(false);
        let (server_host, client_host) =
            (network.host_with_limits(limits.clone()), network.host_with_limits(limits.clone()));
        let to = network.address(server_host, 443);
        let (server, client) = (Noted::default(), Noted::default());
        let (noted, errors) = (server.clone(), Rc::new(RefCell::new(Vec::new())));
        let factory = move |_: &mut Context<'_>, _: &Address| Some(Noting { noted: noted.clone(), act });
        let mut context = network.context(server_host);
        let id = context.listen(filtered(Listen::at(to)), factory).unwrap();
        let told = errors.clone();
        context.listener(id).unwrap().on_error(move |_, _, error| told.borrow_mut().push(error.to_string()));
        World { network, server_host, client_host, server, client, to, errors }
    }

    /// The usual one.
    pub(crate) fn of(config: ServerConfig, act: Act) -> World {
        World::new(1, Faults::none(), |listen| listen.filter(switchboard_tls::listen(Arc::new(config))), act)
    }

    pub(crate) fn dial(&mut self, config: &Arc<ClientConfig>, act: Act) -> ConnectionId {
        self.dial_to(config, NAME, act)
    }

    pub(crate) fn dial_to(&mut self, config: &Arc<ClientConfig>, name: &'static str, act: Act) -> ConnectionId {
        let name = name.try_into().unwrap();
        let connect = Connect::to(self.to).filter(switchboard_tls::connect(config.clone(), name));
        self.connect(connect, act)
    }

    pub(crate) fn connect(&mut self, connect: Connect, act: Act) -> ConnectionId {
        let protocol = Noting { noted: self.client.clone(), act };
        self.network.context(self.client_host).connect(connect, protocol).unwrap()
    }

    /// Connects a peer that the test controls.
    pub(crate) fn peer(&mut self) -> Peer {
        let peer = self.network.peer(self.to);
        self.rest();
        peer
    }

    /// Lets time pass.
    pub(crate) fn rest(&mut self) {
        self.network.run_for(SECOND);
        self.does_not_spin();
    }

    pub(crate) fn does_not_spin(&self) {
        let turns = self.network.turns_without_progress_most();
        assert!(turns <= IDLE_TURNS_MAX, "it spins: {turns} turns");
    }

    /// Does something to the server's connection.
    pub(crate) fn at_server(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        let id = self.server.borrow().id.unwrap();
        act(&mut self.network.context(self.server_host).connection(id).expect("it is there"));
        self.rest();
    }

    /// Does something to the client's.
    pub(crate) fn at_client(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        let id = self.client.borrow().id.unwrap();
        act(&mut self.network.context(self.client_host).connection(id).expect("it is there"));
        self.rest();
    }

    pub(crate) fn of_server<R>(&mut self, ask: impl FnOnce(&Tls) -> R) -> R {
        let id = self.server.borrow().id.unwrap();
        ask(self.network.context(self.server_host).connection(id).unwrap().filter::<Tls>().unwrap())
    }

    pub(crate) fn of_client<R>(&mut self, ask: impl FnOnce(&Tls) -> R) -> R {
        let id = self.client.borrow().id.unwrap();
        ask(self.network.context(self.client_host).connection(id).unwrap().filter::<Tls>().unwrap())
    }

    /// Takes what the server's and the client's protocols have recorded since the last call.
    pub(crate) fn events(&self) -> (Vec<String>, Vec<String>) {
        let take = |noted: &Noted| std::mem::take(&mut noted.borrow_mut().events);
        (take(&self.server), take(&self.client))
    }

    pub(crate) fn connections(&mut self) -> (usize, usize) {
        let count = |network: &mut Network, host| network.context(host).connection_count();
        (count(&mut self.network, self.server_host), count(&mut self.network, self.client_host))
    }
}

/// Compares data that may be long.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one == other
}

/// Bytes that are not all the same.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Completes the handshake of a pair within two seconds, and checks it at both ends.
pub(crate) fn made(version: &'static SupportedProtocolVersion, server_act: Act, client_act: Act) -> World {
    let mut world = World::of(server(version), server_act);
    world.dial(&Arc::new(client(version)), client_act);
    world.rest();
    assert_eq!(world.events(), (vec!["made".to_owned()], vec!["made".to_owned()]));
    world
}
