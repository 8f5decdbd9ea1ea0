//! Devices: registration, changes, pages and filters.

use futures_util::future::join_all;
use serde_json::{Value, json};
use smarthome::downlink::DownlinkKind;
use smarthome::mqtt::topic::{self, MessageKind};

use super::{Graph, text};

const REGISTER: &str = "mutation($i: RegisterDevicesInput!) { registerDevices(input: $i) { device { id key macAddress type topics { telemetry commands } } \
                        credentials { username password clientId brokerUrl } } }";

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_registered_all_or_none() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let input = |devices: Value| json!({"i": {"homeId": home, "devices": devices}});
    let mac = "246f.28aa.bbcc";
    let made = graph
        .ask(
            &ann,
            REGISTER,
            input(json!([
                {"key": "lamp", "name": "Lamp", "macAddress": mac, "type": "LIGHT"}, {"key": "node", "name": "Node"},
            ])),
        )
        .await;
    let lamp = &made["registerDevices"][0];
    assert_eq!(lamp["device"]["macAddress"], "24:6F:28:AA:BB:CC");
    assert_eq!(lamp["credentials"]["username"], json!(format!("{home}/lamp")));
    assert!(text(&lamp["credentials"]["clientId"]).starts_with(&format!("lamp@{home}~")), "{lamp}");
    assert_eq!(text(&lamp["credentials"]["password"]).len(), 32);
    assert_eq!(lamp["credentials"]["brokerUrl"], "mqtt://broker.example");
    assert_eq!(lamp["device"]["topics"]["commands"], json!(format!("smarthome/{home}/lamp/commands")));
    // The API spells topics as the MQTT edge parses them.
    let uplink = topic::device_topic("smarthome", &home, "lamp", MessageKind::Telemetry.as_str());
    assert_eq!(lamp["device"]["topics"]["telemetry"], json!(uplink));
    let downlink = topic::downlink_topic("smarthome", &home, "lamp", DownlinkKind::Commands);
    assert_eq!(lamp["device"]["topics"]["commands"], json!(downlink));
    assert_eq!(made["registerDevices"][1]["device"]["type"], "SENSOR_NODE");

    for (devices, code, message) in [
        (json!([{"key": "new", "name": "N"}, {"key": "lamp", "name": "L"}]), "CONFLICT", "key \"lamp\""),
        (json!([{"key": "new", "name": "N", "macAddress": "24-6F-28-AA-BB-CC"}]), "CONFLICT", "macAddress 24:6F"),
        (json!([{"key": "new", "name": "N", "roomId": "99"}]), "NOT_FOUND", "room"),
        (json!([{"key": "new", "name": "N"}, {"key": "7", "name": "N"}]), "BAD_USER_INPUT", "key"),
        (json!([{"key": "new", "name": "N", "macAddress": "24:6F"}]), "BAD_USER_INPUT", "MAC"),
        (json!([]), "BAD_USER_INPUT", "devices"),
    ] {
        let answer = graph.answer(&ann, REGISTER, input(devices.clone())).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{answer}");
        assert!(text(&answer["errors"][0]["message"]).contains(message), "{answer}");
    }
    assert_eq!(graph.count("devices").await, 2);
    assert_eq!(graph.count("device_credentials").await, 2);

    let statements = graph.services.metrics.db_statements.get();
    let many: Vec<_> = (0..998).map(|n| json!({"key": format!("m{n}"), "name": "Many"})).collect();
    let made = graph.ask(&ann, REGISTER, input(json!(many))).await;
    assert_eq!(made["registerDevices"][997]["device"]["key"], "m997");
    assert!(graph.services.metrics.db_statements.get() - statements <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_only_the_given_fields() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let room = graph
        .ask(&ann, "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"R\"}) { id } }", json!({"h": home}))
        .await;
    let update = "mutation($i: UpdateDeviceInput!) { updateDevice(input: $i) { name type macAddress room { name } } }";
    let change = |id: &str, mut input: Value| {
        input["id"] = json!(id);
        json!({"i": input})
    };
    let room = &room["createRoom"]["id"];
    let changed =
        graph.ask(&ann, update, change(&devices[0], json!({"macAddress": "246F28AABBCC", "roomId": room}))).await;
    let expected =
        json!({"name": "Device 0", "type": "SENSOR_NODE", "macAddress": "24:6F:28:AA:BB:CC", "room": {"name": "R"}});
    assert_eq!(changed["updateDevice"], expected);
    assert_eq!(graph.ask(&ann, update, change(&devices[0], json!({}))).await["updateDevice"], expected);
    let taken = graph.code(&ann, update, change(&devices[1], json!({"macAddress": "24:6F:28:AA:BB:CC"}))).await;
    assert_eq!(taken, "CONFLICT");
    let cleared = json!({"roomId": null, "macAddress": null, "name": "New", "type": "FAN"});
    let changed = graph.ask(&ann, update, change(&devices[0], cleared)).await;
    assert_eq!(changed["updateDevice"], json!({"name": "New", "type": "FAN", "macAddress": null, "room": null}));
    let update_home = "mutation($i: UpdateHomeInput!) { updateHome(input: $i) { name timezone } }";
    for (update, of, field) in [
        (update, &devices[0], "name"),
        (update, &devices[0], "type"),
        (update_home, &home, "name"),
        (update_home, &home, "timezone"),
    ] {
        let mut input = json!({});
        input[field] = Value::Null;
        let answer = graph.answer(&ann, update, change(of, input)).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": field}), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_complete_and_filters_apply() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let all = graph.devices(&ann, &home, 25).await;
    let online = format!("insert into device_states (device_id, online) values ({}, true)", all[3]);
    graph.sql.batch_execute(&online).await.unwrap();
    let page = "query($h: ID!, $f: DeviceFilter, $n: Int, $a: String) { devices(homeId: $h, filter: $f, first: $n, after: $a) \
                { edges { cursor node { id } } nodes { id online } pageInfo { hasNextPage hasPreviousPage endCursor } } }";
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let data = graph.ask(&ann, page, json!({"h": home, "n": 10, "a": after})).await;
        let devices = &data["devices"];
        seen.extend(devices["nodes"].as_array().unwrap().iter().map(|node| text(&node["id"])));
        assert_eq!(devices["pageInfo"]["hasPreviousPage"], !after.is_null());
        after = devices["pageInfo"]["endCursor"].clone();
        if devices["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen, all);
    let count = async |filter: Value| {
        let data = graph.ask(&ann, page, json!({"h": home, "f": filter})).await;
        data["devices"]["nodes"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({"online": true})).await, 1);
    assert_eq!(count(json!({"online": false})).await, 24);
    assert_eq!(count(json!({"search": " DEVICE 2 "})).await, 6);
    assert_eq!(count(json!({"search": "d2"})).await, 6);
    assert_eq!(count(json!({"search": "%"})).await, 0);
    assert_eq!(count(json!({"type": "FAN"})).await, 0);
    assert_eq!(count(json!({"type": "SENSOR_NODE", "online": true})).await, 1);
    assert_eq!(count(Value::Null).await, 25);

    for (first, after, field) in [
        (json!(-1), Value::Null, "first"),
        (json!(501), Value::Null, "first"),
        (json!(2_147_483_648_i64), Value::Null, "first"),
        (json!(-9_223_372_036_854_775_808_i64), Value::Null, "first"),
        (json!(10), json!("x"), "after"),
        (json!(10), json!(""), "after"),
    ] {
        let answer = graph.answer(&ann, page, json!({"h": home, "n": first, "a": after})).await;
        assert_eq!(
            answer["errors"][0]["extensions"],
            json!({"code": "BAD_USER_INPUT", "field": field}),
            "{first} {after}"
        );
        assert!(answer["data"].is_null());
    }
    let nested = graph.answer(&ann, "{ homes { devices(first: 3000000000) { nodes { id } } } }", json!({})).await;
    assert_eq!(nested["errors"][0]["extensions"]["field"], "first", "{nested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations_of_the_same_keys_do_not_deadlock() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let answers = join_all((0..6).map(|n| {
        let mut devices: Vec<_> = (0..500).map(|n| json!({"key": format!("d{n}"), "name": "N"})).collect();
        if n % 2 == 1 {
            devices.reverse();
        }
        let variables = json!({"i": {"homeId": home, "devices": devices}});
        graph.answer(&ann, REGISTER, variables)
    }))
    .await;
    let codes: Vec<_> = answers.iter().map(|answer| answer["errors"][0]["extensions"]["code"].clone()).collect();
    assert_eq!(codes.iter().filter(|code| code.is_null()).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == "CONFLICT").count(), 5, "{codes:?}");
}

/// A connection whose open transaction has deleted these rows.
async fn deleting(graph: &Graph, rows: &str) -> tokio_postgres::Client {
    let client = graph.database.client().await;
    client.batch_execute(&format!("begin; delete from {rows}")).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_by_a_concurrent_transaction_are_not_found() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let create_room = "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"R\"}) { id } }";
    let room = graph.ask(&ann, create_room, json!({"h": home})).await["createRoom"]["id"].clone();
    let update = "mutation($d: ID!, $r: ID!) { updateDevice(input: {id: $d, roomId: $r}) { id } }";
    let register = "mutation($h: ID!, $r: ID!) { registerDevice(input: {homeId: $h, key: \"k\", name: \"N\", roomId: $r}) { device { id } } }";
    let rename = "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"S\"}) { id } }";
    let create = "mutation { createHome(input: {name: \"N\"}) { id } }";
    let user = ann.0.as_ref().unwrap().user;
    for (deleted, query, code, message) in [
        ("rooms".to_owned(), update, "NOT_FOUND", "room not found"),
        ("rooms".to_owned(), register, "NOT_FOUND", "room not found"),
        (format!("homes where id = {home}"), rename, "NOT_FOUND", "home not found"),
        (format!("users where id = {user}"), create, "UNAUTHENTICATED", "was deleted"),
    ] {
        let deleting = deleting(&graph, &deleted).await;
        let commit = async {
            graph.wait_for_waiting(1).await;
            deleting.batch_execute("commit").await.unwrap();
        };
        let variables = json!({"h": home, "d": device, "r": room});
        let (answer, ()) = tokio::join!(graph.answer(&ann, query, variables), commit);
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{query}: {answer}");
        assert!(text(&answer["errors"][0]["message"]).contains(message), "{answer}");
        if deleted == "rooms" {
            let insert = format!(
                "insert into rooms (id, home_id, name) overriding system value values ({}, {home}, 'R')",
                text(&room)
            );
            graph.sql.batch_execute(&insert).await.unwrap();
        }
    }
}
