//! No change of the schema breaks the clients of the last release, unless `tests/schema/allowed_changes.json` says why.

use std::fs;
use std::path::Path;

use crate::support::node::node;
use crate::support::unique;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the script prints about two schemas and the allowed changes. Nothing if all is well.
async fn problems(released: &Path, current: &Path, allowed: &Path) -> String {
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let output = node("schema_changes.mjs", &[&path(released), &path(current), &path(allowed)]).await;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let is_well = output.status.success() == text.is_empty() && output.stderr.is_empty();
    assert!(is_well, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn no_change_breaks_clients_of_the_last_release() {
    let file = |name: &str| Path::new(ROOT).join(name);
    let allowed = file("tests/schema/allowed_changes.json");
    let found = problems(&file("tests/schema/released.graphql"), &file("schema.graphql"), &allowed).await;
    assert!(found.is_empty(), "{found}keep the old form with @deprecated, or give a reason in {}", allowed.display());
}

/// The rule of CONTRIBUTING.md: a release replaces the schema that later ones are compared with.
#[test]
fn the_schema_of_the_newest_release_is_kept() {
    let text = |name: &str| fs::read_to_string(Path::new(ROOT).join(name)).expect("UTF-8");
    let changelog = text("CHANGELOG.md");
    let mut versions = changelog.lines().filter_map(|line| line.strip_prefix("## ")?.split(' ').next());
    let newest = versions.find(|version| *version != "Unreleased").expect("a release");
    let kept = text("tests/schema/released.graphql");
    let first = kept.lines().next().unwrap_or_default();
    assert!(first.starts_with(&format!("# schema.graphql of version {newest}.")), "{newest} was released: {first}");
}

#[tokio::test]
async fn a_change_that_breaks_clients_is_found() {
    let folder = std::env::temp_dir().join(unique("smarthome-schema"));
    fs::create_dir(&folder).expect("a new folder");
    let [released, current, allowed] = ["released", "current", "allowed"].map(|name| folder.join(name));
    fs::write(&released, "type Query { name: String!, age: ID, color(of: ID): String }").expect("written");
    fs::write(&current, "type Query { name: String, color(of: ID, inverted: Boolean!): String }").expect("written");
    let reason = |changes: &str| format!("[{{\"reason\": \"nobody knew it\", \"changes\": [{changes}]}}]");

    fs::write(&allowed, reason("")).expect("written");
    let all = "breaks clients: A required arg inverted on Query.color was added.\n\
               breaks clients: Query.age was removed.\n\
               breaks clients: Query.name changed type from String! to String.\n";
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(|line| format!("{line}\n")).collect();
        lines.sort();
        lines.concat()
    };
    assert_eq!(sorted(problems(&released, &current, &allowed).await), all);

    fs::write(&allowed, reason("\"Query.age was removed.\", \"Query.size was removed.\"")).expect("written");
    let rest = all.replace("breaks clients: Query.age was removed.\n", "") + "was not made: Query.size was removed.\n";
    assert_eq!(sorted(problems(&released, &current, &allowed).await), rest);

    fs::write(&allowed, "[{\"changes\": [\"Query.age was removed.\"]}]").expect("written");
    assert_eq!(sorted(problems(&released, &current, &allowed).await), all, "without a reason");
    fs::remove_dir_all(&folder).expect("removed");
}
