//! Configurations: versions, conflicts, secrets, answers, streams.

use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::device_config::{self, ConfigAnswer, ConfigAnswerKind, ConfigStatus, DeviceConfig};
use smarthome::{db, hub, settings};

use super::live::{next, subscribe};
use super::{Graph, Person, text};
use crate::support::until;

const PUSH: &str =
    "mutation($i: PushConfigInput!) { pushConfig(input: $i) { version status config createdBy { id } device { id } } }";
const READ: &str = "query($d: ID!) { device(id: $d) { config { version status config errors createdAt sentAt appliedAt createdBy { email } } } }";
const UPDATES: &str =
    "subscription($d: ID, $h: ID) { configUpdates(deviceId: $d, homeId: $h) { version status config device { id } } }";
const CANARY: &str = "canary-9f2c";

pub(super) async fn push(graph: &Graph, person: &Person, device: &str, config: Value) -> Value {
    let made = graph.ask(person, PUSH, json!({"i": {"deviceId": device, "config": config}})).await;
    made["pushConfig"].clone()
}

async fn read(graph: &Graph, person: &Person, device: &str) -> Value {
    graph.ask(person, READ, json!({"d": device})).await["device"]["config"].clone()
}

pub(super) async fn connection(graph: &Graph) -> db::Connection {
    db::connect(&graph.database.url(), None).await.unwrap()
}

async fn one_device(graph: &Graph) -> (Person, String, String) {
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    (ann, home, device)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_push_is_a_version_merged_or_replaced_and_an_old_one_can_be_rolled_back_to() {
    let graph = Graph::start().await;
    let (ann, _, device) = one_device(&graph).await;
    assert_eq!(read(&graph, &ann, &device).await, Value::Null);
    let first = push(&graph, &ann, &device, json!({"sampleRate": 5, "my": {"a": 1, "b": [2.5]}})).await;
    assert_eq!((&first["version"], &first["status"]), (&json!(1), &json!("PENDING")));
    assert_eq!(first["device"]["id"], json!(device));
    assert_eq!(text(&first["createdBy"]["id"]), ann.0.as_ref().unwrap().user.to_string());
    let second = push(&graph, &ann, &device, json!({"sampleRate": null, "my": {"a": null, "c": "x"}})).await;
    assert_eq!((&second["version"], &second["config"]), (&json!(2), &json!({"my": {"b": [2.5], "c": "x"}})));
    let whole = json!({"i": {"deviceId": device, "config": {"powerSaving": true}, "mode": "REPLACE"}});
    assert_eq!(graph.ask(&ann, PUSH, whole).await["pushConfig"]["config"], json!({"powerSaving": true}));

    let back = "mutation($d: ID!, $v: Int!) { rollbackConfig(input: {deviceId: $d, toVersion: $v}) { version status config } }";
    let rolled = graph.ask(&ann, back, json!({"d": device, "v": 1})).await["rollbackConfig"].clone();
    let again = json!({"version": 4, "status": "PENDING", "config": first["config"]});
    assert_eq!(rolled, again);
    for absent in [0, 5, -1] {
        assert_eq!(graph.code(&ann, back, json!({"d": device, "v": absent})).await, "NOT_FOUND");
    }

    let page = "query($d: ID!, $n: Int, $a: String) { device(id: $d) { configHistory(first: $n, after: $a) \
                { nodes { version status } pageInfo { hasNextPage endCursor } } } }";
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let data = graph.ask(&ann, page, json!({"d": device, "n": 3, "a": after})).await;
        let page = &data["device"]["configHistory"];
        seen.extend(page["nodes"].as_array().unwrap().iter().map(|n| format!("{} {}", n["version"], n["status"])));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    let superseded = ["3 \"SUPERSEDED\"", "2 \"SUPERSEDED\"", "1 \"SUPERSEDED\""];
    assert_eq!((&seen[0][..], &seen[1..]), ("4 \"PENDING\"", &superseded.map(str::to_owned)[..]));
    assert_eq!(graph.code(&ann, page, json!({"d": device, "a": "x"})).await, "BAD_USER_INPUT");

    // The newest hundred versions are kept.
    graph.sql.execute("update device_configs set version = 150 where version = 4", &[]).await.unwrap();
    push(&graph, &ann, &device, json!({})).await;
    let kept = graph.sql.query("select version from device_configs order by 1", &[]).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [150, 151]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_concurrent_pushes_one_is_a_conflict_and_nothing_is_lost() {
    let graph = Graph::start().await;
    let (ann, home, device) = one_device(&graph).await;
    let bob = graph.person().await;
    graph.join(&home, &bob, "ADMIN").await;
    for round in 0..10 {
        let push = async |person: &Person, key: &str| {
            let config = json!({key: round});
            let input = json!({"i": {"deviceId": device, "config": config, "expectedVersion": round}});
            graph.answer(person, PUSH, input).await
        };
        let answers = join_all([push(&ann, "ann"), push(&bob, "bob")]).await;
        let (lost, won): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.get("errors").is_some());
        assert_eq!((won.len(), lost.len()), (1, 1), "{answers:?}");
        let error = &lost[0]["errors"][0];
        assert_eq!(error["extensions"]["code"], "CONFLICT");
        assert!(text(&error["message"]).contains(&format!("newest version is {}", round + 1)), "{error}");
        let config = read(&graph, &ann, &device).await;
        assert_eq!(
            (&config["version"], &config["config"]),
            (&json!(round + 1), &won[0]["data"]["pushConfig"]["config"])
        );
    }
    // Without an expected version all pushes are accepted, one after the other, and merge.
    let pushes = (0..8).map(|n| {
        let (graph, person, device) = (&graph, &ann, &device);
        async move { push(graph, person, device, json!({format!("k{n}"): n})).await }
    });
    join_all(pushes).await;
    let config = read(&graph, &ann, &device).await;
    assert_eq!(config["version"], 18);
    assert!((0..8).all(|n| config["config"][format!("k{n}")] == n), "{config}");
    let pending = "device_configs where status in ('PENDING', 'SENT')";
    assert_eq!(graph.count(pending).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_value_is_refused_by_its_path_and_a_role_without_permission_is_forbidden() {
    let graph = Graph::start().await;
    let (ann, home, device) = one_device(&graph).await;
    let (guest, member) = (graph.person().await, graph.person().await);
    graph.join(&home, &guest, "GUEST").await;
    graph.join(&home, &member, "MEMBER").await;
    let input = |config: Value| json!({"i": {"deviceId": device, "config": config}});
    for (wrong, code, field) in [
        (json!({"sampleRate": 0}), "BAD_USER_INPUT", "config.sampleRate"),
        (json!({"wifiConfig": {"password": "short"}}), "BAD_USER_INPUT", "config.wifiConfig.password"),
        (json!([1]), "BAD_USER_INPUT", "config"),
        (json!({"token": "[secret]"}), "BAD_USER_INPUT", "config"),
        (json!({"x": "y".repeat(9000)}), "PAYLOAD_TOO_LARGE", "config"),
    ] {
        let answer = graph.answer(&ann, PUSH, input(wrong)).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": code, "field": field}), "{answer}");
    }
    assert_eq!(graph.count("device_configs").await, 0);
    push(&graph, &ann, &device, json!({"sampleRate": 5})).await;
    let back = "mutation($d: ID!) { rollbackConfig(input: {deviceId: $d, toVersion: 1}) { version } }";
    for person in [&guest, &member] {
        assert_eq!(graph.code(person, PUSH, input(json!({}))).await, "FORBIDDEN");
        assert_eq!(graph.code(person, back, json!({"d": device})).await, "FORBIDDEN");
        assert_eq!(read(&graph, person, &device).await["config"], json!({"sampleRate": 5}));
    }
    // A former member is not named.
    graph.join(&home, &graph.person().await, "OWNER").await;
    let email = read(&graph, &member, &device).await["createdBy"]["email"].clone();
    assert!(email.is_string());
    let leave = "delete from memberships where user_id = $1";
    graph.sql.execute(leave, &[&ann.0.as_ref().unwrap().user.get()]).await.unwrap();
    assert_eq!(read(&graph, &member, &device).await["createdBy"], Value::Null);
}

/// Every row of every table as text.
async fn dump(graph: &Graph) -> String {
    let tables = "select string_agg(format('select %L || t::text from %I t', tablename || ' ', tablename), ' union all ') \
                  from pg_tables where schemaname = 'public'";
    let all: String = graph.sql.query_one(tables, &[]).await.unwrap().get(0);
    let rows = graph.sql.query(&all, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_secret_is_never_shown() {
    let graph = Graph::start().await;
    let (ann, home, device) = one_device(&graph).await;
    let mut updates = subscribe(&graph, &ann, UPDATES, json!({"h": home}));
    let listening = tokio::spawn(async move { (next(&mut updates).await, updates) });
    until("the subscription listens", || graph.config_hub.n_homes() == 1).await;
    let config = json!({
        "wifiConfig": {"ssid": "home", "password": CANARY}, "list": [{"apiToken": CANARY}],
        "deep": {"er": {"clientSecret": {"k": CANARY}}},
    });
    let mut answers = vec![graph.answer(&ann, PUSH, json!({"i": {"deviceId": device, "config": config}})).await];
    assert_eq!(answers[0]["data"]["pushConfig"]["config"]["wifiConfig"]["password"], "[secret]", "{answers:?}");
    let written_back = answers[0]["data"]["pushConfig"]["config"].clone();
    for mode in ["MERGE", "REPLACE"] {
        let mut config = written_back.clone();
        config["sampleRate"] = json!(7);
        let input = json!({"i": {"deviceId": device, "config": config, "mode": mode}});
        answers.push(graph.answer(&ann, PUSH, input).await);
    }
    let wrong = json!({"i": {"deviceId": device, "config": {"token": CANARY, "sampleRate": 0}}});
    answers.push(graph.answer(&ann, PUSH, wrong).await);
    let back = "mutation($d: ID!) { rollbackConfig(input: {deviceId: $d, toVersion: 1}) { config } }";
    answers.push(graph.answer(&ann, back, json!({"d": device})).await);
    let history = "query($d: ID!) { device(id: $d) { config { config } configHistory { nodes { config errors } } } }";
    answers.push(graph.answer(&ann, history, json!({"d": device})).await);
    let (event, _updates) = listening.await.unwrap();
    answers.push(event.unwrap());
    assert_eq!(graph.count("device_configs where secrets is not null").await, 4);
    for answer in answers {
        assert!(!answer.to_string().contains(CANARY), "{answer}");
    }
    let dump = dump(&graph).await;
    assert!(dump.contains("[secret]") && dump.contains("device_configs "));
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!dump.contains(CANARY) && !dump.contains(&hex));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_a_secret_is_refused_and_other_values_are_accepted() {
    let graph = Graph::start_with(None).await;
    let (ann, _, device) = one_device(&graph).await;
    let secret = json!({"i": {"deviceId": device, "config": {"a": {"myToken": CANARY}}}});
    let answer = graph.answer(&ann, PUSH, secret).await;
    let error = &answer["errors"][0];
    assert_eq!(error["extensions"], json!({"code": "BAD_USER_INPUT", "field": "config"}));
    let message = text(&error["message"]);
    assert!(message.contains("config.a.myToken") && message.contains("ENCRYPTION_KEY"), "{message}");
    assert!(!answer.to_string().contains(CANARY));
    assert_eq!(push(&graph, &ann, &device, json!({"sampleRate": 5})).await["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_answer_to_an_unanswered_version_changes_it() {
    let graph = Graph::start().await;
    let (ann, _, device) = one_device(&graph).await;
    let conn = connection(&graph).await;
    let id = device.parse().unwrap();
    let at = graph.clock.now();
    let answer = |version, kind| ConfigAnswer { device: id, version, kind, at };
    let refusal = || ConfigAnswerKind::Rejected { errors: Some(json!({"sampleRate": "too \u{0} fast"})) };
    let record = async |answers: &[&ConfigAnswer]| {
        let changed = device_config::record_answers(&conn, answers).await.unwrap();
        changed.iter().map(|config| (config.version, config.status)).collect::<Vec<_>>()
    };
    push(&graph, &ann, &device, json!({"sampleRate": 1})).await;
    push(&graph, &ann, &device, json!({"sampleRate": 2})).await;
    assert_eq!(record(&[]).await, []);
    let (applied, rejected) = (answer(2, ConfigAnswerKind::Applied), answer(2, refusal()));
    let (superseded, unknown) = (answer(1, ConfigAnswerKind::Applied), answer(9, ConfigAnswerKind::Applied));
    assert_eq!(record(&[&superseded, &unknown]).await, []);
    assert_eq!(record(&[&unknown, &rejected, &applied, &superseded]).await, [(2, ConfigStatus::Rejected)]);
    assert_eq!(record(&[&applied]).await, []);
    let config = read(&graph, &ann, &device).await;
    assert_eq!((&config["status"], &config["appliedAt"]), (&json!("REJECTED"), &Value::Null));
    assert_eq!(config["errors"], json!({"sampleRate": "too \u{0} fast"}));
    assert!(config["sentAt"].is_string());

    push(&graph, &ann, &device, json!({"sampleRate": 3})).await;
    assert_eq!(record(&[&answer(3, ConfigAnswerKind::Applied)]).await, [(3, ConfigStatus::Applied)]);
    assert!(read(&graph, &ann, &device).await["appliedAt"].is_string());
    // An answered version is not superseded.
    push(&graph, &ann, &device, json!({"sampleRate": 4})).await;
    let found = device_config::find_for_ingest(&conn, &[(id, 3), (id, 4), (id, 99)]).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|config| (config.version, config.status)).collect();
    found.sort_unstable_by_key(|(version, _)| *version);
    assert_eq!(found, [(3, ConfigStatus::Applied), (4, ConfigStatus::Pending)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_streamed_and_a_lagging_subscriber_catches_up() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let mut all = subscribe(&graph, &ann, UPDATES, json!({"h": home}));
    let mut one = subscribe(&graph, &ann, UPDATES, json!({"d": devices[1]}));
    // Polled once each, so that both listen.
    assert!(futures_util::poll!(futures_util::StreamExt::next(&mut all)).is_pending());
    assert!(futures_util::poll!(futures_util::StreamExt::next(&mut one)).is_pending());
    let mut seen = Vec::new();
    let first = tokio::spawn(async move { (next(&mut all).await, all) });
    let other = tokio::spawn(async move { (next(&mut one).await, one) });
    until("both subscriptions listen", || graph.services.metrics.subscriptions.get() == 2).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 1})).await;
    push(&graph, &ann, &devices[1], json!({"sampleRate": 1})).await;
    let (event, mut all) = first.await.unwrap();
    seen.extend(event);
    seen.extend(next(&mut all).await);
    let of: Vec<_> = seen.iter().map(|event| event["data"]["configUpdates"]["device"]["id"].clone()).collect();
    assert_eq!(of, [json!(devices[0]), json!(devices[1])]);
    let (event, mut one) = other.await.unwrap();
    let update = event.unwrap()["data"]["configUpdates"].clone();
    assert_eq!((&update["device"]["id"], &update["version"]), (&json!(devices[1]), &json!(1)));

    // More changes at once than the hub holds: the subscriber still gets the last state of each version.
    let n = i64::try_from(hub::DEVICE_CAPACITY).unwrap() / 2 + 5;
    for rate in 1..=n {
        push(&graph, &ann, &devices[1], json!({"sampleRate": rate})).await;
    }
    let mut newest = std::collections::BTreeMap::new();
    while newest.get(&(n + 1)) != Some(&json!("PENDING")) || newest.get(&n) != Some(&json!("SUPERSEDED")) {
        let update = next(&mut one).await.unwrap()["data"]["configUpdates"].clone();
        newest.insert(update["version"].as_i64().unwrap(), update["status"].clone());
    }
    assert!(graph.services.metrics.subscription_catch_ups.get() > 0);
    // Every version that is still stored.
    assert!(((n - 97).max(1)..=n).all(|version| newest[&version] == json!("SUPERSEDED")), "{newest:?}");

    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": devices[1]})).await;
    while next(&mut one).await.is_some() {}
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    while next(&mut all).await.is_some() {}
    assert_eq!(graph.config_hub.n_homes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_change_is_not_sent() {
    let graph = Graph::start().await;
    let (ann, home, device) = one_device(&graph).await;
    let mut updates = subscribe(&graph, &ann, UPDATES, json!({"h": home}));
    assert!(futures_util::poll!(futures_util::StreamExt::next(&mut updates)).is_pending());
    let first = tokio::spawn(async move { (next(&mut updates).await, updates) });
    until("the subscription listens", || graph.config_hub.n_homes() == 1).await;
    push(&graph, &ann, &device, json!({"sampleRate": 1})).await;
    let (event, mut updates) = first.await.unwrap();
    let conn = connection(&graph).await;
    let (id, at) = (device.parse().unwrap(), graph.clock.now());
    let answer = ConfigAnswer { device: id, version: 1, kind: ConfigAnswerKind::Applied, at };
    let applied = device_config::record_answers(&conn, &[&answer]).await.unwrap().remove(0);
    // SENT was committed first and is published last, and APPLIED comes twice.
    let before = applied.updated_at - chrono::TimeDelta::microseconds(1);
    let sent = DeviceConfig { status: ConfigStatus::Sent, updated_at: before, ..applied.clone() };
    device_config::notify(&graph.config_hub, [applied.clone(), sent, applied]);
    push(&graph, &ann, &device, json!({"sampleRate": 2})).await;
    let mut received = vec![event.unwrap()];
    for _ in 0..2 {
        received.extend(next(&mut updates).await);
    }
    let received = received.iter().map(|event| &event["data"]["configUpdates"]);
    let received: Vec<_> =
        received.map(|update| (update["version"].as_i64().unwrap(), text(&update["status"]))).collect();
    let expected = [(1, "PENDING"), (1, "APPLIED"), (2, "PENDING")];
    assert_eq!(received, expected.map(|(version, status)| (version, status.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_of_configurations_costs_as_many_statements_as_one() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    for device in graph.devices(&ann, &home, 20).await {
        push(&graph, &ann, &device, json!({"sampleRate": 1})).await;
        push(&graph, &ann, &device, json!({"sampleRate": 2})).await;
    }
    let query = "query($h: ID!, $n: Int) { devices(homeId: $h, first: $n) { nodes { id config { version createdBy { name } } \
                 configHistory(first: 2) { nodes { version } } } } }";
    for n in [1, 20] {
        graph.ask(&ann, query, json!({"h": home, "n": n})).await;
        let before = graph.services.metrics.db_statements.get();
        let data = graph.ask(&ann, query, json!({"h": home, "n": n})).await;
        assert_eq!(graph.services.metrics.db_statements.get() - before, 5);
        assert!(data["devices"]["nodes"].as_array().unwrap().iter().all(|device| device["config"]["version"] == 2));
    }
}

#[test]
fn keys_are_not_in_debug_output() {
    let source = |name: &str| (name == "ENCRYPTION_KEY").then(|| super::ENCRYPTION_KEY.to_owned());
    let settings = settings::EncryptionSettings::read(&source).unwrap();
    assert!(!format!("{settings:?}").contains("AQEB"));
}
