//! A server that tells a real Mosquitto of its devices: who comes in, who is put out, who may do what.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::broker::{Broker, folder};
use crate::support::eventually;
use crate::support::installation::{self, ADMIN, PREFIX, SERVER, connected, enter, try_enter};
use crate::support::mqtt::Mqtt;
use crate::support::user::{Device, User};

/// Within which a device that was deleted is out.
const LOCK_OUT: Duration = Duration::from_secs(5);

async fn rotate(owner: &User, device: &Device, grace: u32) -> (String, String) {
    let query =
        "mutation($d: ID!, $g: Int) { rotateDeviceCredentials(deviceId: $d, graceSeconds: $g) { username password } }";
    let data = owner.query(query, json!({"d": device.id, "g": grace})).await;
    let text = |name: &str| data["rotateDeviceCredentials"][name].as_str().expect("text").to_owned();
    (text("username"), text("password"))
}

/// Whether a connection still publishes: the broker may have cut it.
async fn speaks(client: &Mqtt, username: &str) -> bool {
    let topic = format!("{PREFIX}/{}/telemetry", username.trim_end_matches("~1"));
    let publish = client.publish(&topic, "{}");
    matches!(tokio::time::timeout(Duration::from_millis(500), publish).await, Ok(Ok(())))
}

async fn silenced(client: &Mqtt, username: &str) {
    eventually("it is cut off", || async { (!speaks(client, username).await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_device_is_out_within_five_seconds() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let (lamp, client) = connected(&app, &owner, &home, "lamp").await;
    let (fan, fans_client) = connected(&app, &owner, &home, "fan").await;
    assert!(speaks(&client, &lamp.username).await);
    let started = Instant::now();
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": lamp.id})).await;
    silenced(&client, &lamp.username).await;
    assert!(started.elapsed() < LOCK_OUT, "{:?}", started.elapsed());
    assert!(try_enter(broker.port(), &lamp.username, &lamp.password).await.is_none());
    assert!(speaks(&fans_client, &fan.username).await, "the neighbour stays");

    // A deleted home takes all its devices with it, though nobody names them.
    let started = Instant::now();
    owner.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home.id})).await;
    silenced(&fans_client, &fan.username).await;
    assert!(started.elapsed() < LOCK_OUT, "{:?}", started.elapsed());
    let rows = app.database().client().await;
    let left = || async {
        let left: i64 = rows.query_one("select count(*) from mqtt_clients", &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    };
    eventually("nothing is left of it", left).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_holds_through_its_grace_and_no_longer() {
    let (broker, app) = installation::start().await;
    let (port, (home, owner)) = (broker.port(), app.home().await);
    let (lamp, first) = connected(&app, &owner, &home, "lamp").await;
    let (username, password) = rotate(&owner, &lamp, 0).await;
    assert_eq!(username, lamp.username);
    let second = enter(port, &username, &password).await;
    silenced(&first, &username).await;
    assert!(try_enter(port, &lamp.username, &lamp.password).await.is_none());
    assert!(speaks(&second, &username).await);

    let (second_name, second_password) = rotate(&owner, &lamp, 60).await;
    assert_eq!(second_name, format!("{username}~1"));
    drop(second);
    let mut new = enter(port, &second_name, &second_password).await;
    assert!(speaks(&new, &second_name).await, "by its role");
    let commands = format!("{PREFIX}/{username}/commands");
    new.subscribe(&commands).await.unwrap();
    let server = Mqtt::connect_as(port, Some(SERVER)).await.unwrap();
    server.publish(&commands, "on").await.unwrap();
    assert_eq!(new.next().await.1, b"on");
    assert!(new.publish(&format!("{PREFIX}/{}/fan/telemetry", home.key), "{}").await.is_err());
    assert!(new.publish(&commands, "{}").await.is_err());
    drop(new);
    let old = enter(port, &username, &password).await;
    assert!(speaks(&old, &username).await, "the old one, still");

    app.clock().advance(TimeDelta::seconds(61));
    silenced(&old, &username).await;
    assert!(try_enter(port, &username, &password).await.is_none());
    let new = enter(port, &second_name, &second_password).await;
    assert!(speaks(&new, &second_name).await);

    // From the second name back to the first, and at the end nothing of the second is left.
    let (third_name, third_password) = rotate(&owner, &lamp, 60).await;
    assert_eq!(third_name, username);
    enter(port, &third_name, &third_password).await;
    let (last_name, last_password) = rotate(&owner, &lamp, 0).await;
    assert_eq!(last_name, username);
    let last = enter(port, &last_name, &last_password).await;
    assert!(speaks(&last, &last_name).await);
    let gone = || async { try_enter(port, &second_name, &second_password).await.is_none().then_some(()) };
    eventually("the second name is gone", gone).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_missed_it_is_told_and_what_it_lost_is_exported() {
    let (mut broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let (lamp, _) = connected(&app, &owner, &home, "lamp").await;
    broker.stop();
    let fan = app.device(&owner, &home, "fan").await;
    let bell = app.device(&owner, &home, "bell").await;
    let sealed = "select count(*), bool_or(position($1::bytea in sealed_password) > 0) from mqtt_clients \
                  where sealed_password is not null";
    let rows = app.database().client().await;
    let row = rows.query_one(sealed, &[&fan.password.as_bytes()]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (2, false), "they wait, and not in clear");
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": bell.id})).await;
    broker.restart().await;
    enter(broker.port(), &fan.username, &fan.password).await;
    assert!(try_enter(broker.port(), &bell.username, &bell.password).await.is_none());
    let told = || async {
        let left: i64 = rows.query_one(sealed, &[&fan.password.as_bytes()]).await.unwrap().get(0);
        (left == 0).then_some(())
    };
    eventually("no password waits any more", told).await;

    // Another broker in its place, which knows nobody but the server.
    let empty = Broker::with_dynamic_security(installation::empty_export().await).await;
    drop(broker);
    let other = installation::server(&empty).start_on(app.stop().await).await;
    let missing = || async {
        let metrics = other.app().services().metrics.clone();
        (metrics.broker_accounts_missing.get() == 2).then_some(())
    };
    eventually("it is told that two are missing", missing).await;
    assert!(try_enter(empty.port(), &lamp.username, &lamp.password).await.is_none());
    let folder = folder();
    installation::export(&folder, &other.database().url());
    let filled = Broker::with_dynamic_security(folder).await;
    for device in [&lamp, &fan] {
        assert!(try_enter(filled.port(), &device.username, &device.password).await.is_some());
    }
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_for_everybody() {
    let (broker, app) = installation::start().await;
    let port = broker.port();
    let (home, owner) = app.home().await;
    let other = owner.home().await;
    let (lamp, lamps) = connected(&app, &owner, &home, "device_001").await;
    let (_, neighbour) = connected(&app, &owner, &home, "fan").await;
    let (_, foreign) = connected(&app, &owner, &other, "device_001").await;
    let server = Mqtt::connect_as(port, Some(SERVER)).await.unwrap();
    let admin = Mqtt::connect_as(port, Some(ADMIN)).await.unwrap();
    assert!(Mqtt::connect_as(port, None).await.is_err(), "nobody comes in without an account");

    let mut parties =
        [("own", lamps), ("neighbour", neighbour), ("foreign", foreign), ("server", server), ("admin", admin)];
    let mut table = Vec::new();
    for kind in ["telemetry", "status", "heartbeat", "ack", "commands", "config", "other"] {
        let topic = lamp.topic(kind);
        let mut row = format!("{kind}:");
        // Whoever may speak of it tells who hears it; a filter that is granted says nothing.
        for (_, client) in &parties {
            for filter in [topic.clone(), format!("{PREFIX}/+/+/{kind}"), format!("{PREFIX}/#"), "#".to_owned()] {
                let _ = client.subscribe(&filter).await;
            }
        }
        let mut heard = String::new();
        for n in 0..parties.len() {
            let (name, client) = &parties[n];
            if client.publish(&topic, format!("{kind} of {name}")).await.is_ok() {
                row += &format!(" {name} writes");
                for (m, (hearer, client)) in parties.iter_mut().enumerate() {
                    let _ = m;
                    // Anything that is to come has come once this one's own answer is there.
                    let _ = client.subscribe(&format!("{PREFIX}/fence/{n}/{kind}")).await;
                    let mut hears = false;
                    while let Some((said, _)) = client.try_next() {
                        hears |= said == topic;
                    }
                    if hears && !heard.contains(*hearer) {
                        heard += &format!(" {hearer} reads");
                    }
                }
            }
        }
        table.push(row + &heard);
    }
    let expected = [
        "telemetry: own writes server reads",
        "status: own writes server reads",
        "heartbeat: own writes server reads",
        "ack: own writes server reads",
        "commands: server writes own reads",
        "config: server writes own reads",
        "other:",
    ];
    assert_eq!(table, expected);

    // The plugin takes orders from its administrator alone, and tells nobody else what it is told.
    let order = json!({"commands": [{"command": "setClientPassword", "username": ADMIN.0, "password": "mine"}]});
    for (name, client) in &mut parties {
        let _ = client.subscribe("$CONTROL/#").await;
        if *name != "admin" {
            let given = client.publish("$CONTROL/dynamic-security/v1", order.to_string()).await;
            assert!(given.is_err(), "{name}");
        }
    }
    connected(&app, &owner, &home, "bell").await;
    for (name, client) in &mut parties {
        let _ = client.subscribe(&format!("{PREFIX}/fence/control")).await;
        // Administrators hear each other's answers, in which no password is.
        assert_eq!(client.try_next().is_some(), *name == "admin", "{name}");
    }
    assert!(Mqtt::connect_as(port, Some(ADMIN)).await.is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_the_broker_once() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let second = installation::server(&broker).second(&app).await;
    let owner_there = owner.at(second.http_addr());
    let (lamp, _) = connected(&app, &owner, &home, "lamp").await;
    let fan: Value = owner_there
        .query(
            "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"fan\", name: \"Fan\"}) { credentials { username password } } }",
            json!({"h": home.id}),
        )
        .await;
    let text = |name: &str| fan["registerDevice"]["credentials"][name].as_str().unwrap().to_owned();
    enter(broker.port(), &text("username"), &text("password")).await;
    let changes = app.app().services().metrics.broker_account_changes.get()
        + second.services().metrics.broker_account_changes.get();
    assert_eq!(changes, 2);
    // The one that leads goes; the other one takes over.
    let _database = app.stop().await;
    let data = owner_there
        .query(
            "mutation($d: ID!) { rotateDeviceCredentials(deviceId: $d) { username password } }",
            json!({"d": lamp.id}),
        )
        .await;
    let text = |name: &str| data["rotateDeviceCredentials"][name].as_str().unwrap().to_owned();
    enter(broker.port(), &text("username"), &text("password")).await;
    second.stop().await;
}
