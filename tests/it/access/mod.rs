//! Authorization of the whole API. For every field, and every argument that refers to an object, every kind of actor
//! sends a request about their own home, about a foreign home and about an absent object. The policy is in
//! `operations.rs` and `fields.rs`. The first test fails if a part of the schema is missing there.

mod ask;
mod fields;
mod operations;
mod plan;
mod rights;
mod sdl;
mod table;
mod world;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use ask::Report;
use plan::Case;
use rights::Outcome;
use sdl::Sdl;
use world::{World, declared};

#[test]
fn every_field_and_every_argument_has_a_row() {
    let gaps = plan::gaps(&Sdl::read());
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

#[test]
fn the_roles_document_matches_the_policy() {
    let text = table::render(&Sdl::read());
    if include_str!("../../../docs/roles.md") != text {
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("roles.md");
        std::fs::write(&file, text).unwrap();
        panic!("docs/roles.md is out of date: `cp {} docs/roles.md`", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_actor_gets_the_outcome_of_the_policy() {
    let (sdl, mut world) = (Sdl::read(), World::build().await);
    let owner = world.actors.iter().find(|actor| actor.name == "owner").unwrap().user.clone();
    let place = world.reading_cursor(&owner, &world.own).await;
    world.own.insert("reading_cursor", place);

    let plan = plan::plan(&world, &sdl).await;
    let untried: Vec<_> =
        sdl.arguments().into_iter().filter(|argument| !plan.varied_arguments.contains(argument)).collect();
    assert!(untried.is_empty(), "no operation has a variable at {}", untried.join(", "));
    let report = Report::default();

    // Refused requests and reads must change no table.
    let before = world.app.database().rows().await;
    report.post(&world, &plan.without_effect).await;
    for (table, rows) in world.app.database().rows().await {
        if before[&table] != rows {
            report.add(format!("a refused request or a read changed {table}"));
        }
    }

    // Regular changes, so that allowed subscriptions receive an event.
    let things = json!({"d": world.own["device"]});
    let regular_changes = async {
        const CHANGES: &str = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 9}}) { version } \
            sendCommand(input: {deviceId: $d, type: \"SET_POWER\", payload: {power: true}}) { id } }";
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            world.landlord.post(CHANGES, things.clone()).await;
        }
    };
    tokio::select! {
        () = regular_changes => {}
        () = report.subscribe(&world, &plan.subscriptions) => {}
    }

    // Allowed mutations, each in a home of its own. Those of one actor run one after the other, because some of
    // them end sessions.
    let changes = |at: usize| plan.changes.iter().filter(move |(actor, _)| *actor == at).map(|(_, row)| *row);
    stream::iter(0..world.actors.len())
        .for_each_concurrent(None, async |at| {
            for row in changes(at) {
                // An integration can act only in its own home.
                let things = if world.actors[at].relation.can_see_home()
                    && row.right.lowest_role().is_some()
                    && world.actors[at].user.email.is_empty()
                {
                    world.own.clone()
                } else {
                    world.home("Case").await
                };
                let (operation, names) = declared(row.operation);
                let variables = world.variables(&names, &world.actors[at], &things).await;
                let label = format!("{}, by {}", row.name, world.actors[at].name);
                let paths = vec![sdl.uses(row.operation).path];
                let expected = Outcome::Allowed;
                let case = Case { label, actor: at, operation, variables, expected, paths, same_response: None };
                report.post(&world, &[case]).await;
            }
        })
        .await;
    let n_requests = report.finish();
    assert!(n_requests > 1_000, "only {n_requests} requests were sent");
    world.app.stop().await;
}
