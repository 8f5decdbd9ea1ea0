//! The rules of the source tree: which module may import which, where a library may be named, how long a file may be,
//! and that the documentation names every setting.

mod shared;
mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tables::{ALLOWED_ANYWHERE, ALLOWED_IMPORTS, LIBRARY_PLACES};

/// A longer file must be split by topic.
const MAX_LINES: usize = 500;
/// Files that may be longer.
const EXEMPT: [&str; 1] = ["src/db/schema.rs"];

struct Source {
    /// From the root of the project.
    path: String,
    /// Without comments, strings and the file's own tests.
    code: String,
    n_lines: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push(Source { path, code: code(&text), n_lines: text.lines().count() });
            }
        }
    }
    found
}

/// Tests may import everything; they are at the end of a file or in a file of their own.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(without_strings).collect::<Vec<_>>().join("\n")
}

fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

fn is_test(source: &Source) -> bool {
    source.path.ends_with("/tests.rs") || source.path.contains("/tests/")
}

/// The first path segments after `prefix`; groups such as `crate::{a, b::{c, d}}` are split.
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for (start, _) in code.match_indices(prefix) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[start + prefix.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut depth, mut at_start) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => at_start = true,
                c if c.is_whitespace() => {}
                _ if at_start => {
                    names.insert(word(&group[at..]));
                    at_start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn modules_import_in_one_direction() {
    let (mut wrong, mut imported) = (Vec::new(), BTreeSet::new());
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        let rest = source.path.strip_prefix("src/").unwrap();
        let module = rest.split(['/', '.']).next().unwrap().to_owned();
        if ["main", "lib", "cli"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED_IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table: say what it may import", source.path));
            continue;
        };
        for name in named_after(&source.code, "crate::") {
            let is_module = ALLOWED_IMPORTS.iter().any(|(module, _)| *module == name);
            if is_module && name != module && !allowed.contains(&"*") && !allowed.contains(&name.as_str()) {
                wrong.push(format!(
                    "{} imports {name}: {module} may not, see the table in tests/it/tidy/tables.rs",
                    source.path
                ));
            }
            imported.insert((module.clone(), name));
        }
    }
    for (module, allowed) in ALLOWED_IMPORTS {
        for name in allowed.iter().filter(|name| **name != "*") {
            if !imported.contains(&((*module).to_owned(), (*name).to_owned())) {
                wrong.push(format!(
                    "{module} does not import {name}: take it out of the table in tests/it/tidy/tables.rs"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_library_is_named_in_few_places() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        for (library, places) in LIBRARY_PLACES {
            let named = named_after(&source.code, &format!("{library}::"));
            if named.iter().all(|name| ALLOWED_ANYWHERE.contains(&format!("{library}::{name}").as_str())) {
                continue;
            }
            match places.iter().find(|place| is_in(&source.path, place)) {
                Some(place) => drop(used.insert((library, place))),
                None => wrong.push(format!("{} names {library}: it belongs in {}", source.path, places.join(", "))),
            }
        }
    }
    for (library, places) in LIBRARY_PLACES {
        for place in places.iter().filter(|place| !used.contains(&(library, place))) {
            wrong.push(format!("{place} does not name {library}: take it out of the table in tests/it/tidy/tables.rs"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A place that ends in `/` is a folder; one that starts with `*` is the end of a file's name.
fn is_in(path: &str, place: &str) -> bool {
    match place.strip_prefix('*') {
        Some(end) => path.ends_with(end),
        None => path == place || (place.ends_with('/') && path.starts_with(place)),
    }
}

#[test]
fn sql_is_in_files() {
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        let is_written_by_hand = source.code.contains("push_sql") && source.path != "src/db/statement.rs";
        assert!(!is_written_by_hand, "{} writes SQL by hand: use db::statement! with a .sql file", source.path);
    }
}

#[test]
fn the_environment_is_read_in_one_place() {
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        let reads = ["std::env::", "env::var", "env::temp_dir"].iter().any(|name| source.code.contains(name));
        assert!(!reads || source.path == "src/settings.rs", "{} reads the environment: settings.rs does", source.path);
    }
}

#[test]
fn files_are_short() {
    for source in sources("src").iter().chain(&sources("tests")) {
        let is_exempt = EXEMPT.contains(&source.path.as_str()) || source.n_lines <= MAX_LINES;
        assert!(is_exempt, "{} has {} lines: split it by topic", source.path, source.n_lines);
    }
}

#[test]
fn the_documentation_names_every_setting() {
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for variable in smarthome::settings::VARIABLES {
        assert!(
            document.contains(&format!("`{}`", variable.name)),
            "docs/configuration.md does not name {}",
            variable.name
        );
        let by_file = format!("`{}_FILE`", variable.name);
        assert_eq!(
            document.contains(&by_file),
            variable.is_secret,
            "docs/configuration.md and the settings differ about {by_file}"
        );
    }
}

#[test]
fn import_groups_are_split() {
    let names = named_after("use crate::{a::B, c, d::{e, f}};\nlet x = crate::g::h(); $crate::i::j();", "crate::");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "c", "d", "g"]);
}
