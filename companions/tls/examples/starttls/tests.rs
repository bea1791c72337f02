// A client that uses STARTTLS, on a network that loses and delays packets; and one that sends too much.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use switchboard::framing::{LineEnding, LineHandler, LineReceiver};
use switchboard::testing::{Faults, Harness, Network, seeds};
use switchboard::workers::WorkerPool;
use switchboard::{CloseReason, Transport};
use switchboard_tls::{Reloadable, Tls};

use super::smtp_server::smtp::Spool;
use super::smtp_server::{Client, Shared};

const COMMANDS: [&str; 8] =
    ["EHLO x", "STARTTLS", "MAIL FROM:<a@b>", "EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "hello\r\n."];

const CODES: [&str; 9] = ["220", "250", "220", "503", "250", "250", "250", "354", "250"];

/// Both sides' configurations. Ed25519's signatures all have the same length, so the same seed gives the same run.
fn configurations() -> (Reloadable, Arc<ClientConfig>) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let (chain, key) = (vec![certificate.der().clone()], key.serialize_der().try_into().unwrap());
    let server = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = builder.with_root_certificates(roots).with_no_client_auth();
    (Reloadable::new(Arc::new(server)), Arc::new(client))
}

fn shared(config: Reloadable) -> Rc<Shared> {
    let spool = Arc::new(Spool::new(None).unwrap());
    let writers = WorkerPool::new(NonZeroUsize::MIN, 100);
    Rc::new(Shared { spool, writers, timeout: Duration::from_secs(300), starttls: Some(super::starttls(config)) })
}

/// What a client has received: codes, whether STARTTLS was offered at each EHLO, and its end.
#[derive(Default)]
struct Heard {
    codes: Vec<String>,
    offers: Vec<bool>,
    lost: Option<String>,
}

/// Sends one command after the other, each when the one before is answered.
struct Mailer {
    config: Arc<ClientConfig>,
    heard: Rc<RefCell<Heard>>,
    offers: bool,
}

impl LineHandler for Mailer {
    fn line_received(&mut self, transport: &mut Transport<'_>, line: &[u8]) {
        let line = std::str::from_utf8(line).unwrap();
        self.offers |= line.contains("STARTTLS");
        if line.as_bytes()[3] == b'-' {
            return;
        }
        let mut heard = self.heard.borrow_mut();
        heard.codes.push(line[..3].to_owned());
        let said = heard.codes.len() - 1;
        if said > 0 && COMMANDS[said - 1] == "EHLO x" {
            heard.offers.push(std::mem::take(&mut self.offers));
        }
        if said > 0 && COMMANDS[said - 1] == "STARTTLS" {
            assert!(transport.set_filter(Tls::client(self.config.clone(), "localhost".try_into().unwrap())));
        }
        match COMMANDS.get(said) {
            Some(command) => transport.write(format!("{command}\r\n").as_bytes()),
            None => transport.close(),
        }
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        self.heard.borrow_mut().lost = Some(reason.to_string());
    }
}

/// Makes a client send a mail to a server on a network with all faults, and returns what it has received.
fn send(seed: u64, shared: &Rc<Shared>, config: &Arc<ClientConfig>) -> Heard {
    let mut network = Network::new(seed, Faults::all());
    let [server, client] = [(); 2].map(|()| network.host());
    let address = network.address(server, 25);
    let shared = shared.clone();
    network.context(server).listen(address, move |_, _| Some(Client::protocol(&shared))).unwrap();
    let heard = Rc::new(RefCell::new(Heard::default()));
    let mailer = Mailer { config: config.clone(), heard: heard.clone(), offers: false };
    let mailer = LineReceiver::new(mailer).line_ending(LineEnding::CrLf);
    network.context(client).connect(address, mailer).unwrap();
    assert!(network.run_until(|_| heard.borrow().lost.is_some()), "it is over");
    heard.take()
}

#[test]
fn a_mail_is_taken_over_starttls_whatever_the_network_does() {
    let (config, of_client) = configurations();
    seeds(|seed| {
        let heard = send(seed, &shared(config.clone()), &of_client);
        assert_eq!((&*heard.codes, heard.lost.as_deref()), (&CODES.map(str::to_owned)[..], Some("closed by us")));
        assert_eq!(heard.offers, [true, false], "before TLS, and not behind it");
    });
}

#[test]
fn a_certificate_that_was_renewed_is_the_one_that_starttls_shows() {
    let [(config, before), (renewed, after)] = [(); 2].map(|()| configurations());
    let shared = shared(config.clone());
    let is_served = |of_client| send(0, &shared, of_client).codes.len() == CODES.len();
    assert_eq!((is_served(&before), is_served(&after)), (true, false));
    config.set(renewed.get());
    assert_eq!((is_served(&before), is_served(&after)), (false, true));
}

#[test]
fn what_is_said_behind_starttls_in_the_clear_ends_the_session() {
    let mut harness = Harness::new(Client::protocol(&shared(configurations().0)));
    harness.feed(b"EHLO x\r\nSTARTTLS\r\nRSET\r\n");
    let lost = harness.lost().expect("it is over").to_string();
    assert!(lost.contains("input arrived before the filter"), "{lost}");
}
