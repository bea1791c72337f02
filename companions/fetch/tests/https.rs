//! `https:` URLs, from blocking servers with a certificate for `localhost` and a given answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{fs, thread};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

const BODY: &str = "HTTP/1.0 200 OK\r\n\r\nthe page, which is whole when its end was said";

/// A server's certificate, also in a file, and the folder for what was fetched.
struct Scene {
    folder: tempfile::TempDir,
    config: Arc<ServerConfig>,
}

/// How a connection ends after its answer.
#[derive(Clone, Copy)]
enum End {
    Said,
    CutOff,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        Scene { folder, config: Arc::new(config) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Sends this answer on each connection, until the test ends.
    fn serve(&self, answer: String, end: End) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, config) = (listener.local_addr().unwrap(), self.config.clone());
        thread::spawn(move || {
            for plain in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, plain.unwrap());
                // A client that does not trust this server sends no request.
                if !read_request(&mut stream) || stream.write_all(answer.as_bytes()).is_err() {
                    continue;
                }
                if let End::Said = end {
                    stream.conn.send_close_notify();
                }
                // Reading on: a socket with unread input would be reset.
                let _ = stream.flush().and_then(|()| stream.sock.shutdown(std::net::Shutdown::Write));
                let _ = stream.sock.read_to_end(&mut Vec::new());
            }
        });
        address
    }

    /// Returns whether it succeeded, and what it printed on stdout and stderr.
    fn fetch(&self, url: &str, change: impl FnOnce(&mut Command)) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fetch"));
        change(command.args(["--timeout=20", url]).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR"));
        let done = command.output().unwrap();
        let [printed, error] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap());
        (done.status.success(), printed, error)
    }

    fn fetch_trusting(&self, url: &str, ca: &Path) -> (bool, String, String) {
        self.fetch(url, |command| _ = command.arg(format!("--ca={}", ca.display())))
    }
}

fn read_request(stream: &mut impl Read) -> bool {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => request.extend(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
    true
}

#[test]
fn fetch_an_https_page_is_whole_when_its_end_was_said() {
    let scene = Scene::new("localhost");
    let port = scene.serve(BODY.to_owned(), End::Said).port();
    let (succeeds, printed, error) = scene.fetch_trusting(&format!("https://localhost:{port}/"), &scene.ca());
    assert!(succeeds && BODY.ends_with(&printed) && printed.len() > 40, "{printed:?}, {error}");
}

#[test]
fn fetch_an_https_page_that_was_cut_off_is_an_error_and_no_file() {
    let scene = Scene::new("localhost");
    let port = scene.serve(BODY.to_owned(), End::CutOff).port();
    let file = scene.folder.path().join("page");
    let ca = format!("--ca={}", scene.ca().display());
    let (succeeds, _, error) =
        scene.fetch(&format!("https://localhost:{port}/"), |command| _ = command.arg(&file).arg(ca));
    assert!(!succeeds && error.contains("the stream was truncated"), "{error}");
    assert!(!file.exists());
}

#[test]
fn fetch_an_address_and_a_name_are_checked() {
    let (named, numbered) = (Scene::new("localhost"), Scene::new("127.0.0.1"));
    let ports = [&named, &numbered].map(|scene| scene.serve(BODY.to_owned(), End::Said).port());
    for (scene, port, host, expected) in [
        (&named, ports[0], "localhost", true),
        (&named, ports[0], "127.0.0.1", false),
        (&numbered, ports[1], "127.0.0.1", true),
        (&numbered, ports[1], "localhost", false),
    ] {
        let (succeeds, printed, error) = scene.fetch_trusting(&format!("https://{host}:{port}/"), &scene.ca());
        assert_eq!(succeeds, expected, "{host}: {error}");
        assert!(expected || printed.is_empty() && error.contains("invalid peer certificate"), "{printed:?}, {error}");
    }
}

#[test]
fn fetch_trusts_the_system_or_the_file_that_it_is_given() {
    let (scene, other) = (Scene::new("localhost"), Scene::new("localhost"));
    let url = format!("https://localhost:{}/", scene.serve(BODY.to_owned(), End::Said).port());
    let (succeeds, _, error) = scene.fetch_trusting(&url, &other.ca());
    assert!(!succeeds && error.contains("invalid peer certificate"), "{error}");
    // OpenSSL's variable for the system's certificates: with this one, without it, and with another one instead.
    let with = |ca: &Path, rest: &str| {
        scene.fetch(&url, |command| _ = command.env("SSL_CERT_FILE", ca).args(rest.split_whitespace()))
    };
    assert!(with(&scene.ca(), "").0);
    let (succeeds, _, error) = with(&other.ca(), "");
    assert!(!succeeds && error.contains("invalid peer certificate"), "{error}");
    assert!(with(&other.ca(), &format!("--ca={}", scene.ca().display())).0);
    let (succeeds, _, error) = with(Path::new("/no/such.pem"), "");
    assert!(!succeeds && error.contains("no trusted certificates"), "{error}");
}

#[test]
fn fetch_a_redirect_leads_to_https_and_not_away_from_it() {
    let scene = Scene::new("localhost");
    let redirect = |to: &str| format!("HTTP/1.0 302 Found\r\nLocation: {to}\r\n\r\n");
    let page = format!("https://localhost:{}/", scene.serve(BODY.to_owned(), End::Said).port());
    let there = format!("https://localhost:{}/", scene.serve(redirect(&page), End::Said).port());
    let (succeeds, printed, error) = scene.fetch_trusting(&there, &scene.ca());
    assert!(succeeds && BODY.ends_with(&printed) && printed.len() > 40, "{printed:?}, {error}");

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    plain.set_nonblocking(true).unwrap();
    let away = format!("http://{}/", plain.local_addr().unwrap());
    let url = format!("https://localhost:{}/", scene.serve(redirect(&away), End::Said).port());
    let (succeeds, _, error) = scene.fetch_trusting(&url, &scene.ca());
    assert!(!succeeds && error.contains(&format!("a redirect to {away} is not followed: it leaves https:")), "{error}");
    assert_eq!(plain.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it was asked");
}
