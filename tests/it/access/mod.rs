//! Authorization of the whole API. For every field, and every argument that refers to an object, every kind of actor
//! sends a request about their own home, about a foreign home and about an absent object. The policy is in
//! `operations.rs` and `fields.rs`. The first test fails if a part of the schema is missing there.

mod arguments;
mod ask;
mod fields;
mod operations;
mod plan;
mod rights;
mod screens;
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

use crate::support::app::TestApp;

#[test]
fn every_field_and_every_argument_has_a_row() {
    let gaps = plan::gaps(&Sdl::read());
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

#[test]
fn every_field_that_a_reader_of_its_object_may_be_refused_is_nullable() {
    let found = screens::non_null_refusals(&Sdl::read());
    assert!(found.is_empty(), "make nullable, so that its refusal empties nothing else: {}", found.join(", "));
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

    let n_screens = screens::ask_for_everything(&report, &world, &sdl).await;
    assert!(n_screens > 20, "only {n_screens} requests were partly allowed");

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
                let stand_in = match row.field() {
                    "Mutation.deleteAccount" => Some(world.stand_in(at, &things).await),
                    _ => None,
                };
                let variables = world.variables(&names, &world.actors[at], &things).await;
                let label = format!("{}, by {}", row.name, world.actors[at].name);
                let paths = vec![sdl.uses(row.operation).path];
                let expected = Outcome::Allowed;
                let case =
                    Case { label, actor: at, operation, variables, expected, paths, same_response: None, stand_in };
                report.post(&world, &[case]).await;
            }
        })
        .await;
    let n_requests = report.finish();
    assert!(n_requests > 1_000, "only {n_requests} requests were sent");
    world.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_the_right_gets_everything_but_the_invitations() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let member = app.user().await;
    let invite = "mutation($h: ID!, $e: String!) { inviteMember(input: {homeId: $h, email: $e}) { token } }";
    let invited = owner.query(invite, json!({"h": home.id, "e": member.email})).await;
    let accept = "mutation($t: String!) { acceptInvitation(token: $t) { myRole } }";
    let accepted = member.query(accept, json!({"t": invited["inviteMember"]["token"]})).await;
    assert_eq!(accepted["acceptInvitation"]["myRole"], "MEMBER");

    let answer = member.post("{ homes { invitations { email } name } me { name } }", json!({})).await.json();
    let expected = json!({"homes": [{"invitations": null, "name": "Test"}], "me": {"name": "Test"}});
    assert_eq!(answer["data"], expected, "{answer}");
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["errors"][0]["path"], json!(["homes", 0, "invitations"]));
    assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN");
    app.stop().await;
}
