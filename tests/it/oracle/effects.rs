//! What mutations change, counted in the database: once for a response key however often it is selected, and nothing if
//! the request is refused or the field is skipped.

use serde_json::{Value, json};

use super::FrozenHome;

/// Tables in which the mutations below leave rows. Each change leaves one row in `audit_log`.
const TABLES: [&str; 6] = ["rooms", "commands", "device_configs", "invitations", "homes", "audit_log"];

/// A request and its effect. The answer is empty for a request that is refused as a whole.
struct Effect {
    document: &'static str,
    variables: Value,
    answer: &'static str,
    rows: &'static [(&'static str, i64)],
}

fn effect(document: &'static str, variables: Value, answer: &'static str, rows: &'static [(&str, i64)]) -> Effect {
    Effect { document, variables, answer, rows }
}

fn refused(document: &'static str, variables: Value) -> Effect {
    effect(document, variables, "", &[])
}

const A_ROOM: &[(&str, i64)] = &[("rooms", 1), ("audit_log", 1)];
const A_COMMAND: &[(&str, i64)] = &[("commands", 1), ("audit_log", 1)];

/// One response key is one execution, with the sub-selections of all its fields.
fn selected_several_times() -> Vec<Effect> {
    let input = json!({"i": {"deviceId": "101", "type": "X"}});
    vec![
        effect(
            "mutation($i: SendCommandInput!) { ...A ...B } fragment A on Mutation { sendCommand(input: $i) { type } } \
             fragment B on Mutation { sendCommand(input: $i) { status } }",
            input.clone(),
            r#"{"sendCommand":{"type":"X","status":"PENDING"}}"#,
            A_COMMAND,
        ),
        effect(
            "mutation($i: SendCommandInput!) { sendCommand(input: $i) { status } ... { sendCommand(input: $i) { type } } \
             ... on Mutation { ...A } } fragment A on Mutation { sendCommand(input: $i) { status source } }",
            input,
            r#"{"sendCommand":{"status":"PENDING","type":"X","source":"USER"}}"#,
            A_COMMAND,
        ),
        effect(
            "mutation { ...A ...A ... on Mutation { ...A } } \
             fragment A on Mutation { createRoom(homeId: 11, name: \"once\") { name home { id } } }",
            json!({}),
            r#"{"createRoom":{"name":"once","home":{"id":"11"}}}"#,
            A_ROOM,
        ),
        effect(
            "mutation { ...A ...B } fragment A on Mutation { rotateDeviceCredentials(deviceId: 101) { username } } \
             fragment B on Mutation { rotateDeviceCredentials(deviceId: 101) { clientId } }",
            json!({}),
            r#"{"rotateDeviceCredentials":{"username":"oracle/lamp_1","clientId":"lamp_1@oracle"}}"#,
            &[("audit_log", 1)],
        ),
        effect(
            "mutation { b: createRoom(homeId: 11, name: \"b\") { name } a: createRoom(homeId: 11, name: \"a\") { name } \
             b: createRoom(homeId: 11, name: \"b\") { key: name } }",
            json!({}),
            r#"{"b":{"name":"b","key":"b"},"a":{"name":"a"}}"#,
            &[("rooms", 2), ("audit_log", 2)],
        ),
    ]
}

/// Directives see variables with their defaults.
fn skipped() -> Vec<Effect> {
    let with_default =
        "mutation($d: Boolean = true) { createRoom(homeId: 11, name: \"skipped\") @skip(if: $d) { name } }";
    vec![
        effect(with_default, json!({}), "{}", &[]),
        effect(with_default, json!({"d": true}), "{}", &[]),
        effect(with_default, json!({"d": false}), r#"{"createRoom":{"name":"skipped"}}"#, A_ROOM),
        effect(
            "mutation($d: Boolean = false) { ...A @include(if: $d) ... @include(if: $d) { ...A } } \
             fragment A on Mutation { createRoom(homeId: 11, name: \"included\") { name } }",
            json!({}),
            "{}",
            &[],
        ),
        effect(
            "mutation($d: Boolean!) { createRoom(homeId: 11, name: \"partly\") @include(if: $d) { name } \
             ... @skip(if: $d) { createRoom(homeId: 11, name: \"partly\") { id } } }",
            json!({"d": true}),
            r#"{"createRoom":{"name":"partly"}}"#,
            A_ROOM,
        ),
        refused("mutation($d: Boolean!) { createRoom(homeId: 11, name: \"unknown\") @skip(if: $d) { id } }", json!({})),
    ]
}

/// A request error prevents every field, also the ones before it.
fn refused_as_a_whole() -> Vec<Effect> {
    let two = "mutation($n: String!) { a: createRoom(homeId: 11, name: \"x\") { id } b: createRoom(homeId: 11, name: $n) { id } }";
    let send = "mutation($i: SendCommandInput!) { a: createRoom(homeId: 11, name: \"x\") { id } sendCommand(input: $i) { id } }";
    let invite = "mutation($r: HomeRole!) { a: createRoom(homeId: 11, name: \"x\") { id } \
                  inviteMember(input: {homeId: 11, email: \"x@oracle.example\", role: $r}) { id } }";
    let mut all = vec![
        refused(two, json!({})),
        refused(two, json!({"n": null})),
        refused(two, json!({"n": 5})),
        refused(invite, json!({"r": "guest"})),
        refused(invite, json!({"r": 1})),
        refused(
            "mutation { sendCommand(input: {deviceId: \"101\", deviceId: \"102\", type: \"X\"}) { id } }",
            json!({}),
        ),
        refused(
            "mutation { inviteMember(input: {homeId: 11, email: \"x@oracle.example\", role: \"GUEST\"}) { id } }",
            json!({}),
        ),
        refused(
            "mutation { createRoom(homeId: 11, name: \"p\") { id } createRoom(homeId: 11, name: \"q\") { id } }",
            json!({}),
        ),
        refused("mutation { createRoom(homeId: 11, name: \"x\", name: \"y\") { id } }", json!({})),
        refused("mutation { createRoom(homeId: 11, name: \"x\") { id nothing } }", json!({})),
        refused("mutation { createRoom(homeId: 11, name: \"x\") }", json!({})),
        refused("mutation A { createRoom(homeId: 11, name: \"x\") { id } } query B { me { id } }", json!({})),
        refused("mutation { createRoom(homeId: 11, name: \"\\ud83d\") { id } }", json!({})),
    ];
    for input in [
        json!({"deviceId": "101", "type": "X", "timeoutSeconds": 2_147_483_648_i64}),
        json!({"deviceId": "101", "type": "X", "timeoutSeconds": 1.5}),
        json!({"deviceId": "101", "type": "X", "nothing": 1}),
        json!({"deviceId": "101"}),
        json!({"deviceId": true, "type": "X"}),
        json!({"deviceId": "101", "type": "X", "onStale": "LATER"}),
    ] {
        all.push(refused(send, json!({ "i": input })));
    }
    all
}

/// Values that are accepted, as the specification reads them.
fn coerced() -> Vec<Effect> {
    vec![
        effect(
            "mutation($i: SendCommandInput!) { sendCommand(input: $i) { timeoutSeconds payload } }",
            json!({"i": {"deviceId": 101, "type": "X", "timeoutSeconds": 7.0}}),
            r#"{"sendCommand":{"timeoutSeconds":7,"payload":{}}}"#,
            A_COMMAND,
        ),
        effect(
            "mutation($t: Int = 8, $p: JSON) { sendCommand(input: {deviceId: \"101\", type: \"X\", timeoutSeconds: $t, \
             payload: {b: $p, a: [$p]}}) { timeoutSeconds payload } }",
            json!({"p": {"z": null}}),
            r#"{"sendCommand":{"timeoutSeconds":8,"payload":{"b":{"z":null},"a":[{"z":null}]}}}"#,
            A_COMMAND,
        ),
        effect(
            "mutation($i: SendCommandInput!) { sendCommand(input: $i) { payload device { id @skip(if: true) } } }",
            json!({"i": {"deviceId": "101", "type": "X", "payload": {" ": {" ": [{" ": 1}]}}}}),
            r#"{"sendCommand":{"payload":{" ":{" ":[{" ":1}]}},"device":{}}}"#,
            A_COMMAND,
        ),
        effect(
            "mutation { createRoom(homeId: 11, name: \"\\ud83d\\udecf \\u{1F6CF} \\u0041\") { name } }",
            json!({}),
            r#"{"createRoom":{"name":"🛏 🛏 A"}}"#,
            A_ROOM,
        ),
        effect(
            "mutation { createRoom(homeId: 11, name: \"\"\"\n    a \\\"\"\" \\u0041 \"b\"\n  \"\"\") { name } }",
            json!({}),
            r#"{"createRoom":{"name":"a \"\"\" \\u0041 \"b\""}}"#,
            A_ROOM,
        ),
        effect(
            "mutation($r: HomeRole = ADMIN) { inviteMember(input: {homeId: 11, email: \"y@oracle.example\", role: $r}) \
             { role } }",
            json!({}),
            r#"{"inviteMember":{"role":"ADMIN"}}"#,
            &[("invitations", 1), ("audit_log", 1)],
        ),
        effect(
            "mutation($r: HomeRole) { inviteMember(input: {homeId: 11, email: \"z@oracle.example\", role: $r}) { role } }",
            json!({}),
            r#"{"inviteMember":{"role":"MEMBER"}}"#,
            &[("invitations", 1), ("audit_log", 1)],
        ),
    ]
}

async fn counted(sql: &tokio_postgres::Client) -> [i64; TABLES.len()] {
    let mut counts = [0; TABLES.len()];
    for (count, table) in counts.iter_mut().zip(TABLES) {
        let select = format!("select count(*) from {table}");
        *count = sql.query_one(&select, &[]).await.expect("a count").get(0);
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_runs_once_or_not_at_all() {
    let home = FrozenHome::start().await;
    let all = [selected_several_times(), skipped(), refused_as_a_whole(), coerced()];
    let mut faults = Vec::new();
    for Effect { document, variables, answer, rows } in all.into_iter().flatten() {
        let before = counted(&home.sql).await;
        let text = home.viewers[0].post(document, variables.clone()).await.text();
        let after = counted(&home.sql).await;
        let changes =
            TABLES.iter().zip(after.iter().zip(before)).map(|(table, (after, before))| (*table, after - before));
        let changes: Vec<_> = changes.filter(|(_, change)| *change != 0).collect();
        let is_expected = if answer.is_empty() {
            text.starts_with(r#"{"errors":["#)
        } else {
            text.starts_with(&format!(r#"{{"data":{answer}"#))
        };
        let mut rows = rows.to_vec();
        rows.sort_by_key(|(table, _)| TABLES.iter().position(|known| known == table));
        if !is_expected || changes != rows {
            faults.push(format!("{document} {variables}\n  {text}\n  rows {changes:?} instead of {rows:?}"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
