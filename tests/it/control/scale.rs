//! Many commands, many devices, several servers: each command once, in order per device.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use smarthome::app::{App, Options};

use super::super::support::app::TestApp;
use super::super::support::user::User;
use super::super::support::{eventually, until};
use super::{Rig, SEND};

async fn send(user: &User, device: &str, n: usize) -> String {
    let input = json!({"deviceId": device, "type": "COUNT", "payload": n});
    let data = user.query(SEND, json!({ "input": input })).await;
    data["sendCommand"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_a_device_keep_their_order() {
    let mut rig = Rig::start().await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(send(&rig.owner, &rig.device.id, n).await);
    }
    for id in ids {
        assert_eq!(rig.received().await.1["commandId"], id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_device_delays_no_other() {
    let mut rig = Rig::start().await;
    let gone = rig.app.device(&rig.owner, &rig.home, "gone").await;
    rig.app.publish(&gone, "status", r#"{"online": false}"#).await;
    rig.until_processed(1).await;
    for n in 0..50 {
        send(&rig.owner, &gone.id, n).await;
    }
    let id = send(&rig.owner, &rig.device.id, 0).await;
    assert_eq!(rig.received().await.1["commandId"], id);
}

/// Adds 1,000 devices to a home, each with 12 commands to send.
const FLOOD: &str = "with made as (
        insert into devices (home_id, key, name, type)
        select $1, 'flood' || n, 'Flood', 'OTHER' from generate_series(1, 1000) n
        returning id, home_id
    )
    insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, timeout_seconds,
        created_at, expires_at, deadline)
    select gen_random_uuid(), made.home_id, made.id, 'COUNT', '{}', 'USER', 'c', 'EXPIRE', 'PENDING', 60,
        now(), now() + interval '1 hour', now() + interval '1 hour'
    from made, generate_series(1, 12)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiting_commands_of_one_home_do_not_delay_another() {
    let rig = Rig::start().await;
    let (flooded, _) = rig.app.home().await;
    let mut listener = rig.app.another_mqtt().await;
    listener.subscribe(&format!("{}/+/+/commands", rig.app.prefix())).await.expect("SUBACK");
    let flooded: i64 = flooded.id.parse().expect("an id");
    assert_eq!(rig.app.database().client().await.execute(FLOOD, &[&flooded]).await.expect("rows"), 12_000);
    send(&rig.owner, &rig.device.id, 0).await;
    let mut n_before = 0;
    while listener.next().await.0 != rig.device.topic("commands") {
        n_before += 1;
    }
    // What one poll claims, twice: one may have begun before.
    assert!(n_before <= 2 * 512, "{n_before} commands of the other home came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_outbox_and_send_nothing_twice() {
    const DEVICES: usize = 8;
    const EACH: usize = 12;
    let one = TestApp::builder().set("MQTT_SHARED_GROUP", "g").start().await;
    let (home, owner) = one.home().await;
    let mut settings = one.settings().clone();
    settings.mqtt.client_id.push_str("-2");
    let two = App::start(settings, Options::default()).await.expect("the second server starts");
    let owner_at_two = owner.at(two.http_addr());
    let mut listener = one.another_mqtt().await;
    listener.subscribe(&format!("{}/+/+/commands", one.prefix())).await.expect("SUBACK");
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        devices.push(one.device(&owner, &home, &format!("d{n}")).await);
    }
    let connected =
        [one.app().services().metrics.mqtt_connected.clone(), two.services().metrics.mqtt_connected.clone()];
    until("both are connected", || connected.iter().all(|up| up.get() == 1)).await;
    let sending = devices.iter().map(|device| async {
        let mut ids = Vec::new();
        for n in 0..EACH {
            ids.push(send(if n % 2 == 0 { &owner } else { &owner_at_two }, &device.id, n).await);
        }
        (device.topic("commands"), ids)
    });
    let sent: HashMap<String, Vec<String>> = futures_util::future::join_all(sending).await.into_iter().collect();
    let (mut seen, mut by_device) = (HashSet::new(), HashMap::<String, Vec<String>>::new());
    for _ in 0..DEVICES * EACH {
        let (topic, payload) = listener.next().await;
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        let id = message["commandId"].as_str().expect("an id").to_owned();
        assert!(seen.insert(id.clone()), "{id} came twice");
        by_device.entry(topic).or_default().push(id);
    }
    assert_eq!(by_device, sent);
    let database = one.database().client().await;
    eventually("all are sent", || async {
        let row = database.query_one("select count(*) from commands where status = 'SENT'", &[]).await.ok()?;
        (usize::try_from(row.get::<_, i64>(0)) == Ok(DEVICES * EACH)).then_some(())
    })
    .await;
    assert!(listener.try_next().is_none());
    two.stop().await;
}
