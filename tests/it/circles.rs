//! Within a folder, files import each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{code, rust_files};

/// What each file of a folder imports from which others, by their names without folder and extension. What `mod.rs`
/// re-exports counts as imported from its own file.
fn imports(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let name_in = |file: &str| {
        let below = file.strip_prefix(folder).unwrap().trim_start_matches('/').trim_end_matches(".rs");
        below.split('/').next().unwrap().to_owned()
    };
    let files = rust_files(folder);
    let names: BTreeSet<String> = files.iter().map(|file| name_in(file)).collect();
    let exports = code(&format!("{folder}/mod.rs"));
    // A name, and the file from which `mod.rs` re-exports it.
    let mut owners = BTreeMap::new();
    for export in exports.split("pub use ").chain(exports.split("pub(crate) use ")).skip(1) {
        let path = export.split(';').next().unwrap_or_default().trim_start_matches("self::");
        let (owner, items) = path.split_once("::").unwrap_or((path, ""));
        owners.extend(heads(items).into_iter().map(|item| (item, owner.to_owned())));
    }
    let own_path = folder.strip_prefix("src/").unwrap().replace('/', "::");
    let paths = ["super::".to_owned(), format!("crate::{own_path}::"), format!("switchboard::{own_path}::")];
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let (name, mut text) = (name_in(file), code(file));
        let is_root = name == "mod";
        if is_root {
            // An export is not a use.
            text = text.split("pub use ").flat_map(|part| part.split_once(';')).map(|(_, rest)| rest).collect();
        }
        let own = ["self::".to_owned()];
        let begun_by: &[String] = if is_root { &own } else { &paths };
        let items = begun_by.iter().flat_map(|path| text.split(path.as_str()).skip(1)).flat_map(heads);
        let from = items.map(|item| match owners.get(&item) {
            _ if names.contains(&item) => item,
            Some(owner) => owner.clone(),
            None => "mod".to_owned(),
        });
        let from: Vec<String> = from.filter(|from| *from != name).collect();
        imports.entry(name).or_default().extend(from);
    }
    imports
}

/// The first name of each path at the beginning of a text: of `a::b`, and of `{a, b::{c, d}}`.
fn heads(text: &str) -> Vec<String> {
    let head =
        |path: &str| -> String { path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = text.strip_prefix('{') else { return vec![head(text)] };
    let (mut depth, mut heads, mut path) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&std::mem::take(&mut path))),
            _ => {}
        }
        if depth == 0 && c != ',' {
            path.push(c);
        }
    }
    heads.push(head(&path));
    heads.retain(|head| !head.is_empty());
    heads
}

/// Files of a folder of which each imports from the next, and the last from the first.
fn circle_in(folder: &str) -> Option<Vec<String>> {
    let mut left = imports(folder);
    // A file that imports from none of the remaining ones is in no circle.
    while let Some(done) = left.iter().find(|(_, from)| from.is_empty()).map(|(name, _)| name.clone()) {
        left.remove(&done);
        left.values_mut().for_each(|from| from.retain(|name| *name != done));
    }
    let mut circle = vec![left.keys().next()?.clone()];
    loop {
        let next = left[circle.last()?].first()?.clone();
        if let Some(begin) = circle.iter().position(|name| *name == next) {
            return Some(circle.split_off(begin));
        }
        circle.push(next);
    }
}

#[test]
fn imports_within_a_companion_and_within_the_system_make_no_circle() {
    for folder in ["framing", "proxy", "server", "service", "signals", "sys", "workers"] {
        let circle = circle_in(&format!("src/{folder}"));
        assert!(circle.is_none(), "in src/{folder} each of these imports from the next: {circle:?}");
    }
}
