//! The page of faults: its rows are numbered without gaps, and each names tests that exist or says why there are none;
//! and the costs of a peer in SECURITY.md.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::tidy::{is_packed, read, rust_files};

const PAGE: &str = "tests/faults.md";

/// The parts of the page, each with the number of its rows and of those that no test covers. These numbers change only
/// on purpose.
const PARTS: [(&str, usize, usize); 2] = [("Faults", 129, 6), ("Scenarios", 122, 4)];

/// How the last cell of a row begins that no test covers. The reason follows.
const NOT_HELD: &str = "not held: ";

struct Row {
    section: String,
    number: usize,
    cells: Vec<String>,
}

/// The rows of a part whose first cell is a section and a number, such as `A1` or `L-1`.
fn rows(part: &str) -> Vec<Row> {
    let page = read(PAGE);
    let begin = format!("\n## {part}\n");
    let text = page.split_once(&begin).unwrap_or_else(|| panic!("{PAGE} has no part {part}")).1;
    let text = text.split("\n## ").next().unwrap();
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.map(|row| row.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let numbered = rows.filter_map(|cells| {
        let digits = cells[0].find(|c: char| c.is_ascii_digit())?;
        let (section, number) = cells[0].split_at(digits);
        let number = number.parse().unwrap_or_else(|error| panic!("{PAGE}: {}: {error}", cells[0]));
        Some(Row { section: section.to_owned(), number, cells })
    });
    numbered.collect()
}

/// The names of all functions that are tests.
fn tests() -> HashSet<String> {
    let mut found = HashSet::new();
    for file in ["src", "tests", "companions", "examples"].into_iter().flat_map(rust_files) {
        let mut is_test = false;
        for line in read(&file).lines().map(str::trim_start) {
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
                found.extend(is_test.then(|| name.to_owned()));
            }
            is_test = line == "#[test]" || is_test && line.starts_with("#[");
        }
    }
    found
}

/// The text in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns whether this is a page of the guide and, after `#`, one of its headings, above an example that must not
/// compile.
fn is_refused_example(name: &str) -> bool {
    let Some((page, heading)) = name.split_once('#') else { return false };
    let below = page.starts_with("src/guide/").then(|| read(page));
    let below = below.as_ref().and_then(|text| text.split_once(&format!("\n# {heading}")));
    below.is_some_and(|(_, below)| below.split("\n# ").next().is_some_and(|below| below.contains("```compile_fail,E")))
}

fn is_script(name: &str) -> bool {
    let path = Path::new(name);
    let is_python = path.extension().is_some_and(|extension| extension == "py");
    path.starts_with("tests/real") && is_python && Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file()
}

#[test]
fn guide_every_fault_has_its_number_and_all_that_is_not_held_is_counted() {
    if is_packed() {
        return;
    }
    for (part, count, not_held) in PARTS {
        let rows = rows(part);
        let sections: BTreeSet<_> = rows.iter().map(|row| &row.section).collect();
        for section in sections {
            let numbers: Vec<_> = rows.iter().filter(|row| row.section == *section).map(|row| row.number).collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len()), "{PAGE}: section {section} has {numbers:?}");
        }
        let open: Vec<_> = rows.iter().filter(|row| row.cells.last().unwrap().starts_with(NOT_HELD)).collect();
        let open: Vec<_> = open.iter().map(|row| row.cells[0].as_str()).collect();
        println!("{part}: {} rows, not held: {open:?}", rows.len());
        assert_eq!((rows.len(), open.len()), (count, not_held), "{PAGE}: {part}: not held are {open:?}");
    }
}

#[test]
fn guide_every_fault_is_held_by_tests_that_exist_or_says_why_not() {
    if is_packed() {
        return;
    }
    let tests = tests();
    for row in PARTS.iter().flat_map(|(part, ..)| rows(part)) {
        let (number, held_by) = (&row.cells[0], row.cells.last().unwrap());
        assert!(row.cells.iter().all(|cell| !cell.is_empty()), "{PAGE}: {number} has an empty cell");
        assert!(quoted(held_by).next().is_some() || held_by.starts_with(NOT_HELD), "{PAGE}: {number} names no test");
        for name in quoted(held_by) {
            let is_there = tests.contains(name) || is_script(name) || is_refused_example(name);
            assert!(is_there, "{PAGE}: {number}: there is no {name}");
        }
    }
}

#[test]
fn guide_what_a_peer_can_cost_is_held_by_tests_that_exist() {
    if is_packed() {
        return;
    }
    let (page, tests) = (read("SECURITY.md"), tests());
    let section =
        page.split("\n## What one peer can cost\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).skip(2);
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.split(" | ").collect();
        assert!(cells.len() == 5 && quoted(cells[4]).next().is_some(), "SECURITY.md: {} names no test", cells[0]);
        for name in quoted(cells[4]) {
            assert!(tests.contains(name) || is_script(name), "SECURITY.md: {}: there is no {name}", cells[0]);
        }
        count += 1;
    }
    println!("{count} rows");
    assert!(count > 15, "SECURITY.md has only {count} rows of what a peer can cost");
}
