//! `smarthome mqtt export`: Mosquitto works with its files.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::broker::{Broker, folder};
use crate::support::installation::{self, PREFIX, try_enter};

const DEVICES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_devices_connect_with_either_file() {
    let app = TestApp::builder().set("MQTT_TOPIC_PREFIX", PREFIX).start().await;
    let (home, owner) = app.home().await;
    let devices: Vec<_> = (0..DEVICES).map(|n| json!({"key": format!("d{n}"), "name": "Device"})).collect();
    let register = "mutation($i: RegisterDevicesInput!) { registerDevices(input: $i) { credentials { username password clientId } } }";
    let made = owner.query(register, json!({"i": {"homeId": home.id, "devices": devices}})).await;
    let credentials: Vec<_> = made["registerDevices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|made| {
            let text = |name: &str| made["credentials"][name].as_str().unwrap().to_owned();
            (text("username"), text("password"), text("clientId"))
        })
        .collect();

    for by_plugin in [true, false] {
        let folder = folder();
        let output = installation::export(&folder, &app.database().url());
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("200 accounts in "), "{output:?}");
        for file in ["dynamic-security.json", "acl", "passwd"] {
            let file = folder.join(file);
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
            let text = std::fs::read_to_string(file).unwrap();
            assert!(!credentials.iter().any(|(_, password, _)| text.contains(password)), "a password in clear text");
        }
        // A second export over the same file adds nothing.
        let before = std::fs::read_to_string(folder.join("dynamic-security.json")).unwrap().lines().count();
        installation::export(&folder, &app.database().url());
        let after = std::fs::read_to_string(folder.join("dynamic-security.json")).unwrap().lines().count();
        assert_eq!(before, after);

        let broker = match by_plugin {
            true => Broker::with_dynamic_security(folder).await,
            false => Broker::with_files(folder).await,
        };
        for (n, (username, password, id)) in credentials.iter().enumerate().step_by(23) {
            assert!(try_enter(broker.port(), id, username, "wrong").await.is_none(), "{username}");
            let device = try_enter(broker.port(), id, username, password).await.expect(username);
            device.publish(&format!("{PREFIX}/{username}/telemetry"), "{}").await.unwrap();
            let neighbour = &credentials[(n + 1) % DEVICES].0;
            assert!(device.publish(&format!("{PREFIX}/{neighbour}/telemetry"), "{}").await.is_err());
            assert!(device.publish(&format!("{PREFIX}/{username}/commands"), "{}").await.is_err());
            device.subscribe(&format!("{PREFIX}/{username}/commands")).await.unwrap();
            // Files without the plugin can't restrict subscriptions; nothing is delivered to them.
            assert_eq!(device.subscribe("#").await.is_err(), by_plugin);
        }
    }
}
