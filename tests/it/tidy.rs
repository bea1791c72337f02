//! What ARCHITECTURE.md, README.md and the manifest promise of the crate's shape.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether this is the package, as it was published, and not the repository: cargo has kept the manifest as it was written
/// beside its own. What drives the examples and uses the crate from outside is not there.
pub(crate) fn is_packed() -> bool {
    root().join("Cargo.toml.orig").exists()
}

/// All Rust files below a folder of the repository, by their paths in it.
pub(crate) fn rust_files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What was built there is nobody's text.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// Where code is.
const FOLDERS: [&str; 5] = ["src", "examples", "companions", "tests", "benches"];

/// The programs that show the crate, by their names: the examples, and those that are packages of their own for the crates
/// they need, which are of the repository alone.
pub(crate) fn programs() -> Vec<(String, String)> {
    let named = |file: String| {
        let parts: Vec<_> = file.split('/').collect();
        let name = match parts[..] {
            ["examples", name] => name.strip_suffix(".rs")?.to_owned(),
            ["companions", name, "src", "main.rs"] => name.to_owned(),
            ["companions", _, "examples", name] => name.strip_suffix(".rs")?.to_owned(),
            _ => return None,
        };
        Some((name, file))
    };
    ["examples", "companions"].into_iter().flat_map(rust_files).filter_map(named).collect()
}

/// Whole programs that see what any other crate sees, by their names.
fn programs_from_outside() -> impl Iterator<Item = String> {
    let name = |file: String| match file.split('/').collect::<Vec<_>>()[..] {
        ["tests", "outsider", "examples", name] => Some(name.strip_suffix(".rs")?.to_owned()),
        _ => None,
    };
    rust_files("tests/outsider/examples").into_iter().filter_map(name)
}

/// The code of a file: without its comments, and without its tests at the end.
pub(crate) fn code(file: &str) -> String {
    let text = read(file);
    let end = text.find("mod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Which layer a file belongs to, from the bottom up.
fn layer(file: &str) -> Option<&'static str> {
    let name = file.strip_prefix("src/")?;
    Some(match name.split_once('/').unwrap_or(("", name)) {
        ("tests" | "guide", _) | ("", "lib.rs") => return None,
        ("sys", _) => "sys",
        ("event_loop", _) | ("listener", "feeder.rs") | ("threads", "completion.rs" | "handle.rs") => "loop",
        ("time", "deadlines.rs") => "time",
        ("connection", "gathered.rs" | "input.rs" | "output.rs" | "read_buffer.rs" | "shared_log.rs")
        | ("listener", "lingering.rs" | "peers.rs")
        | ("connect", "mod.rs" | "backoff.rs")
        | ("health" | "rate" | "threads" | "time", _)
        | ("", "address.rs" | "escape.rs" | "ids.rs" | "limits.rs" | "reason.rs") => "data",
        // Conveniences, as framing is.
        ("connect", "reconnect.rs") | ("", "endpoint.rs") | ("workers", "pool.rs") => "framing",
        ("framing" | "proxy" | "server", _) => "framing",
        ("connection" | "connect" | "datagram" | "filter" | "listener", _) | ("", "protocol.rs") => "machines",
        ("signals" | "service", _) => "process",
        ("testing", _) => "testing",
        // Conveniences too, of several loops; they make the sockets that share a port.
        ("workers", _) => "workers",
        _ => panic!("{file} has no layer: say in ARCHITECTURE.md and here where it belongs"),
    })
}

#[test]
fn dependencies_point_down() {
    let forbidden: &[(&str, &[&str])] = &[
        // Data knows no socket and no clock.
        ("data", &["crate::sys", "sys::", "mio::", "socket2::", "Instant::now", "Core", "crate::event_loop"]),
        // The loop's time knows the clock, and nothing else that is not data.
        ("time", &["Poller", "Slots", "mio::", "socket2::", "Instant::now", "Core", "crate::event_loop", "Protocol"]),
        // The system knows nothing of what is above it.
        ("sys", &["Core", "Protocol>", "crate::connection", "crate::listener", "crate::event_loop", "Transport"]),
        // State machines know no table, no poller and no clock.
        ("machines", &["Slab", "Slots", "Poller", "Clock", "Core", "crate::event_loop", "Instant::now"]),
        // Conveniences use the public layer alone: they know the crate as `switchboard`, see tests/outsider.
        ("framing", &["crate::", "mio::", "socket2::"]),
        // What is of the process and not of one loop is a convenience too, but for the sources that it brings.
        ("process", &["crate::", "mio::net::T", "Instant::now"]),
        ("loop", &["socket2::", "mio::net", "libc::", "Instant::now"]),
        ("workers", &["crate::", "mio::", "libc::"]),
        // The kit reaches sockets by the simulated network alone.
        ("testing", &["socket2::", "mio::", "libc::", "std::net::Tcp", "Instant::now"]),
    ];
    for file in rust_files("src") {
        let Some(layer) = layer(&file) else { continue };
        let code = code(&file);
        for word in forbidden.iter().filter(|(of, _)| *of == layer).flat_map(|(_, words)| *words) {
            assert!(!code.contains(word), "{file}, of the layer {layer}, must not know {word:?}");
        }
    }
}

#[test]
fn only_the_clock_tells_the_time_and_only_user_code_is_guarded() {
    for (what, only_in) in [
        // Handlers in other threads, and who holds a group of loops, have no loop to ask for the time.
        (
            "Instant::now(",
            &[
                "src/sys/clock.rs",
                "src/sys/script.rs",
                "src/server/request.rs",
                "src/server/children.rs",
                "src/workers/group_handle.rs",
            ][..],
        ),
        // The test of a user's is run again where it has failed.
        (
            "catch_unwind(",
            &["src/event_loop/guard.rs", "src/workers/pool.rs", "src/server/task.rs", "src/testing/seeds.rs"],
        ),
        (".lose(", &["src/event_loop/parts.rs"]),
        ("RefCell", &[]),
        // What closures of one thread share, and what a question notes.
        (
            "Cell<",
            &[
                "src/connection/gathered.rs",
                "src/server/admission.rs",
                "src/connect/reconnect.rs",
                "src/service/mod.rs",
                "src/service/reserve.rs",
                "src/service/successor.rs",
            ],
        ),
        // What is in memory is shared by loops and tests.
        // Signals are of the process, and shared by all its loops.
        (
            "Mutex",
            &[
                "src/sys/memory.rs",
                "src/threads/backlog.rs",
                "src/threads/mailbox.rs",
                "src/threads/sync.rs",
                "src/signals/wanted.rs",
                "src/workers/pool.rs",
                "src/server/children.rs",
            ],
        ),
    ] {
        for file in rust_files("src").iter().filter(|file| !file.starts_with("src/tests/")) {
            assert!(only_in.contains(&file.as_str()) || !code(file).contains(what), "{what} in {file}");
        }
    }
}

#[test]
fn files_have_one_subject_and_functions_fit_a_screen() {
    for file in FOLDERS.into_iter().flat_map(rust_files) {
        let text = read(&file);
        assert!(text.lines().count() <= 600, "{file} is too long for one subject");
        let mut begun: Option<(usize, String, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let declares = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn "].iter().any(|w| words.starts_with(w));
            if declares && begun.is_none() && !line.ends_with('}') && !line.ends_with(';') {
                begun = Some((indent, words.to_owned(), number));
            } else if let Some((of, name, start)) = &begun {
                if indent == *of && (words == "}" || words == ";") {
                    assert!(number - start <= 60, "{file}: {name} does not fit a screen");
                    begun = None;
                }
            }
        }
    }
}

#[test]
fn nothing_is_unsafe() {
    // Each file is its own crate root somewhere: the manifest's lint forbids it in all of them.
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for file in FOLDERS.into_iter().flat_map(rust_files) {
        let code = code(&file);
        let word = ["un", "safe"].concat();
        for line in code.lines().filter(|line| line.contains(&word)) {
            assert!(line.contains("unsafe_code") || line.contains('"'), "{file}: {line}");
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifests = match is_packed() {
        true => &["Cargo.toml.orig"][..],
        false => &["Cargo.toml", "companions/fetch/Cargo.toml", "companions/tls/Cargo.toml", "tests/system/Cargo.toml"],
    };
    for manifest in manifests {
        let (mut section, mut before) = (String::new(), String::new());
        for line in read(manifest).lines() {
            if line.starts_with('[') {
                section = line.to_owned();
            } else if section.ends_with("dependencies]") && line.contains(" = ") {
                assert!(before.starts_with('#'), "{manifest}: {line:?} does not say why");
            }
            before = line.to_owned();
        }
    }
}

#[test]
fn every_example_is_in_the_table_and_says_how_to_run_it() {
    let page = read("examples/README.md");
    for (name, file) in programs() {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in the table of examples/README.md");
        let how = match file.split('/').collect::<Vec<_>>()[..] {
            ["examples", _] => format!("cargo run --example {name}"),
            ["companions", package, "examples", _] => {
                format!("cargo run --package switchboard-{package} --example {name}")
            }
            _ => format!("cargo run --package {name}"),
        };
        let text = read(&file);
        assert!(text.starts_with("//! ") && text.contains(&how), "{file}");
    }
}

/// Examples whose parts are read one by one, so that they may be longer.
const READ_IN_PIECES: &[&str] = &["names", "fetch", "resp_server"];

#[test]
fn guide_the_course_has_every_example_in_one_place_and_each_is_short() {
    let course = read("examples/README.md");
    for (name, file) in programs() {
        let places = course.lines().filter(|line| *line == format!("### `{name}`")).count();
        assert_eq!(places, 1, "{name} stands in {places} places of examples/README.md");
        let is_short = read(&file).lines().count() <= 170 || READ_IN_PIECES.contains(&&*name);
        assert!(is_short, "{file} is longer than a reader's patience");
    }
}

#[test]
fn programs_from_outside_are_short() {
    for name in programs_from_outside() {
        let lines_max = if name == "mqtt_broker" { 300 } else { 250 };
        let lines = read(format!("tests/outsider/examples/{name}.rs")).lines().count();
        assert!(lines <= lines_max, "{name} has {lines} lines");
    }
}

/// What CI runs of it, against real clients and servers.
#[test]
fn guide_every_example_is_run_against_a_real_peer_by_ci() {
    if is_packed() {
        return;
    }
    let ci = read(".ci/run");
    let scripts = fs::read_dir(root().join("tests/real")).unwrap().map(|entry| entry.unwrap().path());
    let run: String = scripts
        .filter(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            path.extension().is_some_and(|extension| extension == "py")
                && ci.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
        })
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for name in programs().into_iter().map(|(name, _)| name).chain(programs_from_outside()) {
        assert!(run.contains(&format!("\"{name}\"")), "no script of tests/real that CI runs starts {name}");
    }
}

#[test]
fn guide_the_line_that_puts_tls_in_is_that_of_the_example() {
    if is_packed() {
        return;
    }
    let page = read("src/guide/filters.md");
    let line = page.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let example = read("companions/tls/examples/select_server_tls.rs");
    assert!(example.contains(line), "the example has no line {line:?}");
}

/// How many conditions of compilation the system has. The number may only fall: one more is worth a second thought.
const CONDITIONS_OF_SYS: usize = 122;

#[test]
fn the_system_has_few_conditions_of_compilation() {
    let count =
        |text: &str| ["cfg(", "cfg!(", "cfg_attr("].iter().map(|word| text.matches(word).count()).sum::<usize>();
    let found: usize = rust_files("src/sys").iter().map(|file| count(&read(file))).sum();
    println!("{found} conditions of compilation in src/sys");
    assert_eq!(found, CONDITIONS_OF_SYS, "src/sys has another number of conditions than is known");
}

#[test]
fn every_file_of_the_code_map_exists_and_every_file_is_in_it() {
    let architecture = read("ARCHITECTURE.md");
    let map = architecture.split("## Code map").nth(1).unwrap().split("\n## ").next().unwrap();
    for file in rust_files("src") {
        let name = file.strip_prefix("src/").unwrap();
        let mapped = match name.split_once('/') {
            Some((folder, _)) => map.contains(&format!("`{folder}/`")),
            None => map.contains(&format!("`{name}`")),
        };
        assert!(mapped || name == "lib.rs", "{name} is not in the code map");
        // What a folder's row does not say the first line of each of its files does.
        assert!(read(&file).starts_with("//! ") || name == "lib.rs", "{file} does not begin with what it is");
    }
    for name in map.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs") || name.ends_with('/')) {
        assert!(["src", "tests"].iter().any(|at| root().join(at).join(name).exists()), "the code map names {name}");
    }
}

#[test]
fn every_public_name_is_used_from_outside() {
    if is_packed() {
        return;
    }
    let front_page = code("src/lib.rs");
    let outside: String = rust_files("tests/outsider").iter().map(|file| code(file)).collect();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let outside = words(&outside);
    let exports: Vec<_> = front_page.split(';').filter_map(|item| item.trim().strip_prefix("pub use ")).collect();
    assert!(!exports.is_empty());
    for export in exports {
        // Of `module::{One, Two}` and of `module::One` the names behind the modules.
        let names = words(export.rsplit_once("::").expect("exports name their module").1);
        for name in names.iter().filter(|name| !name.is_empty()) {
            assert!(outside.contains(name), "{name} is public, and tests/outsider does not use it");
        }
    }
}

/// Turns that no native speaker writes. None is in comments and pages.
const PUZZLING: &[&str] = &[
    "Answers whether",
    "Answers how",
    "Whoever",
    "whoever",
    " his ",
    " him",
    " he ",
    "come to stand",
    "comes to stand",
    "of no more use",
    "As it is given",
    " for who ",
    " has not:",
    "no socket has",
    "of the user's and",
];

/// What is written for readers: the pages, and the comments of all code.
fn prose() -> impl Iterator<Item = String> {
    let pages = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    let pages =
        pages.into_iter().chain(["examples/README.md", "benches/README.md", "benches/NOTES.md"]).map(str::to_owned);
    let guide = fs::read_dir(root().join("src/guide")).unwrap().map(|entry| entry.unwrap().file_name());
    let guide = guide.map(|name| format!("src/guide/{}", name.to_str().unwrap())).filter(|name| name.ends_with(".md"));
    let pages: Vec<String> = pages.into_iter().chain(guide).filter(|page| root().join(page).exists()).collect();
    let code = FOLDERS.into_iter().flat_map(rust_files);
    let comments = code.filter(|file| !file.ends_with("tidy.rs")).map(|file| {
        let text = read(file);
        let comments = text.lines().filter_map(|line| line.split_once("//").map(|(_, comment)| comment));
        comments.collect::<Vec<_>>().join("\n")
    });
    pages.into_iter().map(read).chain(comments)
}

#[test]
fn what_is_written_is_plain_english() {
    if is_packed() {
        return;
    }
    let prose: Vec<String> = prose().collect();
    for words in PUZZLING {
        let found: Vec<_> = prose.iter().flat_map(|text| text.lines()).filter(|line| line.contains(words)).collect();
        assert!(found.is_empty(), "{words:?}: write it as std's docs would: {found:#?}");
    }
}

#[test]
fn only_the_loop_knows_its_core() {
    for file in
        rust_files("src").iter().filter(|file| !["src/event_loop/", "src/tests/"].iter().any(|at| file.starts_with(at)))
    {
        let code = code(file);
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(!words.any(|word| word == "Core"), "{file} names the loop's core");
    }
}
