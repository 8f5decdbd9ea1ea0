//! The audit log: every change writes its entry in its own transaction, and the entry never changes.

mod story;

use serde_json::{Value, json};
use smarthome::audit;

use self::story::Character::{Ann, Bob, Robot};
use self::story::{ADDRESS, STEPS, Story, user};
use super::{Graph, text};
use crate::support::app::TestApp;
use crate::support::eventually;

/// A secret that must not appear in the log.
const CANARY: &str = "canary-7f3a91";

const LOG: &str = "query($h: ID!, $n: Int, $a: String) { auditLog(homeId: $h, first: $n, after: $a) \
     { nodes { id at actor actorKind actorUser { email } address action target details } \
     pageInfo { hasNextPage endCursor } } }";

#[tokio::test(flavor = "multi_thread")]
async fn every_change_writes_its_entry_without_secrets() {
    let mut story = Story::begin().await;
    let mut newest = 0;
    for step in STEPS {
        let (actor, _, query, expected) = step;
        story.step(step).await;
        let entries = story.entries_after(newest).await;
        assert_eq!(entries.len(), expected.len(), "{query}: {entries:#?}");
        for (entry, (action, target, details)) in entries.iter().zip(*expected) {
            let target = story.fill(target);
            assert_eq!((&entry["action"], &entry["target"]), (&json!(action), &json!(target)), "{query}");
            let details: Value = serde_json::from_str(&story.fill(details)).unwrap();
            assert_eq!(entry["details"], details, "{query}");
            let (kind, name) = match actor {
                Ann => ("SESSION", "email"),
                Bob => ("OPERATOR", "email"),
                Robot => ("INTEGRATION", "name"),
            };
            let actor = user(&story.person(*actor).await);
            let name = format!("select {name} from users where id = $1");
            let name: String = story.graph.sql.query_one(&name, &[&actor]).await.unwrap().get(0);
            assert_eq!((&entry["actor"], &entry["actor_id"]), (&json!(name), &json!(actor)), "{query}");
            assert_eq!((&entry["actor_kind"], &entry["address"]), (&json!(kind), &json!(ADDRESS)), "{query}");
            let home: Value =
                if *action == "home.delete" { Value::Null } else { json!(super::number(&story.known["home"])) };
            assert_eq!(entry["home_id"], home, "{query}");
        }
        newest = story.newest().await;
        let all = story.entries_after(0).await;
        let all = serde_json::to_string(&all).unwrap();
        let secrets = story.known.iter().filter(|(name, _)| name.starts_with("secret") || *name == "token");
        for secret in secrets.map(|(_, secret)| secret.as_str()).chain([CANARY]) {
            assert!(!all.contains(secret), "{query} wrote a secret: {all}");
        }
    }
    assert!(["secret1", "secret2", "secret3", "secret4", "token"].iter().all(|name| story.known[*name].len() > 20));
    // Of a deleted home only the entry of its deletion is left.
    assert_eq!(story.graph.count("audit_log").await, 1);
    let seen: std::collections::BTreeSet<_> =
        STEPS.iter().flat_map(|step| step.3).map(|(action, ..)| *action).collect();
    let all = audit::Action::ALL.iter().map(|action| action.as_str());
    assert_eq!(all.filter(|action| !seen.contains(action)).collect::<Vec<_>>(), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_its_entry_are_committed_together_or_not_at_all() {
    let mut story = Story::begin().await;
    // A trigger makes every transaction that writes an entry fail at the commit.
    story
        .graph
        .sql
        .batch_execute(
            "create function fail() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
             create constraint trigger fail after insert on audit_log deferrable initially deferred
                for each row execute function fail();
             alter table audit_log disable trigger fail",
        )
        .await
        .unwrap();
    for step in STEPS {
        let (actor, _, query, _) = step;
        let before = story.everything().await;
        story.graph.sql.batch_execute("alter table audit_log enable trigger fail").await.unwrap();
        let answer = story.answer(&story.person(*actor).await, query).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{query}: {answer}");
        assert_eq!(story.everything().await, before, "{query}");
        story.graph.sql.batch_execute("alter table audit_log disable trigger fail").await.unwrap();
        story.step(step).await;
        assert_ne!(story.everything().await, before, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mutation_or_one_that_changes_nothing_writes_no_entry() {
    let mut story = Story::begin().await;
    let last = STEPS.iter().position(|step| step.2.contains("acceptInvitation")).unwrap();
    for step in &STEPS[..=last] {
        story.step(step).await;
    }
    let newest = story.newest().await;
    for (actor, query, code) in [
        (Ann, "mutation { updateHome(input: {id: \"@home\"}) { id } }", None),
        (Ann, "mutation { updateHome(input: {id: \"@home\", name: \" Villa \"}) { id } }", None),
        (Ann, "mutation { renameRoom(input: {id: \"@room\", name: \"kitchen\"}) { id } }", None),
        (Ann, "mutation { updateDevice(input: {id: \"@device\"}) { id } }", None),
        (
            Ann,
            "mutation { updateDevice(input: {id: \"@device\", name: \"Lamp\", type: DOOR, roomId: null}) { id } }",
            None,
        ),
        (Ann, "mutation { setMemberRole(input: {homeId: \"@home\", userId: \"@uid\", role: MEMBER}) { role } }", None),
        (Ann, "mutation { cancelCommand(id: \"@c2\") { id } }", None),
        (
            Ann,
            "mutation { sendCommand(input: {deviceId: \"@device\", type: \"UNLOCK\", payload: {pin: \"canary-7f3a91\"}, \
             onStale: SUPERSEDE, idempotencyKey: \"k\"}) { id } }",
            None,
        ),
        (
            Ann,
            "mutation { sendCommand(input: {deviceId: \"@device\", type: \"RESET\", idempotencyKey: \"k\"}) { id } }",
            Some("CONFLICT"),
        ),
        (Ann, "mutation { createRoom(input: {homeId: \"@home\", name: \"KITCHEN\"}) { id } }", Some("CONFLICT")),
        (Ann, "mutation { deleteRoom(id: \"999999\") }", Some("NOT_FOUND")),
        (
            Ann,
            "mutation { registerDevices(input: {homeId: \"@home\", devices: [{key: \"n\", name: \"N\"}, {key: \"a\", name: \"A\"}]}) { device { id } } }",
            Some("CONFLICT"),
        ),
        (Ann, "mutation { updateDevice(input: {id: \"@device\", roomId: \"999999\"}) { id } }", Some("NOT_FOUND")),
        (
            Ann,
            "mutation { rotateDeviceCredentials(input: {deviceId: \"@device\", graceSeconds: -1}) { password } }",
            Some("BAD_USER_INPUT"),
        ),
        (
            Ann,
            "mutation { pushConfig(input: {deviceId: \"@device\", config: {}, expectedVersion: 1}) { version } }",
            Some("CONFLICT"),
        ),
        (
            Ann,
            "mutation { rollbackConfig(input: {deviceId: \"@device\", toVersion: 99}) { version } }",
            Some("NOT_FOUND"),
        ),
        (Ann, "mutation { inviteMember(input: {homeId: \"@home\", email: \"@bob\"}) { id } }", Some("CONFLICT")),
        (Ann, "mutation { cancelCommand(id: \"@c1\") { id } }", None),
        (Bob, "mutation { acceptInvitation(token: \"@token\") { id } }", Some("BAD_USER_INPUT")),
        (Bob, "mutation { updateHome(input: {id: \"@home\", name: \"Mine\"}) { id } }", Some("FORBIDDEN")),
        (Bob, "mutation { deleteHome(id: \"@home\") }", Some("FORBIDDEN")),
        (Bob, "mutation { deleteDevice(id: \"@device\") }", Some("FORBIDDEN")),
        (Bob, "mutation { pushConfig(input: {deviceId: \"@device\", config: {}}) { version } }", Some("FORBIDDEN")),
        (
            Bob,
            "mutation { setMemberRole(input: {homeId: \"@home\", userId: \"@uid\", role: OWNER}) { role } }",
            Some("FORBIDDEN"),
        ),
    ] {
        let answer = story.answer(&story.person(actor).await, query).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"].as_str(), code, "{query}: {answer}");
        assert_eq!(story.entries_after(newest).await, [] as [Value; 0], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_read_the_log_page_by_page() {
    let graph = Graph::start().await;
    let (ann, bob, eve) = (graph.person().await, graph.person().await, graph.person().await);
    let (home, foreign) = (graph.home(&ann).await, graph.home(&eve).await);
    graph.devices(&ann, &home, 4).await;
    let mut pages = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = graph.ask(&ann, LOG, json!({"h": home, "n": 2, "a": after})).await["auditLog"].take();
        pages.push(page["nodes"].as_array().unwrap().clone());
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let all = pages.concat();
    let of = |field: &str| all.iter().map(|entry| entry[field].clone()).collect::<Vec<_>>();
    let ids: Vec<i64> = of("id").iter().map(|id| super::number(id.as_str().unwrap())).collect();
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "{ids:?}");
    assert_eq!(of("action")[3..], [json!("device.register"), json!("home.create")]);
    assert_eq!((&all[0]["actorKind"], &all[0]["address"]), (&json!("OPERATOR"), &Value::Null));
    assert_eq!(all[0]["actorUser"]["email"], all[0]["actor"]);
    assert!(all[0]["details"]["id"].is_string() && all[0]["target"].as_str().unwrap().ends_with("(d3)"));

    for (role, code) in [("GUEST", Some("FORBIDDEN")), ("MEMBER", Some("FORBIDDEN")), ("ADMIN", None)] {
        graph.join(&home, &bob, role).await;
        let answer = graph.answer(&bob, LOG, json!({"h": home})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"].as_str(), code, "{role}: {answer}");
        graph.sql.execute("delete from memberships where user_id = $1", &[&user(&bob)]).await.unwrap();
    }
    for home in [&home, "987654321"] {
        assert_eq!(graph.code(&bob, LOG, json!({"h": home})).await, "NOT_FOUND");
    }
    let theirs = graph.ask(&eve, LOG, json!({"h": foreign})).await;
    assert_eq!(theirs["auditLog"]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(graph.code(&ann, LOG, json!({"h": home, "n": 501})).await, "BAD_USER_INPUT");
    assert_eq!(graph.code(&ann, LOG, json!({"h": home, "a": "cmVqZWN0ZWQ6MQ"})).await, "BAD_USER_INPUT");

    // A member leaves and the account is deleted: the entries stay, and do not lead to the account.
    graph.join(&home, &bob, "ADMIN").await;
    graph
        .ask(&bob, "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"R\"}) { id } }", json!({"h": home}))
        .await;
    let email = text(&graph.ask(&bob, "{ me { email } }", json!({})).await["me"]["email"]);
    let newest = graph.ask(&ann, LOG, json!({"h": home, "n": 1})).await["auditLog"]["nodes"][0].take();
    assert_eq!(newest["actorUser"]["email"], json!(email));
    graph.sql.execute("delete from memberships where user_id = $1", &[&user(&bob)]).await.unwrap();
    let newest = graph.ask(&ann, LOG, json!({"h": home, "n": 1})).await["auditLog"]["nodes"][0].take();
    assert_eq!((&newest["actor"], &newest["actorUser"]), (&json!(email), &Value::Null));
    graph.sql.execute("delete from users where id = $1", &[&user(&bob)]).await.unwrap();
    let newest = graph.ask(&ann, LOG, json!({"h": home, "n": 1})).await["auditLog"]["nodes"][0].take();
    assert_eq!((&newest["actor"], &newest["actorUser"]), (&json!(email), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_changes_of_the_log() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, deleted) = (graph.home(&ann).await, graph.home(&ann).await);
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": deleted})).await;
    assert_eq!(graph.count("audit_log").await, 2);
    // With the server's own database account.
    for sql in [
        "update audit_log set actor = 'eve'",
        "update audit_log set actor = 'eve' where false",
        "insert into audit_log select * from audit_log on conflict (id) do update set actor = 'eve'",
        "delete from audit_log",
        "delete from audit_log where home_id is null",
        "delete from audit_log where home_id is not null",
        "truncate audit_log",
        "create temp table homes (id bigint); delete from audit_log where home_id is not null",
        "merge into audit_log a using homes h on a.home_id = h.id when matched then delete",
    ] {
        let sql = sql.replace("insert into audit_log select", "insert into audit_log overriding system value select");
        let error = graph.sql.batch_execute(&sql).await.expect_err(&sql);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "42501", "{sql}: {error}");
        assert!(error.message().starts_with("audit_log is append-only"), "{sql}: {error}");
        graph.sql.batch_execute("drop table if exists pg_temp.homes").await.unwrap();
    }
    assert_eq!(graph.count("audit_log where actor <> 'eve'").await, 2);

    // Expired entries are deleted, and those of a home whose deletion was interrupted; the others stay.
    let old = "insert into audit_log (id, at, home_id, actor_kind, actor_id, actor, action, target, details)
               overriding system value
               select row_number() over (order by at) - 100000, at, home, 'SESSION', 1, 'x', 'home.update', 'home 1', '{}'::json
               from (select now() - make_interval(days => days) as at, home
                     from generate_series(1, 400) days, unnest(array[$1, 999999, null]::bigint[]) home
                     union all select now() - interval '9601 hours', $1::bigint from generate_series(1, 12000)) old";
    let many = "insert into audit_log (home_id, actor_kind, actor_id, actor, action, target, details)
                select 999998, 'SESSION', 1, 'x', 'home.update', 'home 1', '{}'::json from generate_series(1, 12000)";
    graph.sql.execute(old, &[&super::number(&home)]).await.unwrap();
    graph.sql.execute(many, &[]).await.unwrap();
    audit::delete_expired(&graph.services.pool).await.unwrap();
    assert_eq!(graph.count("audit_log where home_id in (999998, 999999)").await, 0);
    assert_eq!(graph.count("audit_log where at < now() - interval '400 days'").await, 0);
    assert_eq!(graph.count("audit_log where at >= now() - interval '400 days'").await, 2 + 2 * 399);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_with_a_long_log_is_deleted_with_all_of_it() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let many = "insert into audit_log (home_id, actor_kind, actor_id, actor, action, target, details)
                select $1, 'SESSION', 1, 'x', 'command.send', 'c', '{}' from generate_series(1, 25000)";
    graph.sql.execute(many, &[&super::number(&home)]).await.unwrap();
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    assert_eq!(graph.count("audit_log").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_as_many_statements_as_one_entry_and_an_entry_costs_a_change_one_statement() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 60).await.remove(0);
    let statements = &graph.services.metrics.db_statements;
    for n in [1, 50] {
        graph.ask(&ann, LOG, json!({"h": home, "n": n})).await;
        let before = statements.get();
        graph.ask(&ann, LOG, json!({"h": home, "n": n})).await;
        assert_eq!(statements.get() - before, 4, "{n}");
    }
    let send = "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"RESET\"}) { id } }";
    graph.ask(&ann, send, json!({"d": device})).await;
    let before = statements.get();
    graph.ask(&ann, send, json!({"d": device})).await;
    // Read the device, begin, lock it, insert the command, count the open ones, insert the entry, prune, commit.
    assert_eq!(statements.get() - before, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_that_of_the_client() {
    let app = TestApp::start().await;
    let (home, ann) = app.home().await;
    let entry = ann.query(LOG, json!({"h": home.id})).await["auditLog"]["nodes"][0].take();
    assert_eq!(
        (&entry["address"], &entry["actor"], &entry["actorKind"]),
        (&json!("127.0.0.1"), &json!(ann.email), &json!("SESSION"))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starting_server_completes_an_interrupted_deletion() {
    let database = TestApp::start().await.stop().await;
    let sql = database.client().await;
    let left = "insert into audit_log (home_id, actor_kind, actor_id, actor, action, target, details)
                values (999999, 'SESSION', 1, 'x', 'home.update', 'home 999999', '{}'),
                       (null, 'SESSION', 1, 'x', 'home.delete', 'home 999999', '{}')";
    sql.batch_execute(left).await.unwrap();
    let app = TestApp::builder().start_on(database).await;
    eventually("the log of the home is deleted", || async {
        let rows = sql.query("select home_id from audit_log", &[]).await.unwrap();
        (rows.len() == 1 && rows[0].get::<_, Option<i64>>(0).is_none()).then_some(())
    })
    .await;
    app.stop().await;
}
