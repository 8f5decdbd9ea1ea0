//! Many accounts that wait for the broker do not hold up a home that changes one.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::installation::{self, connected, enter};
use crate::support::mqtt::Mqtt;
use crate::support::user::{Device, Home, User};
use crate::support::{eventually, soon};

/// A device whose password is replaced or that is deleted is disconnected within this time, whatever waits.
const DISCONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// Changes that wait: the broker needs far more than [`DISCONNECTED_WITHIN`] for them.
const N_WAITING: usize = 4_000;

async fn register_many(stranger: &User, home: &Home) {
    let register = "mutation($i: RegisterDevicesInput!) { registerDevices(input: $i) { device { id } } }";
    for batch in 0..N_WAITING / 1_000 {
        let devices: Vec<_> = (0..1_000).map(|n| json!({"key": format!("d{batch}-{n}"), "name": "Device"})).collect();
        stranger.query(register, json!({"i": {"homeId": home.id, "devices": devices}})).await;
    }
}

async fn waiting(app: &TestApp, home: &str) -> i64 {
    let waiting = "select count(*) from mqtt_clients \
                   where (credential_id is null or sealed_password is not null) and split_part(username, '/', 1) = $1";
    app.database().client().await.query_one(waiting, &[&home]).await.expect("a count").get(0)
}

/// Waits until the device's connection is closed.
async fn disconnected(client: &Mqtt, device: &Device) {
    let topic = device.topic("heartbeat");
    eventually("the connection is closed", || async {
        let publish = tokio::time::timeout(Duration::from_millis(500), client.publish(&topic, "{}")).await;
        (!matches!(publish, Ok(Ok(())))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_does_not_wait_for_the_devices_of_another() {
    let (broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let (lamp, lamps_client) = connected(&app, &owner, &home, "lamp").await;
    let (bell, bells_client) = connected(&app, &owner, &home, "bell").await;
    let (other, stranger) = app.home().await;
    register_many(&stranger, &other).await;

    // A stolen device is disconnected, and its owner gets the new password into use.
    let started = Instant::now();
    let rotate = "mutation($d: ID!) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: 0}) { password } }";
    let rotated = owner.query(rotate, json!({"d": lamp.id})).await;
    disconnected(&lamps_client, &lamp).await;
    assert!(started.elapsed() < DISCONNECTED_WITHIN, "{:?}", started.elapsed());
    let password = rotated["rotateDeviceCredentials"]["password"].as_str().expect("a password");
    enter(broker.port(), &lamp.client_id, &lamp.username, password).await;

    // A new device can connect.
    connected(&app, &owner, &home, "fan").await;
    let left = waiting(&app, &other.key).await;
    assert!(left > 1_000, "the stranger's devices are still waiting: {left}");

    // Removals take turns as well.
    let removals = "insert into mqtt_clients (username, changed_at) \
                    select 'stranger/d' || n, '2000-01-01' from generate_series(1, 10000) n";
    app.database().client().await.batch_execute(removals).await.expect("removals");
    let started = Instant::now();
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": bell.id})).await;
    disconnected(&bells_client, &bell).await;
    assert!(started.elapsed() < DISCONNECTED_WITHIN, "{:?}", started.elapsed());
    let left = waiting(&app, "stranger").await;
    assert!(left > 1_000, "the removals of the stranger are still waiting: {left}");
    soon("the server stops", app.stop()).await;
}
