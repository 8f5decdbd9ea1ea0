//! Accounts in a password file, which an operator exports. Mosquitto binds no account to a client id there.

use chrono::TimeDelta;

use crate::support::broker::Broker;
use crate::support::installation::{self, PREFIX, SERVER, enter};
use crate::support::kept_session::VERSIONS;
use crate::support::mqtt::Mqtt;
use crate::support::until;

use super::{FIRST, Rig, publish_retained, retained_at};

/// The operator's part after a change of devices.
fn export(broker: &Broker, rig: &Rig) {
    installation::export(broker.folder(), &rig.app.database().url());
    broker.signal("HUP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_registered_anew_receives_nothing_of_the_deleted_one() {
    let broker = Broker::with_files(installation::empty_export().await).await;
    let app = installation::server(&broker).set("MQTT_PROVISIONING", "none").start().await;
    let rig = Rig::new(app).await;
    let metrics = rig.app.app().services().metrics.clone();
    let fan = rig.app.device(&rig.owner, &rig.home, "fan").await;
    for (n, version) in (0..).zip(VERSIONS) {
        let first = rig.lamp().await;
        export(&broker, &rig);
        rig.leave_messages(version, &first).await;
        let client = enter(broker.port(), "another-client", &first.username, &first.password).await;
        publish_retained(&client, &first).await;
        rig.delete(&first).await;
        until("the session is deleted", || metrics.broker_cleanups.get() == 2 * n + 1).await;
        let second = rig.lamp().await;
        export(&broker, &rig);
        for id in [&first.client_id, &second.client_id] {
            let received = rig.received(version, &second, id).await;
            assert!(!received.contains(FIRST), "{version} {id}: {received}");
        }
        rig.delete(&second).await;
        until("the second device is cleaned up", || metrics.broker_cleanups.get() == 2 * n + 2).await;
    }
    // The exported rules let the server delete what the device retained. It tries again an hour later.
    export(&broker, &rig);
    let client = enter(broker.port(), &fan.client_id, &fan.username, &fan.password).await;
    rig.app.clock().advance(TimeDelta::hours(1));
    until("all cleanups are repeated", || metrics.broker_cleanups.get() == 8).await;
    let observer = Mqtt::connect_as(broker.port(), Some(SERVER)).await.unwrap();
    let received = retained_at(observer, PREFIX, &client, &fan).await;
    assert!(!received.contains(FIRST), "{received}");
    rig.app.stop().await;
}
