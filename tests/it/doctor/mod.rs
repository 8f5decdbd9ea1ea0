//! `smarthome doctor`: all is well with a right installation, and each fault is named with its cure.

mod broken_broker;
mod broken_host;
mod mail;
mod rude_broker;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::app::{Database, JWT_SECRET};
use crate::support::broker::Broker;
use crate::support::installation::{self, ADMIN, PREFIX, SERVER};
use crate::support::{http, soon};

/// What the doctor has found.
#[derive(Debug)]
struct Report {
    checks: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        let found = self.checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {:#?}", self.checks))
    }

    /// What all checks of this name have found.
    fn details(&self, name: &str) -> Vec<&str> {
        let found = self.checks.iter().filter(|check| check["name"] == name);
        found.map(|check| check["detail"].as_str().expect("a text")).collect()
    }

    /// The names of the checks that found a fault, without the space on the disks of this machine's services: a test
    /// must not fail because the disk it runs on is nearly full.
    fn faults(&self) -> Vec<&str> {
        let faults = self.checks.iter().filter(|check| is_fault(check) && !is_of_this_machine(check));
        faults.map(|check| check["name"].as_str().expect("a name")).collect()
    }

    /// There is one fault, with these words in what was found and in the cure.
    #[track_caller]
    fn assert_fault(&self, name: &str, detail: &str, cure: &str) {
        assert_eq!(self.faults(), [name], "{:#?}", self.checks);
        let check = self.check(name);
        assert!(check["detail"].as_str().is_some_and(|text| text.contains(detail)), "{check:#}");
        assert!(check["cure"].as_str().is_some_and(|text| text.contains(cure)), "{check:#}");
    }

    #[track_caller]
    fn assert_well(&self) {
        assert!(self.faults().is_empty(), "{:#?}", self.checks);
    }

    /// Nothing at all has a fault, not even the disk.
    fn is_well(&self) -> bool {
        !self.checks.iter().any(is_fault)
    }
}

fn is_fault(check: &Value) -> bool {
    check["status"] == "fault"
}

/// The space on a disk on which PostgreSQL or Mosquitto stores its data, not on that of a folder that was named.
fn is_of_this_machine(check: &Value) -> bool {
    let detail = check["detail"].as_str().expect("a text");
    check["name"] == "disk" && ["PostgreSQL", "Mosquitto"].iter().any(|service| detail.contains(service))
}

/// The variables of a server with an account.
fn variables(database_url: &str, broker_url: &str) -> HashMap<String, String> {
    let pairs = [
        ("DATABASE_URL", database_url),
        ("JWT_SECRET", JWT_SECRET),
        ("MQTT_BROKER_URL", broker_url),
        ("MQTT_TOPIC_PREFIX", PREFIX),
        ("MQTT_CLIENT_ID", "doctored"),
        ("MQTT_USERNAME", SERVER.0),
        ("MQTT_PASSWORD", SERVER.1),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

async fn migrated() -> Database {
    let database = Database::create().await;
    installation::smarthome(&["migrate"], &database.url());
    database
}

async fn examine(variables: &HashMap<String, String>, arguments: &[&str]) -> Report {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_smarthome"));
    command.args(["doctor", "--json"]).args(arguments).env_clear().envs(variables).kill_on_drop(true);
    report(&mut command).await
}

async fn report(command: &mut tokio::process::Command) -> Report {
    let output = soon("smarthome doctor", command.output()).await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error} in {text}{}", String::from_utf8_lossy(&output.stderr)));
    let report = Report { checks: json["checks"].as_array().expect("checks").clone() };
    assert_eq!(json["well"], report.is_well());
    assert_eq!(output.status.code(), Some(i32::from(!report.is_well())));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_with_a_right_installation_and_its_server_notices_nothing() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let app = installation::server(&broker).set("MQTT_PROVISIONING", "none").start().await;
    http::until_ready(app.addr()).await;
    let metrics = app.app().services().metrics.clone();
    let figures = || {
        let [received, errors] = [&metrics.mqtt_received, &metrics.mqtt_connection_errors].map(|counter| counter.get());
        (received, errors, metrics.mqtt_sessions_lost.get(), metrics.mqtt_connected.get())
    };
    let before = figures();
    let mut variables = variables(&app.database().url(), &format!("mqtt://127.0.0.1:{}", broker.port()));
    variables.insert("MQTT_CLIENT_ID".to_owned(), app.settings().mqtt.client_id.clone());
    let configuration = broker.folder().join("mosquitto.conf");
    let arguments = ["--mosquitto-conf", configuration.to_str().unwrap()];
    let started = Instant::now();
    let report = examine(&variables, &arguments).await;
    let took = started.elapsed();
    report.assert_well();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let names: Vec<_> = report.checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "settings",
        "broker",
        "credentials",
        "tls",
        "telemetry",
        "status",
        "heartbeat",
        "ack",
        "commands",
        "config",
        "qos",
        "roundTrip",
        "load",
        "session",
        "persistence",
        "database",
        "migrations",
        "clock",
    ];
    assert_eq!(names[..expected.len()], expected);
    for name in expected {
        assert_eq!(report.check(name)["status"], "ok", "{:#}", report.check(name));
    }
    let round_trip = report.check("roundTrip")["detail"].as_str().unwrap();
    assert!(round_trip.contains("p50") && round_trip.contains("p99") && round_trip.contains("100 messages"));
    assert!(report.check("load")["detail"].as_str().unwrap().contains("clients/connected"));

    // Readable without --json, too.
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_smarthome"));
    let output = command.args(["doctor"]).args(arguments).env_clear().envs(&variables).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("roundTrip"), "{text}");
    assert_eq!(output.status.success(), report.is_well(), "{text}");
    assert_eq!(text.contains("\nall is well\n"), report.is_well(), "{text}");

    assert_eq!(figures(), before, "the server has noticed the doctor");
    let rejected = "select count(*) from rejected_messages";
    let n: i64 = app.database().client().await.query_one(rejected, &[]).await.unwrap().get(0);
    assert_eq!(n, 0);
    assert!(http::is_ready(app.addr()).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well_with_dynamic_security_and_a_shared_subscription() {
    let (broker, app) = installation::start().await;
    http::until_ready(app.addr()).await;
    let mut variables = variables(&app.database().url(), &format!("mqtt://127.0.0.1:{}", broker.port()));
    variables.insert("MQTT_SHARED_GROUP".to_owned(), "g".to_owned());
    let report = examine(&variables, &[]).await;
    report.assert_well();
    for name in ["heartbeat", "commands", "shared", "roundTrip", "session"] {
        assert_eq!(report.check(name)["status"], "ok", "{:#}", report.check(name));
    }
    for (name, value) in
        [("MQTT_PROVISIONING", "dynsec"), ("MQTT_DYNSEC_USERNAME", ADMIN.0), ("MQTT_DYNSEC_PASSWORD", ADMIN.1)]
    {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let report = examine(&variables, &[]).await;
    report.assert_well();
    assert_eq!(report.check("provisioning")["status"], "ok");
    variables.insert("MQTT_DYNSEC_PASSWORD".to_owned(), "another password of the right length".to_owned());
    examine(&variables, &[]).await.assert_fault("provisioning", ADMIN.0, "MQTT_DYNSEC_PASSWORD");
    // The server's account is no administrator of the plugin.
    for (name, value) in [("MQTT_DYNSEC_USERNAME", SERVER.0), ("MQTT_DYNSEC_PASSWORD", SERVER.1)] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    examine(&variables, &[]).await.assert_fault("provisioning", "administrator", "dynamic-security.json");
    app.stop().await;
}

fn without_doctor(rules: &str) -> String {
    rules.lines().filter(|line| !line.contains("/_doctor/")).map(|line| format!("{line}\n")).collect()
}

/// The rules of an older installation say nothing of the doctor.
#[tokio::test(flavor = "multi_thread")]
async fn rules_without_the_doctors_topics_are_no_fault() {
    let database = migrated().await;
    let broker = Broker::with_rules(&[SERVER], without_doctor).await;
    let report = examine(&variables(&database.url(), &format!("mqtt://127.0.0.1:{}", broker.port())), &[]).await;
    report.assert_well();
    assert_eq!(report.check("heartbeat")["status"], "note");
    assert!(report.check("heartbeat")["cure"].as_str().unwrap().contains("smarthome/_doctor/+/heartbeat"));
    assert_eq!(report.check("roundTrip")["status"], "notChecked");
}
