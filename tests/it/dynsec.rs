//! A server that provisions devices at a real Mosquitto: who may connect, whose connection is closed, and which topics
//! each may use.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::broker::{Broker, folder};
use crate::support::installation::{self, ADMIN, PREFIX, SERVER, connected, enter, try_enter};
use crate::support::mqtt::Mqtt;
use crate::support::user::{Device, User};
use crate::support::{eventually, until};

/// A deleted device is disconnected within this time.
const DISCONNECTED_WITHIN: Duration = Duration::from_secs(5);

async fn rotate(owner: &User, device: &Device, grace: u32) -> (String, String) {
    let query = "mutation($d: ID!, $g: Int) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: $g}) { username password } }";
    let data = owner.query(query, json!({"d": device.id, "g": grace})).await;
    let text = |name: &str| data["rotateDeviceCredentials"][name].as_str().expect("text").to_owned();
    (text("username"), text("password"))
}

/// Whether a connection can still publish: the broker may have closed it.
async fn can_publish(client: &Mqtt, username: &str) -> bool {
    let topic = format!("{PREFIX}/{}/telemetry", username.trim_end_matches("~1"));
    let publish = client.publish(&topic, "{}");
    matches!(tokio::time::timeout(Duration::from_millis(500), publish).await, Ok(Ok(())))
}

async fn disconnected(client: &Mqtt, username: &str) {
    eventually("the connection is closed", || async { (!can_publish(client, username).await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_device_is_disconnected_within_five_seconds() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let (lamp, client) = connected(&app, &owner, &home, "lamp").await;
    let (fan, fans_client) = connected(&app, &owner, &home, "fan").await;
    assert!(can_publish(&client, &lamp.username).await);
    let started = Instant::now();
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": lamp.id})).await;
    disconnected(&client, &lamp.username).await;
    assert!(started.elapsed() < DISCONNECTED_WITHIN, "{:?}", started.elapsed());
    assert!(try_enter(broker.port(), &lamp.client_id, &lamp.username, &lamp.password).await.is_none());
    assert!(can_publish(&fans_client, &fan.username).await, "the other device stays connected");

    // Deleting a home disconnects all its devices.
    let started = Instant::now();
    owner.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home.id})).await;
    disconnected(&fans_client, &fan.username).await;
    assert!(started.elapsed() < DISCONNECTED_WITHIN, "{:?}", started.elapsed());
    let rows = app.database().client().await;
    let left = || async {
        let left: i64 = rows.query_one("select count(*) from mqtt_clients", &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    };
    eventually("no account is left", left).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_valid_for_its_grace_period() {
    let (broker, app) = installation::start().await;
    let (port, (home, owner)) = (broker.port(), app.home().await);
    let (lamp, first) = connected(&app, &owner, &home, "lamp").await;
    let (username, password) = rotate(&owner, &lamp, 0).await;
    assert_eq!(username, lamp.username);
    let second = enter(port, &lamp.client_id, &username, &password).await;
    disconnected(&first, &username).await;
    assert!(try_enter(port, &lamp.client_id, &lamp.username, &lamp.password).await.is_none());
    assert!(can_publish(&second, &username).await);

    let (second_name, second_password) = rotate(&owner, &lamp, 60).await;
    assert_eq!(second_name, format!("{username}~1"));
    drop(second);
    let mut new = enter(port, &lamp.client_id, &second_name, &second_password).await;
    assert!(can_publish(&new, &second_name).await, "allowed by the role of the second user name");
    let commands = format!("{PREFIX}/{username}/commands");
    new.subscribe(&commands).await.unwrap();
    let server = Mqtt::connect_as(port, Some(SERVER)).await.unwrap();
    server.publish(&commands, "on").await.unwrap();
    assert_eq!(new.next().await.1, b"on");
    assert!(new.publish(&format!("{PREFIX}/{}/fan/telemetry", home.key), "{}").await.is_err());
    assert!(new.publish(&commands, "{}").await.is_err());
    drop(new);
    let old = enter(port, &lamp.client_id, &username, &password).await;
    assert!(can_publish(&old, &username).await, "the old password is still valid");

    app.clock().advance(TimeDelta::seconds(61));
    disconnected(&old, &username).await;
    assert!(try_enter(port, &lamp.client_id, &username, &password).await.is_none());
    let new = enter(port, &lamp.client_id, &second_name, &second_password).await;
    assert!(can_publish(&new, &second_name).await);

    // The next rotation takes the first user name again; after one without grace the second is deleted.
    let (third_name, third_password) = rotate(&owner, &lamp, 60).await;
    assert_eq!(third_name, username);
    enter(port, &lamp.client_id, &third_name, &third_password).await;
    let (last_name, last_password) = rotate(&owner, &lamp, 0).await;
    assert_eq!(last_name, username);
    let last = enter(port, &lamp.client_id, &last_name, &last_password).await;
    assert!(can_publish(&last, &last_name).await);
    let deleted =
        || async { try_enter(port, &lamp.client_id, &second_name, &second_password).await.is_none().then_some(()) };
    eventually("the second user name is deleted", deleted).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_receives_missed_changes_and_lost_accounts_are_exported() {
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
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (2, false), "both passwords wait, encrypted");
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": bell.id})).await;
    broker.restart().await;
    enter(broker.port(), &fan.client_id, &fan.username, &fan.password).await;
    assert!(try_enter(broker.port(), &bell.client_id, &bell.username, &bell.password).await.is_none());
    let confirmed = || async {
        let left: i64 = rows.query_one(sealed, &[&fan.password.as_bytes()]).await.unwrap().get(0);
        (left == 0).then_some(())
    };
    eventually("the broker has confirmed every password", confirmed).await;

    // Another broker takes its place, which has only the server's accounts.
    let empty = Broker::with_dynamic_security(installation::empty_export().await).await;
    drop(broker);
    let other = installation::server(&empty).start_on(app.stop().await).await;
    let missing = || async {
        let metrics = other.app().services().metrics.clone();
        (metrics.broker_accounts_missing.get() == 2).then_some(())
    };
    eventually("the metric counts two missing accounts", missing).await;
    assert!(try_enter(empty.port(), &lamp.client_id, &lamp.username, &lamp.password).await.is_none());
    let folder = folder();
    installation::export(&folder, &other.database().url());
    let filled = Broker::with_dynamic_security(folder).await;
    for device in [&lamp, &fan] {
        assert!(try_enter(filled.port(), &device.client_id, &device.username, &device.password).await.is_some());
    }
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_reaches_exactly_its_topics() {
    let (broker, app) = installation::start().await;
    let port = broker.port();
    let (home, owner) = app.home().await;
    let other = owner.home().await;
    let (lamp, lamps) = connected(&app, &owner, &home, "device_001").await;
    let (_, neighbour) = connected(&app, &owner, &home, "fan").await;
    let (_, foreign) = connected(&app, &owner, &other, "device_001").await;
    let server = Mqtt::connect_as(port, Some(SERVER)).await.unwrap();
    let admin = Mqtt::connect_as(port, Some(ADMIN)).await.unwrap();
    assert!(Mqtt::connect_as(port, None).await.is_err(), "no connection without an account");

    let mut clients =
        [("own", lamps), ("neighbour", neighbour), ("foreign", foreign), ("server", server), ("admin", admin)];
    let mut table = Vec::new();
    for kind in ["telemetry", "status", "heartbeat", "ack", "commands", "config", "other"] {
        let topic = lamp.topic(kind);
        let mut row = format!("{kind}:");
        // Deliveries show who may read: a broker may grant a filter and deliver nothing.
        for (_, client) in &clients {
            for filter in [topic.clone(), format!("{PREFIX}/+/+/{kind}"), format!("{PREFIX}/#"), "#".to_owned()] {
                let _ = client.subscribe(&filter).await;
            }
        }
        let mut readers = String::new();
        for n in 0..clients.len() {
            let (name, client) = &clients[n];
            if client.publish(&topic, format!("{kind} of {name}")).await.is_ok() {
                row += &format!(" {name} writes");
                for (reader, client) in &mut clients {
                    // The answer to a subscription comes after all deliveries before it.
                    let _ = client.subscribe(&format!("{PREFIX}/fence/{n}/{kind}")).await;
                    let mut received = false;
                    while let Some((delivered, _)) = client.try_next() {
                        received |= delivered == topic;
                    }
                    if received && !readers.contains(*reader) {
                        readers += &format!(" {reader} reads");
                    }
                }
            }
        }
        table.push(row + &readers);
    }
    let expected = [
        // The administrator deletes what deleted devices retained.
        "telemetry: own writes admin writes server reads",
        "status: own writes admin writes server reads",
        "heartbeat: own writes admin writes server reads",
        "ack: own writes admin writes server reads",
        "commands: server writes admin writes own reads",
        "config: server writes admin writes own reads",
        "other:",
    ];
    assert_eq!(table, expected);

    // Only the administrator can send commands to the plugin, and only administrators receive its answers.
    let command = json!({"commands": [{"command": "setClientPassword", "username": ADMIN.0, "password": "mine"}]});
    for (name, client) in &mut clients {
        let _ = client.subscribe("$CONTROL/#").await;
        if *name != "admin" {
            let sent = client.publish("$CONTROL/dynamic-security/v1", command.to_string()).await;
            assert!(sent.is_err(), "{name}");
        }
    }
    connected(&app, &owner, &home, "bell").await;
    for (name, client) in &mut clients {
        let _ = client.subscribe(&format!("{PREFIX}/fence/control")).await;
        // Administrators receive each other's answers, which contain no password.
        assert_eq!(client.try_next().is_some(), *name == "admin", "{name}");
    }
    assert!(Mqtt::connect_as(port, Some(ADMIN)).await.is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_servers_provisions_the_broker() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let second = installation::server(&broker).second(&app).await;
    let owner_there = owner.at(second.http_addr());
    let (lamp, _) = connected(&app, &owner, &home, "lamp").await;
    let fan: Value = owner_there
        .query(
            "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"fan\", name: \"Fan\"}) { credentials { username password clientId } } }",
            json!({"h": home.id}),
        )
        .await;
    let text = |name: &str| fan["registerDevice"]["credentials"][name].as_str().unwrap().to_owned();
    enter(broker.port(), &text("clientId"), &text("username"), &text("password")).await;
    // An account is counted after the broker has confirmed it, which is after the device can connect.
    let changes = || {
        app.app().services().metrics.broker_account_changes.get()
            + second.services().metrics.broker_account_changes.get()
    };
    until("both accounts are counted", || changes() >= 2).await;
    assert_eq!(changes(), 2);
    // When the leader stops, the other server takes over.
    let _database = app.stop().await;
    let data = owner_there
        .query(
            "mutation($d: ID!) { rotateDeviceCredentials(input: {deviceId: $d}) { username password clientId } }",
            json!({"d": lamp.id}),
        )
        .await;
    let text = |name: &str| data["rotateDeviceCredentials"][name].as_str().unwrap().to_owned();
    enter(broker.port(), &text("clientId"), &text("username"), &text("password")).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_subscribes_to_topics_of_its_own_home_only() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let (lamp, _) = connected(&app, &owner, &home, "lamp").await;
    let (other, stranger) = app.home().await;
    let (spy, client) = connected(&app, &stranger, &other, "spy").await;
    let subscriptions = async |client: &Mqtt| {
        for own in [spy.topic("commands"), spy.topic("config")] {
            client.subscribe(&own).await.expect("its own topic");
        }
        let foreign =
            ["#", "+/#", "smarthome/#", "smarthome/+/+/commands", "+/+/lamp/#", "$share/g/#"].map(str::to_owned);
        let shared = format!("$share/g/{}", lamp.topic("commands"));
        for filter in foreign.into_iter().chain([lamp.topic("commands"), lamp.topic("config"), shared]) {
            assert!(client.subscribe(&filter).await.is_err(), "{filter}");
        }
    };
    subscriptions(&client).await;
    // The same under the second user name.
    let (username, password) = rotate(&stranger, &spy, 60).await;
    let second = enter(broker.port(), &spy.client_id, &username, &password).await;
    subscriptions(&second).await;

    // The role of a home ends with the home's last account, at the next comparison.
    let roles = || async {
        let file = std::fs::read_to_string(broker.folder().join("dynamic-security.json")).unwrap();
        let file: Value = serde_json::from_str(&file).ok()?;
        let roles: Vec<_> =
            file["roles"].as_array()?.iter().map(|role| role["rolename"].as_str().unwrap().to_owned()).collect();
        Some(roles)
    };
    let (kept, deleted) = (format!("{}/+", home.key), format!("{}/+", other.key));
    assert!(roles().await.unwrap().contains(&deleted));
    stranger.query("mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": other.id})).await;
    let rows = app.database().client().await;
    eventually("its accounts are removed", || async {
        let left: i64 = rows.query_one("select count(*) from mqtt_clients", &[]).await.unwrap().get(0);
        (left == 1).then_some(())
    })
    .await;
    let app = installation::server(&broker).start_on(app.stop().await).await;
    eventually("its role is removed", || async {
        let roles = roles().await?;
        (roles.contains(&kept) && !roles.contains(&deleted)).then_some(())
    })
    .await;
    app.stop().await;
}
