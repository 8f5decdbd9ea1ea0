//! `smarthome mqtt export`: Mosquitto works with its files.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::app::{Database, TestApp};
use crate::support::binary::binary;
use crate::support::broker::{Broker, folder};
use crate::support::installation::{self, PREFIX, try_enter};

const DEVICES: usize = 200;

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_that_were_written_are_counted() {
    let (folder, database) = (folder(), Database::create().await);
    installation::smarthome(&["migrate"], &database.url());
    let arguments = ["mqtt", "export", "--dir", folder.to_str().expect("UTF-8")];
    let mut command = binary(&arguments);
    command.env("DATABASE_URL", database.url()).env("MQTT_BROKER_URL", "mqtt://127.0.0.1:1");
    let of_nobody = command.output().expect("it runs");
    let place = folder.display();
    assert_eq!(printed(&of_nobody), format!("0 accounts in {place}\n"));
    let warning = String::from_utf8_lossy(&of_nobody.stderr).into_owned();
    assert!(warning.contains("MQTT_USERNAME"), "{warning}");

    let file = folder.join("dynamic-security.json");
    let names = || {
        let text = std::fs::read_to_string(&file).expect("the file");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let clients = json["clients"].as_array().expect("accounts").clone();
        clients.iter().map(|client| client["username"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let output = installation::export(&folder, &database.url());
    assert_eq!(names().len(), 2);
    assert_eq!(printed(&output), format!("2 accounts in {place}: the server's, the administrator's\n"));

    // The account of a monitor, which an operator has added.
    let text = std::fs::read_to_string(&file).expect("the file");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json["clients"].as_array_mut().expect("accounts").push(json!({"username": "monitor", "roles": []}));
    std::fs::write(&file, json.to_string()).expect("written");
    let output = installation::export(&folder, &database.url());
    assert_eq!(names().len(), 3);
    let expected =
        format!("3 accounts in {place}: the server's, the administrator's, 1 other in dynamic-security.json\n");
    assert_eq!(printed(&output), expected);
    std::fs::remove_dir_all(folder).expect("removed");
}

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
        let expected = "202 accounts in FOLDER: 200 of devices, the server's, the administrator's\n";
        assert_eq!(printed(&output), expected.replace("FOLDER", &folder.display().to_string()));
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
