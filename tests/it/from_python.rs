//! The table "coming from Python" has a row for everything that the socket tutorial teaches, and its examples exist.
//!
//! rustdoc checks the links of the rows, since a broken link is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tidy::{code, is_packed, programs, read};

/// Everything that the tutorial names: its functions, constants, classes and methods.
const IDEAS: &str = "
    gethostname gethostbyname gethostbyname_ex gethostbyaddr getfqdn getservbyname getprotobyname
    inet_aton inet_ntoa htons htonl ntohs ntohl INADDR_ANY INADDR_LOOPBACK INADDR_BROADCAST
    socket(family,type,proto) AF_INET AF_UNIX SOCK_STREAM SOCK_DGRAM SOCK_RAW fromfd fileno close
    shutdown(0) shutdown(1) shutdown(2)
    bind listen(backlog) SOMAXCONN IPPORT_RESERVED accept connect connect_ex
    send sendto recv recvfrom MSG_OOB MSG_DONTROUTE MSG_PEEK makefile
    getpeername getsockname setblocking setsockopt getsockopt SO_SNDBUF IP_TTL
    TCPServer UDPServer UnixStreamServer UnixDatagramServer ForkingMixIn ThreadingMixIn
    BaseRequestHandler setup handle finish request client_address server StreamRequestHandler DatagramRequestHandler
    rfile wfile serve_forever handle_request server_bind server_activate get_request verify_request process_request
    finish_request handle_error server.fileno address_family server_address
    forking threading select poll readable writable exceptional
    reactor reactor.run reactor.listenTCP Protocol connectionMade dataReceived connectionLost Factory transport
    transport.write transport.client LineReceiver lineReceived rawDataReceived
    urlopen read readline readlines urlretrieve urlcleanup
    IPPROTO_TCP TCP_NODELAY SO_LINGER asyncore.dispatcher asyncore.loop asynchat.async_chat set_terminator
    IMAP POP3 SMTP NNTP IRC DNS FTP Telnet deferToThread
    HTTPBasicAuthHandler HTTPDigestAuthHandler HTTPCookieProcessor
";

/// What else it teaches, in words.
const WORDS: &[&str] = &[
    "a UDP socket connected",
    "asynchronous I/O",
    "the count that send returns",
    "the bound of recv(n)",
    "a mail server in threads",
    "twistd --pidfile",
    "twistd --logfile",
    "twistd --nodaemon",
    "twistd --uid",
    "urlretrieve without a name",
    "a link found by its text",
    "a chat room",
    "timeout none",
    "timeout zero",
    "timeout some",
    "reactors by platform",
    "reactor and application",
    "urlopen of file:",
    "close of a page",
    // The tutorial's own mistakes.
    "a busy loop",
    "time.sleep(25) between partial sends",
    "getpeername on a lost connection",
    "a disconnected socket never closed",
    "listen(1) as a promise",
    "one exception ends the server",
    "what a client sends goes to the terminal raw",
];

const PROGRAMS: usize = 16;

struct Row {
    there: String,
    here: String,
    examples: Vec<String>,
    different: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The words in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("src/guide/from_python.md")).unwrap();
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let rows = lines.filter(|line| !line.starts_with("| there |")).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [there, here, examples, different] = cells[..] else { panic!("not four cells: {line}") };
        Row {
            there: there.replace('`', ""),
            here: here.to_owned(),
            examples: names(examples),
            different: different.to_owned(),
        }
    });
    rows.collect()
}

#[test]
fn guide_everything_that_the_tutorial_teaches_has_a_row() {
    let rows = rows();
    // A cell with commas lists several; one whose name has them counts as a whole, too.
    let listed = rows.iter().flat_map(|row| row.there.split(", ").map(str::to_owned));
    let whole = rows.iter().map(|row| row.there.replace(", ", ","));
    let there: BTreeSet<_> = listed.chain(whole).collect();
    let missing: Vec<_> =
        IDEAS.split_whitespace().chain(WORDS.iter().copied()).filter(|idea| !there.contains(*idea)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

#[test]
fn guide_every_program_of_the_tutorial_has_its_examples() {
    let rows = rows();
    for number in 1..=PROGRAMS {
        let of: Vec<_> = rows.iter().filter(|row| row.there.starts_with(&format!("program {number}: "))).collect();
        assert!(of.len() == 1 && !of[0].examples.is_empty(), "program {number} has no row, or no example");
    }
}

#[test]
fn guide_every_row_says_what_it_is_here_or_why_it_is_not() {
    for row in rows() {
        let has_link = row.here.contains("](crate::") || row.here.contains("](std::") || row.here.contains("](u");
        let has_name = row.here == "a closure that makes protocols";
        let has_reason = row.different.starts_with("Absent") || row.different.starts_with("Not the loop's");
        assert!(has_link || has_name || has_reason, "{}: neither a link nor a reason", row.there);
        assert!(row.here != "—" || has_reason, "{}: no reason", row.there);
    }
}

/// The picture of a connection's life names its beginning, its callbacks, and its end.
#[test]
fn guide_the_picture_names_the_callbacks() {
    let picture = fs::read_to_string(root().join("src/guide/life_of_a_connection.svg")).unwrap();
    for name in ["connection_made", "data_received", "eof_received", "connection_lost", "connect_failed"] {
        assert!(picture.contains(&format!("{name}</text>")), "{name} is not in the picture");
    }
    assert!(!picture.contains("\n\n"), "an empty line ends the picture in the page it is put into");
}

#[test]
fn guide_every_example_that_a_row_names_exists() {
    let programs: Vec<_> = programs().into_iter().map(|(name, _)| name).collect();
    for row in rows() {
        for name in &row.examples {
            // Separate packages are not packed.
            let is_left_out = is_packed() && (name == "fetch" || name.starts_with("tls_") || name.ends_with("_tls"));
            assert!(programs.contains(name) || is_left_out, "{}: no example {name}", row.there);
        }
    }
}

/// A row's example shows what the row links: its code has one of those names.
#[test]
fn guide_every_example_that_a_row_names_uses_what_the_row_links() {
    let programs: BTreeMap<_, _> = programs().into_iter().collect();
    let mut seen = 0;
    for row in rows() {
        let linked = linked(&row.here);
        for name in row.examples.iter().filter(|_| !linked.is_empty()) {
            let Some(file) = programs.get(name) else { continue };
            let code: String = modules(file).iter().map(|file| code(file) + "\n").collect();
            let words: BTreeSet<_> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            // The method that sets a field is named `with_` and the field.
            let is_used = |name: &&String| words.contains(name.as_str()) || words.contains(&*format!("with_{name}"));
            assert!(linked.iter().any(|name| is_used(&name)), "{}: {name} has none of {linked:?}", row.there);
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} were looked at");
}

/// The last names of what a cell links, such as `write` of `crate::Transport::write`.
fn linked(cell: &str) -> Vec<String> {
    let targets = cell.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter_map(|target| target.rsplit("::").next()).map(|name| name.trim_end_matches('(').to_owned()).collect()
}

/// A program's file and those of its modules, except tests.
fn modules(file: &str) -> BTreeSet<String> {
    let (mut found, mut next) = (BTreeSet::new(), vec![PathBuf::from(file)]);
    while let Some(file) = next.pop() {
        if found.insert(file.to_str().expect("names are plain").replace('\\', "/")) {
            next.extend(modules_of(&file));
        }
    }
    found
}

/// Those that a file itself declares, wherever they are.
fn modules_of(file: &Path) -> Vec<PathBuf> {
    let (folder, below) = (file.parent().expect("it is in one"), file.with_extension(""));
    let (text, mut found) = (read(file), Vec::new());
    let (mut path, mut is_test) = (None, false);
    for line in text.lines().filter(|line| !line.starts_with("//")) {
        if let Some(attribute) = line.strip_prefix("#[") {
            is_test |= attribute.starts_with("cfg(") && attribute.contains("test");
            path = attribute.strip_prefix("path = \"").and_then(|path| path.split('"').next()).or(path);
            continue;
        }
        if let Some(name) = line.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';')) {
            let file = format!("{name}.rs");
            let unnamed = [folder.join(&file), folder.join(name).join("mod.rs"), below.join(&file)];
            let candidates = path.map_or(unnamed.to_vec(), |path| vec![folder.join(path)]);
            found.extend(candidates.into_iter().find(|file| !is_test && root().join(file).exists()));
        }
        (path, is_test) = (None, false);
    }
    found
}
