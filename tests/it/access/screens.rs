//! One forbidden field never empties a screen: a client asks for everything of an object, and a caller who may read a
//! part of it receives that part, with null and an error for each of the other fields.

use serde_json::Value;

use super::ask::{Report, is_reached};
use super::fields::FIELDS;
use super::operations::ROWS;
use super::plan::{case, expected_outcome, selected};
use super::rights::{FORBIDDEN, Outcome, Relation, Right};
use super::sdl::Sdl;
use super::table::COLUMNS;
use super::world::World;

/// Fields that a caller may be refused while the rest of their object is allowed, and that the schema declares
/// non-null. A mutation or subscription is refused as a whole: it asks for one thing.
pub(super) fn non_null_refusals(sdl: &Sdl) -> Vec<String> {
    let mut found = Vec::new();
    for fields in FIELDS {
        let is_refusable = |right: Right| {
            let reads = |relation: Relation| fields.rights.iter().any(|(right, _)| is_allowed(relation, *right));
            COLUMNS.iter().any(|(_, relation)| reads(*relation) && !is_allowed(*relation, right))
        };
        let every = fields.fields(sdl).into_iter();
        let non_null = every.filter(|(right, name)| is_refusable(*right) && !sdl.is_nullable(fields.object, name));
        found.extend(non_null.map(|(_, name)| format!("{}.{name}", fields.object)));
    }
    // Without a valid token everything is refused.
    let queries = ROWS.iter().filter(|row| row.right != Right::Signed);
    let queries = queries.filter_map(|row| row.field().strip_prefix("Query."));
    found.extend(queries.filter(|name| !sdl.is_nullable("Query", name)).map(|name| format!("Query.{name}")));
    found
}

fn is_allowed(relation: Relation, right: Right) -> bool {
    relation.outcome(right) == Outcome::Allowed
}

/// Sends one request for all fields of each object, as every actor who may read some of them.
pub(super) async fn ask_for_everything(report: &Report, world: &World, sdl: &Sdl) -> usize {
    let mut n_screens = 0;
    for fields in FIELDS {
        for at in 0..world.actors.len() {
            let outcome = |right| expected_outcome(&world.actors[at], right, fields.path);
            let every = fields.fields(sdl);
            let (allowed, refused): (Vec<_>, Vec<_>) =
                every.iter().partition(|(right, _)| outcome(*right) == Outcome::Allowed);
            if allowed.is_empty() || refused.iter().all(|(right, _)| outcome(*right) != FORBIDDEN) {
                continue;
            }
            n_screens += 1;
            let names = every.iter().map(|(_, name)| selected(sdl, fields.object, name)).collect::<Vec<_>>().join(" ");
            let operation = fields.path.replace('@', &names);
            let label = format!("everything of {}", fields.path);
            let case = case(world, &label, &operation, at, &world.own, &[], FORBIDDEN).await;
            let answer = world.actors[at].user.post(&case.operation, case.variables.clone()).await.json();
            let path = |name: &str| sdl.uses(&fields.path.replace('@', name)).path;
            let is_whole = allowed.iter().all(|(_, name)| is_reached(&answer["data"], &path(name)))
                && refused.iter().all(|(_, name)| is_refused(&answer, &path(name)));
            if !is_whole {
                report.add(format!("{}: {answer}", case.label));
            }
        }
    }
    n_screens
}

/// Whether the response has null at a path, and FORBIDDEN with that path.
fn is_refused(answer: &Value, path: &[String]) -> bool {
    let names_path = |error: &Value| {
        let keys = error["path"].as_array().into_iter().flatten().filter_map(Value::as_str);
        keys.eq(path.iter().map(String::as_str)) && error["extensions"]["code"] == "FORBIDDEN"
    };
    let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().any(names_path) && is_null(&answer["data"], path)
}

/// Whether a path leads to null, for some item of each list.
fn is_null(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(items), _) => items.iter().any(|item| is_null(item, path)),
        (value, []) => value.is_null(),
        (Value::Object(map), [name, rest @ ..]) => map.get(name).is_some_and(|value| is_null(value, rest)),
        _ => false,
    }
}
