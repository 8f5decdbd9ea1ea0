//! The shipped TLS listeners on a real Mosquitto, with the certificates of the shipped script.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::app::Builder;
use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::installation::{self, PREFIX, SERVER};

fn tls(folder: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/tls.sh");
    Command::new(script).arg(folder.join("tls")).args(arguments).output().expect("the script runs")
}

/// Makes certificates in the folder `tls` of this one.
pub(crate) fn made(folder: &Path, arguments: &[&str]) {
    let output = tls(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn broker() -> (Broker, [u16; 3]) {
    let folder = installation::empty_export().await;
    made(&folder, &["ca"]);
    made(&folder, &["broker", "localhost,127.0.0.1"]);
    made(&folder, &["client", SERVER.0]);
    Broker::with_listeners(folder, "tls.conf", [8883, 8884, 9001]).await
}

/// Publishes with `mosquitto_pub` and this client's certificate; returns what it printed as an error.
async fn publish(broker: &Broker, port: u16, client: Option<&str>, topic: &str, more: &[&str]) -> Result<(), String> {
    let tls = broker.folder().join("tls");
    let mut command = tokio::process::Command::new("mosquitto_pub");
    let message = r#"{"sensors": {"temperature": 21.5}}"#;
    command.args(["-h", "localhost", "-V", "5", "-q", "1", "-t", topic, "-m", message, "-p", &port.to_string()]);
    command.arg("--cafile").arg(tls.join("ca.crt")).args(more);
    if let Some(client) = client {
        command.arg("--cert").arg(tls.join(format!("clients/{client}.crt")));
        command.arg("--key").arg(tls.join(format!("clients/{client}.key")));
    }
    let output = command.kill_on_drop(true).output();
    let output = crate::support::soon("mosquitto_pub", output).await.expect("mosquitto_pub runs");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && printed.is_empty() { Ok(()) } else { Err(printed) }
}

/// A server that connects to this URL.
fn server(broker: &Broker, url: &str) -> Builder {
    let ca = broker.folder().join("tls/ca.crt").display().to_string();
    installation::server(broker).set("MQTT_BROKER_URL", url).set("MQTT_PROVISIONING", "none").set("MQTT_CA_FILE", ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_authenticates_a_client() {
    let (mut broker, [certificates, passwords, _]) = broker().await;
    let file = |name: &str| broker.folder().join(format!("tls/clients/{name}")).display().to_string();
    let app = server(&broker, &format!("mqtts://localhost:{certificates}"))
        .unset("MQTT_USERNAME")
        .unset("MQTT_PASSWORD")
        .set("MQTT_CLIENT_CERT_FILE", file("smarthome_backend.crt"))
        .set("MQTT_CLIENT_KEY_FILE", file("smarthome_backend.key"))
        .start()
        .await;
    let (home, owner) = app.home().await;
    let lamp = app.device(&owner, &home, "lamp").await;
    let (own, neighbour) = (lamp.topic("telemetry"), format!("{PREFIX}/{}/fan/telemetry", home.key));
    made(broker.folder(), &["client", &lamp.username]);
    publish(&broker, certificates, Some(&lamp.username), &own, &[]).await.unwrap();
    let query = "query($d: ID!) { device(id: $d) { latestTelemetry { sensors { temperature } } } }";
    let stored = || async {
        let data = owner.query(query, json!({"d": lamp.id})).await;
        (data["device"]["latestTelemetry"]["sensors"]["temperature"] == 21.5).then_some(())
    };
    eventually("the reading is stored", stored).await;

    let refused = |result: Result<(), String>| result.expect_err("must be refused");
    let client = Some(lamp.username.as_str());
    assert!(refused(publish(&broker, certificates, client, &neighbour, &[]).await).contains("Not authorized"));
    let name = format!("{}/fan", home.key);
    let claimed = publish(&broker, certificates, client, &neighbour, &["-u", &name, "-P", "x"]).await;
    assert!(refused(claimed).contains("Not authorized"), "a given user name is ignored");
    refused(publish(&broker, certificates, None, &own, &[]).await);
    refused(publish(&broker, certificates, Some("smarthome_backend"), &own, &[]).await);
    // The listener for passwords accepts no certificate instead.
    refused(publish(&broker, passwords, client, &own, &[]).await);

    // A certificate of the same name from another authority, then a revoked certificate.
    let other = installation::empty_export().await;
    made(&other, &["ca"]);
    made(&other, &["client", &lamp.username]);
    let forged = |end: &str| other.join(format!("tls/clients/{}.{end}", lamp.username)).display().to_string();
    let (cert, key) = (forged("crt"), forged("key"));
    refused(publish(&broker, certificates, None, &own, &["--cert", &cert, "--key", &key]).await);
    std::fs::remove_dir_all(other).unwrap();
    made(broker.folder(), &["revoke", &lamp.username]);
    broker.stop();
    broker.restart().await;
    refused(publish(&broker, certificates, client, &own, &[]).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorities_are_trusted_during_a_change_of_authority() {
    let (mut broker, [certificates, ..]) = broker().await;
    let (name, next) = ("main/lamp", installation::empty_export().await);
    made(broker.folder(), &["client", name]);
    made(&next, &["ca"]);
    made(&next, &["client", name]);
    for file in ["ca.crt", "ca.crl"] {
        let [old, new] = [broker.folder(), &next].map(|folder| folder.join("tls").join(file));
        let both = std::fs::read_to_string(&old).unwrap() + &std::fs::read_to_string(new).unwrap();
        std::fs::write(old, both).unwrap();
    }
    broker.stop();
    broker.restart().await;
    let topic = format!("{PREFIX}/{name}/telemetry");
    publish(&broker, certificates, Some(name), &topic, &[]).await.unwrap();
    let file = |end: &str| next.join(format!("tls/clients/{name}.{end}")).display().to_string();
    publish(&broker, certificates, None, &topic, &["--cert", &file("crt"), "--key", &file("key")]).await.unwrap();
    std::fs::remove_dir_all(next).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_connects_over_tls_and_verifies_the_broker() {
    let (broker, [_, passwords, sockets]) = broker().await;
    for url in [format!("wss://localhost:{sockets}/mqtt"), format!("mqtts://localhost:{passwords}")] {
        // Provisioning uses the same transport.
        let app = server(&broker, &url).set("MQTT_PROVISIONING", "dynsec").start().await;
        let (home, owner) = app.home().await;
        let lamp = app.device(&owner, &home, "lamp").await;
        installation::enter(broker.port(), &lamp.client_id, &lamp.username, &lamp.password).await;
        let login = ["-u", &lamp.username, "-P", &lamp.password, "-i", &lamp.client_id];
        publish(&broker, passwords, None, &lamp.topic("telemetry"), &login).await.unwrap();
        let query = "query($d: ID!) { device(id: $d) { latestTelemetry { sensors { temperature } } } }";
        let stored = || async {
            let data = owner.query(query, json!({"d": lamp.id})).await;
            (data["device"]["latestTelemetry"]["sensors"]["temperature"] == 21.5).then_some(())
        };
        eventually("the reading is stored", stored).await;
        app.stop().await;
    }
    // The server refuses a broker whose authority it does not trust, and counts the error.
    let other = installation::empty_export().await;
    made(&other, &["ca"]);
    let app = server(&broker, &format!("mqtts://localhost:{passwords}"))
        .set("MQTT_CA_FILE", other.join("tls/ca.crt").display().to_string())
        .start()
        .await;
    let errors = || async {
        let metrics = app.app().services().metrics.clone();
        (metrics.mqtt_connection_errors.get() >= 2 && metrics.mqtt_connected.get() == 0).then_some(())
    };
    eventually("the server refuses the broker", errors).await;
    std::fs::remove_dir_all(other).unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_connects_in_clear_text_over_tcp_and_websocket() {
    let folder = installation::empty_export().await;
    let (broker, [tcp, sockets]) = Broker::with_listeners(folder, "plain.conf", [1883, 9001]).await;
    for url in [format!("mqtt://127.0.0.1:{tcp}"), format!("ws://127.0.0.1:{sockets}/mqtt")] {
        let app = installation::server(&broker).set("MQTT_BROKER_URL", url).start().await;
        let (home, owner) = app.home().await;
        let lamp = app.device(&owner, &home, "lamp").await;
        installation::enter(tcp, &lamp.client_id, &lamp.username, &lamp.password).await;
        let linked = || async { (app.app().services().metrics.mqtt_connected.get() == 1).then_some(()) };
        eventually("the server is connected", linked).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_protocols_and_suites_are_refused() {
    let (broker, ports) = broker().await;
    let ca = broker.folder().join("tls/ca.crt");
    let connects = async |port: u16, arguments: &[&str]| {
        let mut command = tokio::process::Command::new("openssl");
        command.args(["s_client", "-connect", &format!("localhost:{port}"), "-verify_return_error", "-CAfile"]);
        command.arg(&ca).args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = crate::support::soon("openssl", command.output()).await.expect("openssl runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.contains("Verify return code: 0 (ok)") && !printed.contains("Cipher is (NONE)")
    };
    for port in ports {
        assert!(connects(port, &["-tls1_2"]).await && connects(port, &["-tls1_3"]).await, "{port}");
        for old in ["-tls1", "-tls1_1"] {
            assert!(!connects(port, &[old, "-cipher", "ALL:@SECLEVEL=0"]).await, "{port} {old}");
        }
        for cipher in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256"] {
            assert!(!connects(port, &["-tls1_2", "-cipher", cipher]).await, "{port} {cipher}");
        }
        let (name, wrong) = (["-verify_hostname", "localhost"], ["-verify_hostname", "other.example"]);
        assert!(connects(port, &name).await && !connects(port, &wrong).await, "{port}");
    }
}

#[tokio::test]
async fn the_script_overwrites_no_file_and_refuses_wildcards() {
    let folder = crate::support::broker::folder();
    assert!(!tls(&folder, &["client", "main/lamp"]).status.success(), "there is no authority");
    made(&folder, &["ca"]);
    made(&folder, &["client", "main/lamp"]);
    for wrong in [
        &["ca"][..],
        &["client", "main/lamp"],
        &["client", "main/+"],
        &["client", "#"],
        &["client", "../x/y"],
        &["client", ".."],
        &["client", "a/b/c"],
        &["client", ""],
        &["broker"],
        &["nonsense"],
    ] {
        assert!(!tls(&folder, wrong).status.success(), "{wrong:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
