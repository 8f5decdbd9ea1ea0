//! What tenants share is listed in `docs/security.md`, with its bound: every table and sequence, every advisory lock, and
//! every place in the code that makes a lock, a queue, a cache or the like. New ones fail here until they have an entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use smarthome::db;
use smarthome::settings::{DatabaseSettings, Secret};

use super::super::support::app::Database;
use super::{Source, is_test, root, sources};

/// Modules that no tenant reaches: `serve` does not run them, or they run once at its start.
const NOT_SERVING: [&str; 5] = ["src/dev/", "src/doctor/", "src/simulator/", "src/cli", "src/main.rs"];

/// Words in the code, by the kind of what they make. Collections are recognized by [`holds_a_collection`].
const KINDS: [(&str, &[&str]); 7] = [
    ("lock", &["Mutex", "RwLock"]),
    ("permits", &["Semaphore"]),
    ("queue", &["mpsc", "broadcast"]),
    ("cache", &["LruCache"]),
    ("pool", &["Pool::builder"]),
    ("static", &["static"]),
    ("tasks", &["tokio::spawn", "task::spawn", "spawn_blocking", "JoinSet", "TaskTracker", "thread::Builder"]),
];

const COLLECTIONS: [&str; 7] = ["HashMap<", "IdMap<", "BTreeMap<", "HashSet<", "BTreeSet<", "VecDeque<", "BinaryHeap<"];
/// The name of a collection, which is listed where one is held.
const ALIAS: &str = "type IdMap<";

/// A part of the document, up to the next heading.
fn part(heading: &str) -> String {
    let text = fs::read_to_string(root().join("docs/security.md")).expect("UTF-8");
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    rest.split("\n#").next().unwrap_or_default().to_owned()
}

/// The cells of the rows of a part's tables, without the heads.
fn rows(part: &str) -> Vec<Vec<String>> {
    let lines = part.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn assert_same(what: &str, place: &str, listed: &BTreeSet<String>, existing: &BTreeSet<String>) {
    let new: Vec<_> = existing.difference(listed).collect();
    assert!(
        new.is_empty(),
        "{what} {new:?} has no entry: tenants share it. Add it to {place} of docs/security.md, and say what bounds the \
         share of one home or account, or in which order they take turns"
    );
    let gone: Vec<_> = listed.difference(existing).collect();
    assert!(gone.is_empty(), "there is no {what} {gone:?}: delete the entry in {place} of docs/security.md");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_sequence_has_an_entry() {
    let database = Database::create().await;
    let settings = DatabaseSettings { url: Secret::new(database.url()), pool_size: 1 };
    db::migrate(&settings).await.unwrap();
    let rows_of_part = rows(&part("### Tables and sequences"));
    for (what, column, kinds) in [("table", 0, "rp"), ("sequence", 1, "S")] {
        let relations = "select relname::text from pg_class where relnamespace = 'public'::regnamespace \
                         and position(relkind in $1) > 0 and not relispartition and relname not like '\\_\\_diesel%'";
        let found = database.client().await.query(relations, &[&kinds]).await.unwrap();
        let existing = found.iter().map(|row| row.get(0)).collect();
        let listed = rows_of_part.iter().flat_map(|cells| quoted(&cells[column]).collect::<Vec<_>>()).collect();
        assert_same(what, "\"Tables and sequences\"", &listed, &existing);
    }
}

#[test]
fn every_advisory_lock_has_an_entry() {
    let code = fs::read_to_string(root().join("src/db/locks.rs")).unwrap();
    let constants = code.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let existing = constants.map(str::to_owned).collect();
    let paragraph = part("### Tables and sequences");
    let (_, paragraph) = paragraph.split_once("\nAdvisory locks").expect("a paragraph on advisory locks");
    let is_constant = |name: &String| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let listed = quoted(paragraph).filter(is_constant).collect();
    assert_same("advisory lock", "\"Tables and sequences\"", &listed, &existing);
}

#[test]
fn whatever_the_code_shares_has_an_entry() {
    let mut listed = BTreeMap::<String, BTreeSet<String>>::new();
    for cells in rows(&part("### Where it is in the code")) {
        for file in quoted(&cells[0]) {
            let kinds = cells[1].split(", ").map(str::to_owned);
            listed.entry(file).or_default().extend(kinds);
        }
    }
    let serving = |source: &Source| !is_test(source) && !NOT_SERVING.iter().any(|start| source.path.starts_with(start));
    let found = sources("src").into_iter().filter(serving).map(|source| {
        let path = source.path.strip_prefix("src/").unwrap().to_owned();
        (path, kinds_in(&source.code))
    });
    let existing: BTreeMap<_, _> = found.filter(|(_, kinds)| !kinds.is_empty()).collect();
    assert!(existing.len() > 40, "the code is written in a way this test does not understand");
    // What a group of files holds is listed once, so a file may hold fewer of the kinds.
    let pairs = |files: &BTreeMap<String, BTreeSet<String>>| -> BTreeSet<String> {
        files.iter().flat_map(|(file, kinds)| kinds.iter().map(move |kind| format!("{file}: {kind}"))).collect()
    };
    let (all, place) = (pairs(&existing), "\"Where it is in the code\"");
    let held = pairs(&listed).into_iter().filter(|pair| all.contains(pair) || !existing.contains_key(file_of(pair)));
    assert_same("lock, queue, cache or the like in src:", place, &held.collect(), &all);
}

fn file_of(pair: &str) -> &str {
    pair.split(':').next().expect("a file")
}

/// What kinds of shared things the code names.
fn kinds_in(code: &str) -> BTreeSet<String> {
    let code: Vec<_> = code.lines().filter(|line| !without_visibility(line).starts_with("use ")).collect();
    let names = |words: &[&str]| code.iter().any(|line| words.iter().any(|word| has_word(line, word)));
    let kinds = KINDS.iter().filter(|(_, words)| names(words)).map(|(kind, _)| (*kind).to_owned());
    let has_collection = code.iter().any(|line| holds_a_collection(line));
    kinds.chain(has_collection.then(|| "collection".to_owned())).collect()
}

/// Whether a line names a word, neither as a part of another one nor as a lifetime.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Whether a line declares a field or a type that owns a collection.
fn holds_a_collection(line: &str) -> bool {
    let declared = without_visibility(line);
    let is_type = ["struct ", "type ", "static "].iter().any(|start| declared.starts_with(start));
    let field = declared.split_once(": ").filter(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    let is_field = line.ends_with(',') && field.is_some_and(|(_, kind)| !kind.starts_with(['&', '*']));
    (is_type || is_field) && !declared.starts_with(ALIAS) && COLLECTIONS.iter().any(|name| line.contains(name))
}

fn without_visibility(line: &str) -> &str {
    let line = line.trim_start();
    match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ").map_or(line, |(_, rest)| rest),
        None => line.strip_prefix("pub ").unwrap_or(line),
    }
}

#[test]
fn shared_things_are_recognized() {
    let code = "use tokio::sync::Mutex;\npub(super) struct Turns(Arc<Semaphore>);\n    pub homes: Vec<HashMap<u8, u8>>,\n\
                fn f(deleted: &HashSet<u8>) -> &'static str {}\n    tokio::spawn(work);\npub static NEXT: AtomicU64;";
    assert_eq!(kinds_in(code).into_iter().collect::<Vec<_>>(), ["collection", "permits", "static", "tasks"]);
}
