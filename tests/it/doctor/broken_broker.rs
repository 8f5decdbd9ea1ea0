//! Brokers that can't be reached or used as they are set up.

use std::collections::HashMap;

use mqtt5::broker::config::AuthConfig;
use mqtt5::broker::{BrokerConfig, MqttBroker, StorageConfig};

use super::{examine, migrated, variables};
use crate::mosquitto_tls::made;
use crate::support::app::Database;
use crate::support::broker::Broker;
use crate::support::installation::{self, SERVER};
use crate::support::ports::free_port;

/// A migrated database, and variables with this broker.
async fn with(broker_url: &str, overrides: &[(&str, &str)]) -> (Database, HashMap<String, String>) {
    let database = migrated().await;
    let mut variables = variables(&database.url(), broker_url);
    variables.extend(overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    (database, variables)
}

fn plain(broker: &Broker) -> String {
    format!("mqtt://127.0.0.1:{}", broker.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_and_an_unknown_name() {
    let port = free_port();
    let (_database, variables) = with(&format!("mqtt://127.0.0.1:{port}"), &[]).await;
    let report = examine(&variables, &[]).await;
    report.assert_fault("broker", "refused", "start the broker");
    assert_eq!(report.check("database")["status"], "ok", "the other checks go on");

    let (_database, variables) = with("mqtt://no-such-host.invalid", &[]).await;
    examine(&variables, &[]).await.assert_fault("broker", "no-such-host.invalid", "is not known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_none() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let (_database, mut variables) = with(&plain(&broker), &[("MQTT_PASSWORD", "canary")]).await;
    let report = examine(&variables, &[]).await;
    report.assert_fault("credentials", SERVER.0, "MQTT_PASSWORD");
    assert!(!format!("{:?}", report.checks).contains("canary"));
    variables.retain(|name, _| !["MQTT_USERNAME", "MQTT_PASSWORD"].contains(&name.as_str()));
    examine(&variables, &[]).await.assert_fault("credentials", "without a user name", "MQTT_USERNAME");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_faults() {
    let folder = installation::empty_export().await;
    made(&folder, &["ca"]);
    made(&folder, &["broker", "localhost"]);
    let (broker, [certificates, passwords, sockets]) =
        Broker::with_listeners(folder, "tls.conf", [8883, 8884, 9001]).await;
    let ca = broker.folder().join("tls/ca.crt").display().to_string();
    let ca = [("MQTT_CA_FILE", ca.as_str())];
    let url = |scheme: &str, host: &str, port: u16| format!("{scheme}://{host}:{port}");

    for right in [url("mqtts", "localhost", passwords), url("wss", "localhost", sockets)] {
        let (_database, variables) = with(&right, &ca).await;
        let report = examine(&variables, &[]).await;
        report.assert_well();
        assert!(report.check("tls")["detail"].as_str().unwrap().contains("valid for localhost"));
    }

    // Plain against TLS, and TLS against plain.
    let (_database, variables) = with(&url("mqtt", "localhost", passwords), &ca).await;
    examine(&variables, &[]).await.assert_fault("tls", "over TLS", &format!("mqtts://localhost:{passwords}"));
    let (_database, variables) = with(&url("mqtts", "localhost", broker.port()), &ca).await;
    examine(&variables, &[]).await.assert_fault("tls", "without TLS", &format!("mqtt://localhost:{}", broker.port()));
    // MQTT against the port for WebSocket.
    let (_database, variables) = with(&url("mqtts", "localhost", sockets), &ca).await;
    examine(&variables, &[]).await.assert_fault("tls", "WebSocket", &format!("wss://localhost:{sockets}/mqtt"));

    // The authority of another installation.
    let other = installation::empty_export().await;
    made(&other, &["ca"]);
    let wrong = other.join("tls/ca.crt").display().to_string();
    let (_database, variables) = with(&url("mqtts", "localhost", passwords), &[("MQTT_CA_FILE", &wrong)]).await;
    examine(&variables, &[]).await.assert_fault("tls", &wrong, "MQTT_CA_FILE");
    std::fs::remove_dir_all(other).unwrap();

    // A name that the certificate does not have.
    let (_database, variables) = with(&url("mqtts", "127.0.0.1", passwords), &ca).await;
    let report = examine(&variables, &[]).await;
    report.assert_fault("tls", "localhost", "tls.sh DIR broker 127.0.0.1");

    // The port for certificates.
    let (_database, variables) = with(&url("mqtts", "localhost", certificates), &ca).await;
    examine(&variables, &[]).await.assert_fault("tls", "certificate", "MQTT_CLIENT_CERT_FILE");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights() {
    for (rule, name, detail) in [
        ("topic read smarthome/+/+/heartbeat", "heartbeat", "smarthome/+/+/heartbeat, but delivers no message"),
        ("topic write smarthome/+/+/config", "config", "refuses messages to smarthome/+/+/config"),
    ] {
        let broker = Broker::with_rules(&[SERVER], |rules| {
            let line = format!("{rule}\n");
            assert!(rules.contains(&line), "{rules}");
            rules.replace(&line, "")
        })
        .await;
        let (_database, variables) = with(&plain(&broker), &[]).await;
        examine(&variables, &[]).await.assert_fault(name, detail, rule);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_0() {
    let broker = Broker::start_with("allow_anonymous true\nmax_qos 0").await;
    let (_database, variables) = with(&plain(&broker), &[]).await;
    examine(&variables, &[]).await.assert_fault("qos", "QoS 0 only", "max_qos");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_persistence() {
    let broker = Broker::start_with("allow_anonymous true\npersistence false").await;
    let (_database, variables) = with(&plain(&broker), &[]).await;
    let configuration = broker.folder().join("mosquitto.conf");
    let report = examine(&variables, &["--mosquitto-conf", configuration.to_str().unwrap()]).await;
    report.assert_fault("persistence", "restart", "persistence true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_keeps_no_session() {
    let configuration = BrokerConfig::new()
        .with_bind_address(([127, 0, 0, 1], 0))
        .with_auth(AuthConfig::new().with_allow_anonymous(true))
        .with_storage(StorageConfig::new().with_persistence(false));
    let mut broker = MqttBroker::with_config(configuration).await.unwrap();
    let addr = broker.local_addr().unwrap();
    let running = tokio::spawn(async move { broker.run().await });
    let (_database, variables) = with(&format!("mqtt://{addr}"), &[]).await;
    examine(&variables, &[]).await.assert_fault("session", "does not keep a session", "persistent sessions");
    running.abort();
}
