//! Homes and rooms: names, roles, deletion.

use async_graphql::{Request, Variables};
use futures_util::future::join_all;
use serde_json::json;
use smarthome::graphql::Viewer;

use super::{Graph, number, text};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_home_has_a_key_a_time_zone_and_an_owner() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let create = "mutation($i: CreateHomeInput!) { createHome(input: $i) { id key name timezone myRole members { role user { id } } } }";
    let made = graph.ask(&ann, create, json!({"i": {"name": "  Home "}})).await;
    let home = &made["createHome"];
    assert_eq!((home["name"].as_str(), home["timezone"].as_str()), (Some("Home"), Some("UTC")));
    assert_eq!(home["key"], home["id"]);
    assert_eq!((home["myRole"].as_str(), home["members"][0]["role"].as_str()), (Some("OWNER"), Some("OWNER")));
    let made = graph.ask(&ann, create, json!({"i": {"name": "B", "key": "villa", "timezone": "Europe/Berlin"}})).await;
    assert_eq!(made["createHome"]["key"], "villa");
    for (input, code, field) in [
        (json!({"name": "C", "key": "villa"}), "CONFLICT", None),
        (json!({"name": "C", "key": "42"}), "BAD_USER_INPUT", Some("key")),
        (json!({"name": "C", "timezone": "Mars"}), "BAD_USER_INPUT", Some("timezone")),
        (json!({"name": "a\u{0}b"}), "BAD_USER_INPUT", Some("name")),
        (json!({"name": " "}), "BAD_USER_INPUT", Some("name")),
    ] {
        let answer = graph.answer(&ann, create, json!({"i": input})).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!((extensions["code"].as_str(), extensions["field"].as_str()), (Some(code), field), "{input}");
    }
    let update = "mutation($id: ID!) { updateHome(input: {id: $id, name: \"New\"}) { name timezone } }";
    let changed = graph.ask(&ann, update, json!({"id": made["createHome"]["id"]})).await;
    assert_eq!(changed["updateHome"], json!({"name": "New", "timezone": "Europe/Berlin"}));
    assert_eq!(graph.ask(&ann, "{ homes { name } }", json!({})).await["homes"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_home_that_had_devices_is_never_given_again() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let create = "mutation($k: String) { createHome(input: {name: \"Home\", key: $k}) { id key } }";
    let delete = "mutation($h: ID!) { deleteHome(id: $h) }";
    let key = json!({"k": "villa"});
    let made = async || text(&graph.ask(&ann, create, key.clone()).await["createHome"]["id"]);
    // Nobody else ever used the key of a home without devices.
    for _ in 0..2 {
        graph.ask(&ann, delete, json!({"h": made().await})).await;
    }
    let home = made().await;
    let refusal = async |who| graph.answer(who, create, key.clone()).await["errors"][0]["message"].clone();
    let while_it_exists = refusal(&bob).await;
    let lamp = graph.devices(&ann, &home, 1).await.remove(0);
    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": lamp})).await;
    graph.ask(&ann, delete, json!({"h": home})).await;
    for person in [&ann, &bob] {
        assert_eq!(graph.code(person, create, key.clone()).await, "CONFLICT");
        assert_eq!(refusal(person).await, while_it_exists, "it does not tell whether the home exists");
    }
    assert_eq!(graph.count("homes").await, 0);
    let other = graph.ask(&bob, create, json!({"k": null})).await;
    graph.devices(&bob, &text(&other["createHome"]["id"]), 1).await;
    assert_eq!(graph.count("used_home_keys").await, 1, "an id is given once anyway");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_rooms_are_unique_in_a_home() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let create = "mutation($h: ID!, $n: String!) { createRoom(input: {homeId: $h, name: $n}) { id name home { id } devices { id } } }";
    let kitchen = graph.ask(&ann, create, json!({"h": home, "n": "Kitchen"})).await;
    let hall = graph.ask(&ann, create, json!({"h": home, "n": "Hall"})).await;
    assert_eq!(graph.code(&ann, create, json!({"h": home, "n": "KITCHEN"})).await, "CONFLICT");
    let rename = "mutation($r: ID!, $n: String!) { renameRoom(input: {id: $r, name: $n}) { name } }";
    let hall = text(&hall["createRoom"]["id"]);
    assert_eq!(graph.code(&ann, rename, json!({"r": hall, "n": "kitchen"})).await, "CONFLICT");
    assert_eq!(graph.ask(&ann, rename, json!({"r": hall, "n": "hall"})).await["renameRoom"]["name"], "hall");
    let rooms = graph.ask(&ann, "query($h: ID!) { home(id: $h) { rooms { name } } }", json!({"h": home})).await;
    assert_eq!(rooms["home"]["rooms"], json!([{"name": "hall"}, {"name": "Kitchen"}]));
    let delete = "mutation($r: ID!) { deleteRoom(id: $r) }";
    let kitchen = &kitchen["createRoom"]["id"];
    assert_eq!(graph.ask(&ann, delete, json!({"r": kitchen})).await["deleteRoom"], true);
    assert_eq!(graph.code(&ann, delete, json!({"r": kitchen})).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_home_leaves_no_row() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let (home, other) = (graph.home(&ann).await, graph.home(&bob).await);
    graph.join(&home, &bob, "ADMIN").await;
    graph
        .ask(&ann, "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"R\"}) { id } }", json!({"h": home}))
        .await;
    let invite = "mutation($h: ID!) { inviteMember(input: {homeId: $h, email: \"x@test.example\"}) { id } }";
    graph.ask(&ann, invite, json!({"h": home})).await;
    let devices = graph.devices(&ann, &home, 3).await;
    let kept = graph.devices(&bob, &other, 1).await;
    for (user, home, device) in [(&ann, &home, &devices[1]), (&bob, &other, &kept[0])] {
        let fill = "mutation($h: ID!, $d: ID!) {
            createIntegrationToken(input: {homeId: $h, name: \"T\", scopes: [DEVICES_READ], deviceIds: [$d]}) { token }
            sendCommand(input: {deviceId: $d, type: \"PING\"}) { id }
            pushConfig(input: {deviceId: $d, config: {sampleRate: 5, wifiConfig: {password: \"hush, hush\"}}}) { version } }";
        graph.ask(user, fill, json!({"h": home, "d": device})).await;
    }
    for minute in 0..5 {
        for device in &devices {
            graph.reading(&home, device, minute).await;
        }
        graph.reading(&other, &kept[0], minute).await;
    }
    graph
        .sql
        .batch_execute("insert into device_states (device_id, online) select id, true from devices")
        .await
        .unwrap();
    let rejected = "insert into rejected_messages (home_id, topic, reason, payload_preview, received_at) select id, 't', 'R', '', now() from homes";
    graph.sql.batch_execute(rejected).await.unwrap();

    let delete_device = "mutation($d: ID!) { deleteDevice(id: $d) }";
    assert_eq!(graph.ask(&bob, delete_device, json!({"d": devices[0]})).await["deleteDevice"], true);
    assert_eq!(graph.count("telemetry").await, 15);

    let delete = "mutation($h: ID!) { deleteHome(id: $h) }";
    assert_eq!(graph.code(&bob, delete, json!({"h": home})).await, "FORBIDDEN");
    assert_eq!(graph.ask(&ann, delete, json!({"h": home})).await["deleteHome"], true);
    for (table, left) in [
        ("homes", 1),
        // Bob, and the integration of the other home.
        ("memberships", 2),
        ("rooms", 0),
        ("devices", 1),
        ("device_credentials", 1),
        ("device_states", 1),
        ("telemetry", 5),
        ("rejected_messages", 1),
        ("invitations", 0),
        ("audit_log where home_id is not null", 5),
        ("audit_log where home_id is null", 1),
        ("integration_tokens", 1),
        ("commands", 1),
        ("device_configs", 1),
        // Ann, Bob and the integration of the other home.
        ("users", 3),
    ] {
        assert_eq!(graph.count(table).await, left, "{table}");
    }
    // No table has a row with the id of the home or of one of its devices, not even a table that is added later.
    // Exceptions: revocations are kept for two hours, clearings and cleanups until the broker has surely
    // deleted what it kept.
    let columns = "select table_name, column_name from information_schema.columns where table_schema = 'public' \
         and column_name in ('home_id', 'device_id') and table_name not in ('revocations', 'retained_clearings', 'broker_cleanups')";
    let columns = graph.sql.query(columns, &[]).await.unwrap();
    assert!(columns.len() > 15);
    let devices: Vec<i64> = devices.iter().map(|id| number(id)).collect();
    for row in columns {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let ids = if column == "home_id" { vec![number(&home)] } else { devices.clone() };
        let left = format!("select count(*) from {table} where {column} = any($1)");
        let n: i64 = graph.sql.query_one(&left, &[&ids]).await.unwrap().get(0);
        assert_eq!(n, 0, "{table}.{column}");
    }
    assert_eq!(graph.code(&ann, delete, json!({"h": home})).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_completes_after_its_caller_disconnects() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, other) = (graph.home(&ann).await, graph.home(&ann).await);
    let (deleted, device) = (graph.devices(&ann, &home, 1).await, graph.devices(&ann, &other, 1).await);
    graph.reading(&home, &deleted[0], 1).await;
    graph.reading(&other, &device[0], 1).await;
    let locker = graph.database.client().await;
    locker.batch_execute("begin; select from telemetry for update").await.unwrap();
    let delete_home = ("mutation($x: ID!) { deleteHome(id: $x) }", &home);
    let delete_device = ("mutation($x: ID!) { deleteDevice(id: $x) }", &device[0]);
    for (n, (query, id)) in [(1, delete_home), (2, delete_device)] {
        let request = Request::new(query).variables(Variables::from_json(json!({"x": id})));
        let request = request.data(Viewer(ann.0.clone()));
        let schema = graph.schema.clone();
        let caller = tokio::spawn(async move { schema.execute(request).await });
        graph.wait_for_waiting(n).await;
        caller.abort();
        assert!(caller.await.is_err());
    }
    locker.batch_execute("commit").await.unwrap();
    eventually("all rows are deleted", || async {
        let n = graph.count("telemetry").await + graph.count("devices").await + graph.count("homes").await;
        (n == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_homes_and_rooms_is_limited_exactly_for_concurrent_requests() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let user = ann.0.as_ref().unwrap().user;
    let (given, offered) = (graph.home(&bob).await, graph.home(&bob).await);
    graph.join(&given, &ann, "ADMIN").await;
    let email = text(&graph.ask(&ann, "{ me { email } }", json!({})).await["me"]["email"]);
    let invite =
        "mutation($h: ID!, $e: String!) { inviteMember(input: {homeId: $h, email: $e, role: OWNER}) { token } }";
    let invited = graph.ask(&bob, invite, json!({"h": offered, "e": email})).await["inviteMember"]["token"].take();
    let owned = "with made as (insert into homes (key, name) select 'h' || n, 'H' from generate_series(1, 98) n returning id) \
                 insert into memberships (home_id, user_id, role) select id, $1, 'OWNER' from made";
    graph.sql.execute(owned, &[&user.get()]).await.unwrap();
    let rooms = "insert into rooms (home_id, name) select $1, n::text from generate_series(1, 498) n";
    graph.sql.execute(rooms, &[&number(&given)]).await.unwrap();

    // Nothing is inserted until all requests run.
    let locker = graph.database.client().await;
    locker.batch_execute("begin; lock table memberships, rooms in share mode").await.unwrap();
    let set = "mutation($h: ID!, $u: ID!) { setMemberRole(input: {homeId: $h, userId: $u, role: OWNER}) { role } }";
    let accept = "mutation($t: String!) { acceptInvitation(token: $t) { id } }";
    let create = "mutation { createHome(input: {name: \"New\"}) { id } }";
    let room = "mutation($h: ID!, $n: String!) { createRoom(input: {homeId: $h, name: $n}) { id } }";
    let mut homes = vec![
        graph.start_answer(&bob, set, json!({"h": given, "u": user.to_string()})),
        graph.start_answer(&ann, accept, json!({"t": invited})),
    ];
    homes.extend((0..3).map(|_| graph.start_answer(&ann, create, json!({}))));
    graph.wait_for_waiting(5).await;
    let rooms = (0..5).map(|n| graph.start_answer(&bob, room, json!({"h": given, "n": format!("new {n}")})));
    let rooms: Vec<_> = rooms.collect();
    graph.wait_for_waiting(10).await;
    locker.batch_execute("commit").await.unwrap();
    for (answers, what) in [(homes, "homes"), (rooms, "rooms")] {
        let answers: Vec<_> = join_all(answers).await.into_iter().map(Result::unwrap).collect();
        let n_made = answers.iter().filter(|answer| answer.get("errors").is_none()).count();
        assert_eq!(n_made, 2, "{what}: {answers:?}");
    }
    assert_eq!(graph.count(&format!("memberships where user_id = {user} and role = 'OWNER'")).await, 100);
    assert_eq!(graph.count(&format!("rooms where home_id = {given}")).await, 500);
}
