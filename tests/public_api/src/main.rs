//! Lists the public names of the crate and of its companions, and compares them with the lists in the repository.
//!
//! ```sh
//! cargo run --package switchboard-public-api              # fails where a list differs, and shows how
//! cargo run --package switchboard-public-api -- --write   # writes the lists
//! ```
//!
//! A change of the public names changes a list with it, so that it is seen in review, and the next version's number can be
//! chosen by it. It needs Rust 1.85, as `/usr/bin/rustc` or in the folder that `RUST_1_85` names: the oldest that is promised,
//! so that the lists do not change with what one happens to have. (By rustup:
//! `RUST_1_85=$(dirname $(rustup which --toolchain 1.85 rustc))`.)

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use serde_json::Value;

/// Each list, the package that it is of, and the features.
const LISTS: [(&str, &str, &[&str]); 4] = [
    ("no_features.txt", "switchboard", &["--no-default-features"]),
    ("default.txt", "switchboard", &[]),
    ("all_features.txt", "switchboard", &["--all-features"]),
    ("tls.txt", "switchboard-tls", &[]),
];

/// The format that this version of rustdoc writes, and the one that the reader knows.
const WRITTEN: u64 = 37;
const READ: u64 = 39;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let write = match env::args().nth(1).as_deref() {
        None => false,
        Some("--write") => true,
        Some(other) => {
            eprintln!("unknown argument {other}; --write writes the lists");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for (name, package, features) in LISTS {
        match compare(name, package, features, write) {
            Ok(None) => println!("{name}: unchanged"),
            Ok(Some(difference)) if write => println!("{name}: written\n{difference}"),
            Ok(Some(difference)) => {
                failed += 1;
                println!("{name}: DIFFERS\n{difference}");
            }
            Err(error) => {
                failed += 1;
                println!("{name}: {error}");
            }
        }
    }
    println!("{} passed, {failed} failed", LISTS.len() - failed);
    if failed > 0 {
        println!("If this is intended: cargo run --package switchboard-public-api -- --write");
    }
    ExitCode::from(u8::from(failed > 0))
}

/// Returns what is in one of the two lists only, line by line.
fn compare(name: &str, package: &str, features: &[&str], write: bool) -> Result<Option<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let found = listed(&documented(package, features)?)?;
    if found == kept {
        return Ok(None);
    }
    if write {
        fs::write(&path, &found)?;
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (kept.lines().collect(), found.lines().collect());
    let mut difference = String::new();
    for line in old.difference(&new) {
        writeln!(difference, "-{line}")?;
    }
    for line in new.difference(&old) {
        writeln!(difference, "+{line}")?;
    }
    Ok(Some(if difference.is_empty() { "only the order\n".to_owned() } else { difference }))
}

/// Has rustdoc write what it knows of a package, and returns the file.
fn documented(package: &str, features: &[&str]) -> Result<PathBuf> {
    let bin = PathBuf::from(env::var_os("RUST_1_85").unwrap_or_else(|| "/usr/bin".into()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Not where others build: this Rust is another one.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("public-api");
    let version = Command::new(bin.join("rustdoc")).arg("--version").output();
    let version = version.map_err(|error| format!("{}: {error}", bin.join("rustdoc").display()))?.stdout;
    if !version.starts_with(b"rustdoc 1.85.") {
        let version = String::from_utf8_lossy(&version);
        return Err(format!("{} is not of Rust 1.85: set RUST_1_85: {version}", bin.display()).into());
    }
    let status = Command::new(bin.join("cargo"))
        .current_dir(root)
        .args(["rustdoc", "--quiet", "--lib", "--package", package])
        .args(features)
        .args(["--", "-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"])
        // The format is not stable, and this version of it never changes.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", bin.join("rustc"))
        .env("RUSTDOC", bin.join("rustdoc"))
        .env("CARGO_TARGET_DIR", &target)
        // Those of another Rust, where one of its commands started this one.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .status()?;
    if !status.success() {
        return Err(format!("rustdoc failed: {status}").into());
    }
    Ok(target.join("doc").join(package.replace('-', "_")).with_extension("json"))
}

/// The public items, one a line, without those that a derive or the compiler writes for itself.
fn listed(file: &Path) -> Result<String> {
    let mut all: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    if all["format_version"] != WRITTEN {
        return Err(format!("rustdoc wrote format {}, not {WRITTEN}", all["format_version"]).into());
    }
    all["format_version"] = READ.into();
    rename(&mut all);
    let converted = file.with_extension("converted.json");
    fs::write(&converted, all.to_string())?;
    let api = public_api::Builder::from_rustdoc_json(&converted)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    let mut text = String::new();
    for item in api.items() {
        writeln!(text, "{item}")?;
    }
    Ok(text)
}

/// All that differs between the two formats: what a path is called.
fn rename(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.len() == 3 && ["name", "id", "args"].iter().all(|&name| fields.contains_key(name)) {
                let path = fields.remove("name").unwrap_or_default();
                fields.insert("path".to_owned(), path);
            }
            fields.values_mut().for_each(rename);
        }
        Value::Array(values) => values.iter_mut().for_each(rename),
        _ => (),
    }
}
