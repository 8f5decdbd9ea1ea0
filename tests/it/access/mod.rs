//! Who may do what, proven: every field and every argument of the schema that names something, by everybody
//! there is, about one's own home, another's and none. The policy is in `operations.rs` and `fields.rs`;
//! what the schema has and the policy has not fails the first test.

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

use ask::Verdict;
use plan::Cell;
use rights::Outcome;
use sdl::Sdl;
use world::{World, declared};

#[test]
fn every_field_and_every_argument_has_a_row() {
    let gaps = plan::gaps(&Sdl::read());
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

#[test]
fn the_table_of_roles_is_the_policy() {
    let text = table::render();
    if include_str!("../../../docs/roles.md") != text {
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("roles.md");
        std::fs::write(&file, text).unwrap();
        panic!("docs/roles.md is out of date: `cp {} docs/roles.md`", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_the_policy_says() {
    let (sdl, mut world) = (Sdl::read(), World::build().await);
    let owner = world.actors.iter().find(|actor| actor.name == "owner").unwrap().user.clone();
    let place = world.reading_cursor(&owner, &world.own).await;
    world.own.insert("reading_cursor", place);

    let plan = plan::plan(&world, &sdl).await;
    let untried: Vec<_> = sdl.arguments().into_iter().filter(|argument| !plan.varied.contains(argument)).collect();
    assert!(untried.is_empty(), "no operation has a variable at {}", untried.join(", "));
    let verdict = Verdict::default();

    // What is refused leaves no trace.
    let before = world.app.database().rows().await;
    verdict.post(&world, &plan.still).await;
    for (table, rows) in world.app.database().rows().await {
        if before[&table] != rows {
            verdict.add(format!("what was refused or read changed {table}"));
        }
    }

    // Somebody is always busy, so that who may listen hears something.
    let things = json!({"d": world.own["device"]});
    let busy = async {
        const BUSY: &str = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 9}}) { version } \
            sendCommand(input: {deviceId: $d, type: \"SET_POWER\", payload: {power: true}}) { id } }";
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            world.landlord.post(BUSY, things.clone()).await;
        }
    };
    tokio::select! {
        () = busy => {}
        () = verdict.subscribe(&world, &plan.streams) => {}
    }

    // What is allowed and changes something, each in a home of its own; one after the other by one actor,
    // because some of it ends sessions.
    let changes = |at: usize| plan.changes.iter().filter(move |(actor, _)| *actor == at).map(|(_, row)| *row);
    stream::iter(0..world.actors.len())
        .for_each_concurrent(None, async |at| {
            for row in changes(at) {
                // An integration acts in its own home and no other.
                let things = if world.actors[at].standing.is_inside()
                    && row.right.least().is_some()
                    && world.actors[at].user.email.is_empty()
                {
                    world.own.clone()
                } else {
                    world.home("Cell").await
                };
                let (operation, names) = declared(row.operation);
                let variables = world.variables(&names, &world.actors[at], &things).await;
                let label = format!("{}, by {}", row.name, world.actors[at].name);
                let paths = vec![sdl.uses(row.operation).path];
                let expected = Outcome::Allowed;
                let cell = Cell { label, actor: at, operation, variables, expected, paths, alike: None };
                verdict.post(&world, &[cell]).await;
            }
        })
        .await;
    let n_asked = verdict.speak();
    assert!(n_asked > 1_000, "only {n_asked} questions were asked");
    world.app.stop().await;
}
