//! The sizes that keep the code readable: of the loop's types, and of what must be read to understand it.

use super::tidy::{code, read, rust_files};

/// How many methods a type of the loop has, in all files.
fn methods(of: &str) -> usize {
    let mut count = 0;
    // What tests alone look at is no part of it.
    for file in rust_files("src/event_loop").into_iter().filter(|file| !file.ends_with("/inspect.rs")) {
        let code = code(&file);
        for block in code.split(&format!("\nimpl {of} {{")).skip(1) {
            let end = block.find("\n}").expect("an impl ends");
            let methods = block[..end].lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
            count += methods.filter(|line| line.contains("fn ")).count();
        }
    }
    count
}

/// How many fields a struct has.
fn fields(file: &str, of: &str) -> usize {
    let code = code(file);
    let (_, block) = code.split_once(&format!("struct {of} {{")).expect("it is there");
    block[..block.find("\n}").expect("a struct ends")].lines().filter(|line| line.contains(": ")).count()
}

#[test]
fn no_type_of_the_loop_is_all_of_it() {
    let (core, parts) = (methods("Core"), methods("Parts"));
    println!("Core has {core} methods, Parts {parts}");
    assert!((80..=120).contains(&core), "Core has {core} methods: can one of them do without user code?");
    assert!((80..=160).contains(&parts), "Parts has {parts} methods: does one of them need one part only?");
    assert!((1..=4).contains(&fields("src/event_loop/core.rs", "Core")));
    assert!((8..=16).contains(&fields("src/event_loop/parts.rs", "Parts")));
}

/// The files that ARCHITECTURE.md names for an evening's reading.
fn reading_list() -> Vec<String> {
    let page = read("ARCHITECTURE.md");
    let (_, list) = page.split_once("**An evening's reading**").expect("it is there");
    let list = &list[..list.find("Each\nother file").expect("it ends")];
    let mut folder = String::new();
    let mut files = Vec::new();
    for name in list.split('`').filter(|name| name.ends_with(".rs")) {
        let file = match name.rsplit_once('/') {
            Some((of, _)) => {
                folder = format!("src/{of}");
                format!("src/{name}")
            }
            None if name == "protocol.rs" => format!("src/{name}"),
            None => format!("{folder}/{name}"),
        };
        files.push(file);
    }
    files
}

#[test]
fn what_an_evening_is_to_be_enough_for_is_4_000_lines() {
    let files = reading_list();
    assert!(files.len() > 10, "{files:?}");
    let lines = |file: &String| code(file).lines().filter(|line| !line.trim().is_empty()).count();
    let sum: usize = files.iter().map(lines).sum();
    println!("{sum} lines of code in {} files", files.len());
    assert!((2000..=4000).contains(&sum), "{sum} lines");
}

#[test]
fn one_file_changes_the_state_of_a_connection_and_one_the_sum_of_what_is_queued() {
    for (what, only_in) in
        [("self.state = ", "src/connection/life.rs"), ("self.0 = self.0 + after", "src/connection/outbox.rs")]
    {
        let folder = ["src/connection", "src/event_loop"].map(rust_files).concat();
        let places: Vec<_> = folder.iter().filter(|file| code(file).contains(what)).collect();
        assert_eq!(places, [only_in], "{what:?}");
    }
}

#[test]
fn the_tests_of_each_room_are_found_by_its_name() {
    let page = read("src/tests/mod.rs");
    let (_, table) = page.split_once("| room | its tests |").expect("it is there");
    let table = &table[..table.find("\n\n").expect("it ends")];
    let mut named: Vec<_> = table.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let mut there: Vec<_> = rust_files("src/tests")
        .iter()
        .map(|file| file.trim_start_matches("src/tests/").trim_end_matches(".rs"))
        .map(|name| name.split('/').next().expect("it has a first part").to_owned())
        .filter(|name| name != "mod")
        .collect();
    named.sort();
    there.sort();
    there.dedup();
    assert_eq!(named, there, "on the page, and in src/tests");
}

#[test]
fn the_pages_that_are_read_first_are_short() {
    let words = read("ARCHITECTURE.md").split_whitespace().count();
    assert!((1000..=2000).contains(&words), "ARCHITECTURE.md has {words} words");
    let lines = read("README.md").lines().count();
    assert!((50..=150).contains(&lines), "README.md has {lines} lines");
}
