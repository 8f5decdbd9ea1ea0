//! What the firmware of real devices sends: numbers that are none, the rest of a buffer, very many fields, and times in
//! the forms of C and of printed doubles. One bad value never costs the others.

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::eventually;
use super::support::user::{Device, User};

const DEVICE: &str = "query($d: ID!) { device(id: $d) { online firmwareVersion
    latestTelemetry { recordedAt timeSource sensors { temperature humidity } } } }";
const REJECTED: &str =
    "query($home: ID!) { rejectedMessages(homeId: $home, first: 100) { nodes { topic reason payloadPreview } } }";

/// 70 more fields of an object, before others: only 64 fields are read.
fn many_fields() -> String {
    (0..70).map(|n| format!(r#""k{n}":{n},"#)).collect()
}

/// Publishes telemetry, waits for the reading, and returns it.
async fn reading(app: &TestApp, owner: &User, device: &Device, payload: &[u8]) -> Value {
    app.publish(device, "telemetry", payload).await;
    let text = String::from_utf8_lossy(payload).chars().take(60).collect::<String>();
    eventually(&format!("it is stored: {text}"), async || {
        let mut data = owner.query(DEVICE, json!({"d": device.id})).await;
        let latest = data["device"]["latestTelemetry"].take();
        (!latest.is_null()).then_some(latest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_survive_the_habits_of_firmware() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let many = many_fields();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nan", br#"{"sensors":{"temperature":nan,"humidity":41}}"#.to_vec()),
        ("minus-infinity", br#"{"sensors":{"humidity":41,"temperature": -Infinity }}"#.to_vec()),
        ("nul", b"{\"sensors\":{\"humidity\":41}}\0".to_vec()),
        ("padding", b"{\"sensors\":{\"humidity\":41}}\0\0\0".to_vec()),
        ("many-sensors", format!(r#"{{"sensors":{{{many}"humidity":41}}}}"#).into_bytes()),
        ("many-fields", format!(r#"{{{many}"sensors":{{"humidity":41}}}}"#).into_bytes()),
    ];
    for (key, payload) in cases {
        let device = app.device(&owner, &home, key).await;
        let reading = reading(&app, &owner, &device, &payload).await;
        assert_eq!(reading["sensors"], json!({"temperature": null, "humidity": 41.0}), "{key}");
    }
    assert_eq!(app.metric("readings_dropped_total"), 14.0, "values that were cut are counted");

    let probe = app.device(&owner, &home, "strict").await;
    for payload in ["{\"sensors\":{\"temperature\":1\0}}", r#"{"sensors":{"temperature":nano}}"#, "nan"] {
        app.publish(&probe, "telemetry", payload).await;
    }
    eventually("JSON stays strict otherwise", async || {
        let data = owner.query(REJECTED, json!({"home": home.id})).await;
        let nodes = data["rejectedMessages"]["nodes"].as_array().expect("a list").clone();
        (nodes.len() == 3 && nodes.iter().all(|node| node["reason"] == "BAD_JSON")).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_firmware_are_read() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let now = app.clock().now();
    let seconds = now.timestamp();
    let offset = |minutes: i64, format: &str| {
        (now + chrono::TimeDelta::minutes(minutes)).format(&format!("\"%Y-%m-%dT%H:%M:%S{format}\"")).to_string()
    };
    let mantissa = |value: i64, exponent: usize| {
        let digits = value.to_string();
        format!("{}.{}e{exponent}", &digits[..1], &digits[1..])
    };
    let cases = [
        ("exponent", mantissa(seconds, 9)),
        ("milliseconds", mantissa(seconds * 1000, 12)),
        ("berlin", offset(60, "+0100")),
        ("delhi", offset(330, "+0530")),
        ("hours", offset(0, "+00")),
    ];
    let many = many_fields();
    for (key, timestamp) in cases {
        let device = app.device(&owner, &home, key).await;
        let payload = format!(r#"{{{many}"timestamp":{timestamp},"sensors":{{"humidity":41}}}}"#);
        let reading = reading(&app, &owner, &device, payload.as_bytes()).await;
        assert_eq!(reading["timeSource"], "DEVICE", "{key}: {timestamp}");
        let recorded = reading["recordedAt"].as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>();
        assert_eq!(recorded.expect("a time").timestamp(), seconds, "{key}: {timestamp}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_with_many_fields_or_padding_counts() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let many = many_fields();
    let device = app.device(&owner, &home, "board").await;
    let is = async |online: bool, version: Option<&str>| {
        eventually(&format!("online is {online}"), async || {
            let data = owner.query(DEVICE, json!({"d": device.id})).await;
            let is_version = version.is_none_or(|version| data["device"]["firmwareVersion"] == version);
            (data["device"]["online"] == online && is_version).then_some(())
        })
        .await;
    };
    app.publish(&device, "status", b"{\"online\":true}\0").await;
    is(true, None).await;
    app.publish(&device, "status", format!(r#"{{{many}"online":false}}"#)).await;
    is(false, None).await;
    app.publish(&device, "telemetry", format!(r#"{{"sensors":{{}},"metadata":{{{many}"firmwareVersion":"v7"}}}}"#))
        .await;
    is(true, Some("v7")).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_name_the_version_as_the_configuration_does() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "board").await;
    let push = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 30}}) { version } }";
    owner.query(push, json!({"d": device.id})).await;
    app.publish(&device, "ack", r#"{"version":1,"status":"APPLIED","errors":null}"#).await;
    eventually("the version is applied", async || {
        let query = "query($d: ID!) { device(id: $d) { config { status } } }";
        let data = owner.query(query, json!({"d": device.id})).await;
        (data["device"]["config"]["status"] == "APPLIED").then_some(())
    })
    .await;
    app.stop().await;
}
