//! A row of an answer is one reading, also while readings arrive and two fragments select it.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::app::TestApp;

/// Queries that are sent while readings arrive.
const QUERIES: usize = 100;
/// The values of a reading that fragment A selects, and their negatives, which fragment B selects.
const FRAGMENTS: &str = "fragment A on Telemetry { id sensors { temperature } extra } \
                         fragment B on Telemetry { again: id sensors { humidity } signalStrength }";
const QUERY: &str = "query($d: ID!) { device(id: $d) { ...Page ...Latest telemetry(first: 20) { nodes { ...B } } \
                     latestTelemetry { ...B } } device(id: $d) { latestTelemetry { ...A } } } \
                     fragment Page on Device { telemetry(first: 20) { nodes { ...A } } } \
                     fragment Latest on Device { latestTelemetry { ...A ...B } }";
const SUBSCRIPTION: &str = "subscription($d: ID!) { ...S ...S telemetry(deviceId: $d) { ...B device { \
                            latestTelemetry { ...A ...B } } } } \
                            fragment S on Subscription { telemetry(deviceId: $d) { ...A } }";

fn assert_whole(row: &Value) {
    let number = row["sensors"]["temperature"].as_f64().expect("a temperature");
    assert_eq!(row["sensors"]["humidity"].as_f64(), Some(number), "{row}");
    assert_eq!(row["signalStrength"].as_f64(), Some(-number), "{row}");
    assert_eq!(row["extra"]["n"].as_f64(), Some(number), "{row}");
    assert_eq!(row["id"], row["again"], "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_one_reading_while_readings_arrive() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "node").await;
    let variables = json!({"d": device.id});
    let mut events = owner.subscribe(&format!("{SUBSCRIPTION} {FRAGMENTS}"), variables.clone()).await;
    let done = AtomicBool::new(false);
    let publish = async {
        for n in (0..100).cycle() {
            let payload = json!({
                "sensors": {"temperature": n, "humidity": n, "n": n},
                "metadata": {"signalStrength": -n},
            });
            app.publish(&device, "telemetry", payload.to_string()).await;
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    let query = async {
        let mut seen = 0;
        let document = format!("{QUERY} {FRAGMENTS}");
        while seen < QUERIES {
            let data = owner.query(&document, variables.clone()).await;
            let nodes = data["device"]["telemetry"]["nodes"].as_array().expect("a page");
            nodes.iter().for_each(assert_whole);
            if !nodes.is_empty() {
                assert_whole(&data["device"]["latestTelemetry"]);
                seen += 1;
            }
        }
        for _ in 0..20 {
            let event = events.next().await;
            assert_whole(&event["telemetry"]);
            assert_whole(&event["telemetry"]["device"]["latestTelemetry"]);
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(publish, query);
}
