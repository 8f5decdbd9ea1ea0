//! Every series is there from the start, with zero: of one that begins later Prometheus misses the first event.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::app::TestApp;
use crate::support::until;

/// The series of an exposition, without their values.
pub(super) fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[tokio::test]
async fn every_family_has_series_from_the_start_and_none_is_added_by_use() {
    let app = TestApp::start().await;
    let metrics = &app.app().services().metrics;
    let text = metrics.render_plain();
    let before = series(&text);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().expect("a name");
        assert!(before.iter().any(|series| series.starts_with(name)), "{name} has no series");
    }

    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "sensor").await;
    let query = "subscription ($home: ID!) { telemetry(homeId: $home) { id } }";
    let mut events = owner.subscribe(query, json!({"home": home.id})).await;
    until("the subscription runs", || app.metric("subscriptions") == 1.0).await;
    app.publish(&device, "telemetry", r#"{"sensors": {"temperature": 21}}"#).await;
    app.publish(&device, "telemetry", "no JSON").await;
    events.next().await;
    until("the message is rejected", || app.metric("mqtt_messages_stored_total") == 1.0).await;
    until("the other one is rejected", || metrics.mqtt_rejected_total.get() == 1).await;
    let after = series(&metrics.render_plain());
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "series that began late: {added:?}");
}
