//! The first programs of the README and of the course, each as it is pasted. `tests/package.py` runs them.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod server;
#[allow(dead_code)]
mod timer;

const README: &str = include_str!("../../../README.md");
const COURSE: &str = include_str!("../../../examples/README.md");

#[test]
fn what_the_readme_shows_first_is_what_compiles() {
    let programs = [
        (README, include_str!("first/server.rs")),
        (COURSE, include_str!("first/client.rs")),
        (COURSE, include_str!("first/timer.rs")),
    ];
    for (page, program) in programs {
        assert!(page.contains(&format!("```rust\n{program}```\n")), "the page shows another program than\n{program}");
    }
}

#[test]
fn the_front_page_shows_the_first_program() {
    let shown: String = include_str!("first/server.rs")
        .lines()
        .map(|line| format!("//! {line}").trim_end().to_owned() + "\n")
        .collect();
    assert!(include_str!("../../../src/lib.rs").contains(&format!("//! ```no_run\n{shown}//! ```\n")));
}

/// It has to be the smallest useful server.
#[test]
fn the_echo_server_stays_short() {
    assert!(include_str!("../../../examples/echo_server.rs").lines().count() < 40);
}

/// Readers of the README would not find a feature without a row.
#[test]
fn the_readme_has_a_row_for_each_feature() {
    let manifest = include_str!("../../../Cargo.toml");
    let features = manifest.split_once("\n[features]\n").unwrap().1.split("\n[").next().unwrap();
    let names: Vec<&str> = features.lines().filter_map(|line| line.split_once(" = [")).map(|(name, _)| name).collect();
    assert!(names.contains(&"default") && names.contains(&"testing"));
    for name in names.iter().filter(|name| **name != "default") {
        assert!(README.contains(&format!("| `{name}` |")), "README.md has no row for the feature {name}");
    }
}
