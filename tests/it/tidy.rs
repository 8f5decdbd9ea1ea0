//! The house's rules, held by a test: who may import whom, which library has which door, how long a
//! file may be, and that the README names every setting.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines after which a file must be split by topic.
const MAX_LINES: usize = 500;
/// Long by nature.
const EXEMPT: [&str; 1] = ["src/db/schema.rs"];

/// A module of the first level and what it may import of `crate::`. `*` is everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("authentication", &["auth", "error", "homes", "revocation", "users"]),
    ("app", &["*"]),
    ("audit", &["auth", "background", "db", "error", "ids", "text_enum"]),
    ("auth", &["clock", "error", "ids", "settings", "tls"]),
    ("background", &["backoff", "error"]),
    ("backoff", &[]),
    ("clock", &[]),
    ("db", &["backoff", "error", "settings", "tls"]),
    ("dev", &["*"]),
    ("downlink", &["ids", "text_enum"]),
    ("error", &[]),
    ("follow", &["error", "hub", "metrics"]),
    ("hub", &["ids"]),
    ("ids", &[]),
    ("logging", &["settings"]),
    ("metrics", &[]),
    ("validation", &["error"]),
    ("opaque_token", &[]),
    ("outbox", &["clock", "db", "downlink", "error", "ids", "metrics", "settings"]),
    ("rate", &[]),
    ("revocation", &["auth", "backoff", "clock", "db", "error", "ids", "settings"]),
    ("secret_box", &[]),
    ("settings", &[]),
    ("throttle", &["error", "ids"]),
    (
        "users",
        &[
            "auth",
            "background",
            "clock",
            "db",
            "error",
            "hub",
            "ids",
            "metrics",
            "validation",
            "opaque_token",
            "revocation",
            "settings",
            "throttle",
        ],
    ),
    (
        "homes",
        &[
            "audit",
            "auth",
            "background",
            "clock",
            "db",
            "error",
            "hub",
            "ids",
            "metrics",
            "validation",
            "opaque_token",
            "revocation",
            "settings",
            "throttle",
            "users",
        ],
    ),
    (
        "devices",
        &[
            "audit",
            "auth",
            "clock",
            "db",
            "error",
            "follow",
            "homes",
            "hub",
            "ids",
            "metrics",
            "validation",
            "secret_box",
            "settings",
            "users",
        ],
    ),
    (
        "telemetry",
        &[
            "auth",
            "clock",
            "db",
            "devices",
            "error",
            "follow",
            "homes",
            "hub",
            "ids",
            "metrics",
            "validation",
            "settings",
            "users",
        ],
    ),
    (
        "commands",
        &[
            "audit",
            "auth",
            "clock",
            "db",
            "devices",
            "downlink",
            "error",
            "follow",
            "homes",
            "hub",
            "ids",
            "metrics",
            "validation",
            "outbox",
            "settings",
            "text_enum",
            "users",
        ],
    ),
    (
        "device_config",
        &[
            "audit",
            "auth",
            "clock",
            "db",
            "devices",
            "downlink",
            "error",
            "follow",
            "homes",
            "hub",
            "ids",
            "metrics",
            "validation",
            "outbox",
            "secret_box",
            "settings",
            "text_enum",
            "users",
        ],
    ),
    (
        "mqtt",
        &[
            "clock",
            "commands",
            "device_config",
            "devices",
            "downlink",
            "error",
            "ids",
            "metrics",
            "settings",
            "telemetry",
            "tls",
        ],
    ),
    (
        "ingest",
        &[
            "clock",
            "commands",
            "db",
            "device_config",
            "devices",
            "error",
            "hub",
            "ids",
            "metrics",
            "mqtt",
            "outbox",
            "rate",
            "settings",
            "telemetry",
        ],
    ),
    (
        "graphql",
        &[
            "audit",
            "auth",
            "clock",
            "commands",
            "db",
            "device_config",
            "devices",
            "error",
            "homes",
            "hub",
            "ids",
            "metrics",
            "validation",
            "revocation",
            "settings",
            "telemetry",
            "users",
        ],
    ),
    (
        "http",
        &[
            "authentication",
            "auth",
            "clock",
            "db",
            "devices",
            "error",
            "graphql",
            "ids",
            "metrics",
            "mqtt",
            "rate",
            "revocation",
            "settings",
            "throttle",
        ],
    ),
    ("simulator", &["backoff", "clock", "settings", "tls"]),
    ("text_enum", &[]),
    ("tls", &[]),
];

/// A library and the places that may name it; a place that ends in `/` is a folder, one that starts with
/// `*` a file name's end.
const DOORS: &[(&str, &[&str])] = &[
    ("governor", &["src/throttle.rs"]),
    ("rumqttc", &["src/mqtt/", "src/simulator/"]),
    ("mqtt5", &["src/dev/"]),
    ("async_graphql", &["src/graphql/"]),
    ("async_graphql_axum", &["src/http/"]),
    ("axum", &["src/http/", "src/app/http.rs"]),
    ("hyper", &["src/http/", "src/auth/external/fetch.rs"]),
    ("jsonwebtoken", &["src/auth.rs", "src/auth/"]),
    ("diesel", &["src/db/", "*store.rs", "src/ids.rs", "src/error.rs", "src/text_enum.rs"]),
];

/// Results and errors of the database: naming them is no SQL.
const HARMLESS: [&str; 2] = ["diesel::QueryResult", "diesel::result"];

struct Source {
    /// From the root, with `/`.
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

/// Tests may import what they like: they stand at the end of a file or in a file of their own.
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

/// The first path segments after `prefix`, groups such as `crate::{a, b::{c, d}}` taken apart.
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
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        let rest = source.path.strip_prefix("src/").unwrap();
        let module = rest.split(['/', '.']).next().unwrap();
        if ["main", "lib", "cli"].contains(&module) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table: say what it may import", source.path));
            continue;
        };
        for name in named_after(&source.code, "crate::") {
            let is_module = ARROWS.iter().any(|(module, _)| *module == name);
            if is_module && name != module && !allowed.contains(&"*") && !allowed.contains(&name.as_str()) {
                wrong.push(format!(
                    "{} imports {name}: {module} may not, see the table in tests/it/tidy.rs",
                    source.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_library_has_one_door() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        for (library, doors) in DOORS {
            let named = named_after(&source.code, &format!("{library}::"));
            let is_named = named.iter().any(|name| !HARMLESS.contains(&format!("{library}::{name}").as_str()));
            let is_door = doors.iter().any(|door| match door.strip_prefix('*') {
                Some(end) => source.path.ends_with(end),
                None => source.path == *door || (door.ends_with('/') && source.path.starts_with(door)),
            });
            if is_named && !is_door {
                wrong.push(format!("{} names {library}: it belongs in {}", source.path, doors.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_environment_is_read_in_one_place() {
    for source in sources("src").iter().filter(|source| !is_test(source)) {
        let reads = ["std::env::", "env::var", "env::temp_dir"].iter().any(|name| source.code.contains(name));
        assert!(!reads || source.path == "src/settings.rs", "{} reads the environment: settings.rs does", source.path);
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for source in sources("src").iter().chain(&sources("tests")) {
        let is_exempt = EXEMPT.contains(&source.path.as_str()) || source.n_lines <= MAX_LINES;
        assert!(is_exempt, "{} has {} lines: split it by topic", source.path, source.n_lines);
    }
}

#[test]
fn the_readme_names_every_setting() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let paths = [
        "src/settings.rs",
        "src/settings/auth.rs",
        "src/settings/database.rs",
        "src/settings/device_limit.rs",
        "src/settings/encryption.rs",
        "src/settings/http.rs",
        "src/settings/issuers.rs",
        "src/settings/mqtt.rs",
        "src/settings/provisioning.rs",
        "src/logging.rs",
    ];
    let settings = paths.map(|path| fs::read_to_string(root().join(path)).unwrap());
    let mut n_named = 0;
    for text in settings {
        let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        for name in text.split('"').skip(1).step_by(2) {
            let is_variable = name.len() >= 3
                && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                && text.contains(&format!("source, \"{name}\"")) | text.contains(&format!("get(\"{name}\")"));
            if is_variable {
                n_named += 1;
                assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
            }
        }
    }
    assert!(n_named > 15, "settings.rs is written in a way this test does not understand");
}

#[test]
fn groups_are_taken_apart() {
    let names = named_after("use crate::{a::B, c, d::{e, f}};\nlet x = crate::g::h(); $crate::i::j();", "crate::");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "c", "d", "g"]);
}
