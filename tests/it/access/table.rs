//! Renders the policy as `docs/roles.md`.

use std::collections::BTreeMap;

use super::fields::FIELDS;
use super::operations::ROWS;
use super::rights::{Outcome, Relation, Right, Role, Scope};
use super::sdl::Sdl;

/// The columns of the table.
pub(super) const COLUMNS: [(&str, Relation); 10] = [
    ("signed out", Relation::SignedOut),
    ("no member", Relation::NonMember),
    ("guest", Relation::Member(Role::Guest)),
    ("member", Relation::Member(Role::Member)),
    ("admin", Relation::Member(Role::Admin)),
    ("owner", Relation::Member(Role::Owner)),
    ("DEVICES_READ", Relation::Token(Scope::DevicesRead)),
    ("TELEMETRY_READ", Relation::Token(Scope::TelemetryRead)),
    ("COMMANDS_SEND", Relation::Token(Scope::CommandsSend)),
    ("CONFIG_PUSH", Relation::Token(Scope::ConfigPush)),
];

const INTRODUCTION: &str = "# Roles and permissions

This document is generated from the policy in `tests/it/access`. A test sends every operation and every field to a running
server, as every kind of actor, about their own home, about a foreign home and about absent objects.

* `✓`: allowed.
* `–`: FORBIDDEN. The actor can see the home but needs a higher role or another scope.
* empty: NOT_FOUND, with the same response as for an object that never existed. For \"signed out\", UNAUTHENTICATED.

\"No member\" is a signed-in user who does not belong to the home, including former members. Operations that name no home are
open to them. The columns in capitals are integrations of the home, each with a token of that one scope. A token for some
devices does not find other devices. A revoked token is UNAUTHENTICATED everywhere but in the operations that need no token.

In a query, a forbidden field is null, with an error at its path, and everything else of the response has its value: every
field that somebody who may read its object can be refused is nullable in the schema. A mutation or a subscription is allowed
or refused as a whole.

A request that refers to an object of another home (a room, a member, a command) gets the same response as a request about an
object that does not exist. `register` requires `REGISTRATION=open`.

";

fn heading(first: &str) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    format!("| {first} | {names} |\n|---|{}\n", ":-:|".repeat(COLUMNS.len()))
}

fn marks(right: Right) -> String {
    let marks = COLUMNS.map(|(_, relation)| match relation.outcome(right) {
        Outcome::Allowed => "✓",
        super::rights::FORBIDDEN => "–",
        Outcome::Refused(_) => "",
    });
    marks.join(" | ")
}

pub(super) fn render(sdl: &Sdl) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, root) in [("Queries", "Query."), ("Mutations", "Mutation."), ("Subscriptions", "Subscription.")] {
        text.push_str(&format!("## {title}\n\n{}", heading("operation")));
        let mut rows: Vec<_> = ROWS.iter().filter(|row| row.name.starts_with(root)).collect();
        rows.sort_by_key(|row| row.name);
        for row in rows {
            let (field, note) = row.name.split_once(':').unwrap_or((row.name, ""));
            let field = field.trim_start_matches(root);
            text.push_str(&format!("| `{field}`{note} | {} |\n", marks(row.right)));
        }
        text.push('\n');
    }
    text.push_str("## Fields\n\nObjects that a mutation returns only once, such as credentials, belong to the caller and are not listed.\n\n");
    text.push_str(&heading("fields"));
    let mut seen: BTreeMap<(&str, bool), BTreeMap<Right, Vec<String>>> = BTreeMap::new();
    for fields in FIELDS {
        // Fields of the own account have a path of their own.
        let is_own = fields.path.contains("{ me {");
        for (right, name) in fields.fields(sdl) {
            seen.entry((fields.object, is_own)).or_default().entry(right).or_default().push(name);
        }
    }
    for ((object, is_own), rights) in seen {
        for (right, mut names) in rights {
            names.sort_unstable();
            names.dedup();
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let note = if is_own { " (yourself)" } else { "" };
            text.push_str(&format!("| `{object}`{note}: {names} | {} |\n", marks(right)));
        }
    }
    text
}
