//! `docs/roles.md`: the policy as people read it.

use std::collections::BTreeMap;

use super::fields::FIELDS;
use super::operations::ROWS;
use super::rights::{Outcome, Right, Role, Scope, Standing};

/// Whom the table has a column for.
const COLUMNS: [(&str, Standing); 10] = [
    ("nobody", Standing::Nobody),
    ("no member", Standing::Outsider),
    ("guest", Standing::Member(Role::Guest)),
    ("member", Standing::Member(Role::Member)),
    ("admin", Standing::Member(Role::Admin)),
    ("owner", Standing::Member(Role::Owner)),
    ("DEVICES_READ", Standing::Token(Scope::DevicesRead)),
    ("TELEMETRY_READ", Standing::Token(Scope::TelemetryRead)),
    ("COMMANDS_SEND", Standing::Token(Scope::CommandsSend)),
    ("CONFIG_PUSH", Standing::Token(Scope::ConfigPush)),
];

const INTRODUCTION: &str = "# Who may do what

Made from the policy in `tests/it/access`, which a test asks a running server about, question by question: every
operation and every field, by everybody, about their own home, another one and none.

`✓` it is done. `–` FORBIDDEN: the home is seen, and this needs a higher role or another scope. Empty: NOT_FOUND, word for word the answer
about what never was; for nobody, UNAUTHENTICATED. \"No member\" is everybody who is signed in and does not belong to the
home, former members too; what names no home is open to them. The columns in capitals are integrations of the home, each
with a token of that one scope; a token that is narrowed to some devices finds no other. A revoked token is
UNAUTHENTICATED everywhere.

An argument that names something of another home (a room, a member, a command) is answered like one that names
nothing. `register` wants `REGISTRATION=open`.

";

fn heading(first: &str) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    format!("| {first} | {names} |\n|---|{}\n", ":-:|".repeat(COLUMNS.len()))
}

fn cells(right: Right) -> String {
    let marks = COLUMNS.map(|(_, standing)| match standing.asks(right) {
        Outcome::Allowed => "✓",
        super::rights::FORBIDDEN => "–",
        Outcome::Refused(_) => "",
    });
    marks.join(" | ")
}

/// The whole document.
pub(super) fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, root) in [("Queries", "Query."), ("Mutations", "Mutation."), ("Subscriptions", "Subscription.")] {
        text.push_str(&format!("## {title}\n\n{}", heading("what")));
        let mut rows: Vec<_> = ROWS.iter().filter(|row| row.name.starts_with(root)).collect();
        rows.sort_by_key(|row| row.name);
        for row in rows {
            let (field, note) = row.name.split_once(':').unwrap_or((row.name, ""));
            let field = field.trim_start_matches(root);
            text.push_str(&format!("| `{field}`{note} | {} |\n", cells(row.right)));
        }
        text.push('\n');
    }
    text.push_str("## Fields\n\nA secret that an operation returns once, such as a password, is shown to the caller of that operation only.\n\n");
    text.push_str(&heading("what is seen"));
    let mut seen: BTreeMap<(&str, bool), BTreeMap<Right, Vec<&str>>> = BTreeMap::new();
    for fields in FIELDS {
        // Oneself and one's own sessions, by another road than other people.
        let is_own = fields.road.contains("{ me {");
        for (right, names) in fields.rights {
            let row = seen.entry((fields.object, is_own)).or_default().entry(*right).or_default();
            row.extend(names.split_whitespace());
        }
    }
    for ((object, is_own), rights) in seen {
        for (right, mut names) in rights {
            names.sort_unstable();
            names.dedup();
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let note = if is_own { " (yourself)" } else { "" };
            text.push_str(&format!("| `{object}`{note}: {names} | {} |\n", cells(right)));
        }
    }
    text
}
