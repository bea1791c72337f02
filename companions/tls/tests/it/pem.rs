//! Configurations from PEM files, and the errors for bad ones.

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use switchboard_tls::{PemError, roots, server_config};

use super::kit::{self, *};

/// A separate folder for each test, with the files that it writes.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("switchboard-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_and_a_client_are_made_from_files() {
    let folder = Folder::new("good");
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let both = folder.file("both.pem", &format!("a note\n{}{}", made.signing_key.serialize_pem(), made.cert.pem()));
    let of_server = server_config(provider(), &both, &both).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    // It is trusted itself, which is enough.
    let of_client = builder.with_root_certificates(roots(&both).unwrap()).with_no_client_auth();
    let mut world = World::of(of_server, echo);
    world.dial(&Arc::new(of_client), idle);
    world.rest();
    assert_eq!(world.events().1, ["made"]);
}

#[test]
fn each_file_that_is_at_fault_is_named_at_once_with_what_is_wrong() {
    let folder = Folder::new("bad");
    let identity = &identities().server;
    let chain = folder.file("chain.pem", &identity.certificate_pem);
    let key = folder.file("key.pem", &identity.key_pem);
    let missing = folder.0.join("missing.pem");
    let text = folder.file("text.pem", "this is not it\n");
    let torn = folder.file("torn.pem", &identity.certificate_pem[..identity.certificate_pem.len() / 2]);
    let torn_key = folder.file("torn_key.pem", &identity.key_pem.replace("\nM", "\n*"));
    let other_key = folder.file("other_key.pem", &identities().renewed.key_pem);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let garbage = folder.file("garbage.pem", garbage);
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let no_key = folder.file("no_key.pem", no_key);
    let cases = [
        (&missing, &key, "cannot read ", &missing),
        (&chain, &missing, "cannot read ", &missing),
        (&folder.0, &key, "cannot read ", &folder.0),
        (&text, &key, "no certificate in ", &text),
        (&key, &key, "no certificate in ", &key),
        (&chain, &text, "no private key in ", &text),
        (&chain, &chain, "no private key in ", &chain),
        (&torn, &key, " is not PEM: ", &torn),
        (&chain, &torn_key, " is not PEM: ", &torn_key),
        (&garbage, &key, "a bad certificate in ", &garbage),
        (&chain, &no_key, "a bad private key in ", &no_key),
        (&chain, &other_key, "does not belong to the private key in ", &other_key),
    ];
    for (chain, key, why, which) in cases {
        let error = server_config(provider(), chain, key).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(why) && said.contains(&format!("{which:?}")), "{said}");
        assert!(error.source().is_none_or(|source| source.to_string() != said));
    }
    for (file, why) in [(&missing, "cannot read "), (&text, "no certificate in "), (&garbage, "a bad certificate in ")]
    {
        let said = roots(file).unwrap_err().to_string();
        assert!(said.contains(why) && said.contains(&format!("{file:?}")), "{said}");
    }
}

#[test]
fn a_provider_without_anything_is_told_at_once() {
    let folder = Folder::new("provider");
    let identity = &identities().server;
    let chain = folder.file("chain.pem", &identity.certificate_pem);
    let key = folder.file("key.pem", &identity.key_pem);
    let nothing = CryptoProvider { cipher_suites: vec![], ..(*kit::provider()).clone() };
    let error = server_config(Arc::new(nothing), chain, key).unwrap_err();
    assert!(matches!(error, PemError::BadProvider(_)), "{error}");
}
