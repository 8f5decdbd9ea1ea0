//! Accounts in Dynamic Security, which the server creates and removes.

use crate::support::broker::Broker;
use crate::support::installation::{self, PREFIX, SERVER, connected, enter, try_enter};
use crate::support::kept_session::VERSIONS;
use crate::support::mqtt::Mqtt;
use crate::support::until;

use super::{FIRST, Rig, publish_retained, retained_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_registered_anew_receives_nothing_of_the_deleted_one() {
    let (broker, app) = installation::start().await;
    let rig = Rig::new(app).await;
    for (version, is_connected) in VERSIONS.into_iter().flat_map(|version| [(version, false), (version, true)]) {
        let first = rig.lamp().await;
        let session = match is_connected {
            true => Some(rig.leave_in_flight(version, &first).await),
            false => {
                rig.leave_messages(version, &first).await;
                None
            }
        };
        rig.delete(&first).await;
        let second = rig.lamp().await;
        assert_ne!(second.client_id, first.client_id, "an MQTT client id is given once");
        let received = rig.received(version, &second, &second.client_id).await;
        assert!(!received.contains(FIRST), "{version}: {received}");
        for (id, password) in [(&first.client_id, &second.password), (&second.client_id, &first.password)] {
            assert!(try_enter(broker.port(), id, &second.username, password).await.is_none(), "{version}");
        }
        drop(session);
        rig.delete(&second).await;
    }
    rig.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_restarts_of_the_broker_and_the_server() {
    let (mut broker, app) = installation::start().await;
    let mut rig = Rig::new(app).await;
    for version in VERSIONS {
        let first = rig.lamp().await;
        rig.leave_messages(version, &first).await;
        // The broker is away while one device is deleted and the next one registered, and another server goes on.
        broker.stop();
        rig.delete(&first).await;
        let second = rig.lamp().await;
        let (owner, home) = (rig.owner.clone(), rig.home.clone());
        let app = installation::server(&broker).start_on(rig.app.stop().await).await;
        rig = Rig { owner: owner.at(app.addr()), home, app };
        broker.restart().await;
        let received = rig.received(version, &second, &second.client_id).await;
        assert!(!received.contains(FIRST), "{version}: {received}");
        rig.delete(&second).await;
    }
    rig.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_device_retained_is_deleted() {
    let (broker, app) = installation::start().await;
    let rig = Rig::new(app).await;
    let (first, client) = connected(&rig.app, &rig.owner, &rig.home, "lamp").await;
    publish_retained(&client, &first).await;
    rig.delete(&first).await;
    let second = rig.lamp().await;
    let client = enter(broker.port(), &second.client_id, &second.username, &second.password).await;
    let observer = Mqtt::connect_as(broker.port(), Some(SERVER)).await.unwrap();
    let received = retained_at(observer, PREFIX, &client, &second).await;
    assert!(!received.contains(FIRST), "{received}");
    rig.app.stop().await;
}

/// An installation whose administrator's account was made by an older release.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_the_role_of_cleanups_gets_it() {
    let folder = installation::empty_export().await;
    let path = folder.join("dynamic-security.json");
    let mut file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    file["clients"][0]["roles"] = serde_json::json!([{"rolename": "admin"}]);
    file["roles"].as_array_mut().unwrap().retain(|role| role["rolename"] == "admin");
    std::fs::write(&path, file.to_string()).unwrap();
    let broker = Broker::with_dynamic_security(folder).await;
    let rig = Rig::new(installation::server(&broker).start().await).await;
    let (first, client) = connected(&rig.app, &rig.owner, &rig.home, "lamp").await;
    publish_retained(&client, &first).await;
    rig.delete(&first).await;
    let metrics = rig.app.app().services().metrics.clone();
    until("the deleted device is cleaned up", || metrics.broker_cleanups.get() == 1).await;
    let (second, client) = connected(&rig.app, &rig.owner, &rig.home, "fan").await;
    let observer = Mqtt::connect_as(broker.port(), Some(SERVER)).await.unwrap();
    let received = retained_at(observer, PREFIX, &client, &second).await;
    assert!(!received.contains(FIRST), "{received}");
    rig.app.stop().await;
}
