//! What the guide says about the test kit: each row names a test that exists, or says that something is missing.

use crate::tidy::{read, rust_files};

const PAGE: &str = "src/guide/test_kits.md";

/// The cells of each row with `cells` cells in a page's tables, except headings.
fn rows(page: &str, cells: usize) -> Vec<Vec<String>> {
    let text = read(page);
    let rows = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = rows.filter(|row| !row.starts_with(" ---") && !row.starts_with(" |") && !row.starts_with(" modelled"));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .filter(|row| row.len() == cells)
        .collect()
}

/// The text in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns whether this is a test, a script of the differential tests, or a public trait.
fn exists(sources: &[String], name: &str) -> bool {
    let forms = [format!("fn {name}() {{"), format!("\n    {name}:"), format!("\npub trait {name}")];
    sources.iter().any(|source| forms.iter().any(|form| source.contains(form)))
}

fn sources() -> Vec<String> {
    ["src", "tests"].into_iter().flat_map(rust_files).map(|file| read(&file)).collect()
}

#[test]
fn guide_each_row_about_this_kit_names_a_test_that_is_there() {
    let sources = sources();
    let rows = rows(PAGE, 8);
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let (what, ours, held_by) = (&row[0], &row[1], &row[7]);
        if held_by == "—" {
            assert_eq!(ours, "no", "{what}: what this kit has is held by a test");
            continue;
        }
        let names = quoted(held_by);
        assert!(!names.is_empty(), "{what} is held by nothing");
        for name in names {
            assert!(exists(&sources, name), "{PAGE}: {what}: there is no {name}");
        }
        assert!(row[2..7].iter().any(|cell| !cell.is_empty()), "{what}: nothing stands beside it");
    }
}

#[test]
fn guide_what_is_compared_with_linux_names_scripts_that_are_there() {
    let scripts = ["scripts", "unix_datagrams"].map(|file| read(format!("src/tests/differential/{file}.rs"))).concat();
    // A script's name begins with the number of the rule that it is about.
    let is_script =
        |name: &&str| name.as_bytes().get(1..3).is_some_and(|two| two[0].is_ascii_digit() && two[1] == b'_');
    let rows = rows("src/guide/testing.md", 2);
    let names: Vec<_> = rows.iter().flat_map(|row| quoted(&row[1])).filter(is_script).collect();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        assert!(scripts.contains(&format!("\n    {name}:")), "there is no script {name}");
    }
}

#[cfg(all(unix, feature = "testing"))]
#[test]
fn kit_what_a_simulated_loop_has_not_fails_as_unsupported() {
    use mio::Interest;
    use std::io::{self, ErrorKind};
    use switchboard::testing::{Faults, Network};
    use switchboard::{Listen, SourceAction};

    use crate::support::Echo;

    fn unsupported<T: std::fmt::Debug>(outcome: io::Result<T>) {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
    }

    let mut network = Network::new(0, Faults::none());
    let host = network.host();
    let address = network.address(host, 7);
    let mut context = network.context(host);
    unsupported(context.listen(Listen::from(address).reuse_port(true), |_, _| Some(Echo)));
    let (_, receiver) = mio::unix::pipe::new().unwrap();
    unsupported(context.register(receiver, Interest::READABLE, |_, _, _| SourceAction::Wait));
    assert_eq!((context.connection_count(), network.sockets()), (0, 0));
}
