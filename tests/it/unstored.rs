//! Ingest that cannot store does not stand still in silence: the metrics and `/readyz` report it, and why.

use std::time::Duration;

use serde_json::Value;

use super::support::app::TestApp;
use super::support::http;
use super::support::{eventually, until, within};

/// How long `/readyz` may take to notice: it waits 10 s, and a batch starts a moment later.
const NOTICED: Duration = Duration::from_secs(30);

/// The gauge, in seconds.
fn oldest_unstored(app: &TestApp) -> f64 {
    app.metric("ingest_oldest_unstored_seconds")
}

/// What `/readyz` says of ingest once it says something else than `ok`.
pub(super) async fn unready_ingest(app: &TestApp) -> Value {
    within(NOTICED, "/readyz reports ingest", || async {
        let ready = http::get(app.addr(), "/readyz").await;
        let check = ready.json()["checks"]["ingest"].clone();
        assert!(check.is_string(), "{:?}", ready.json());
        (check != "ok").then(|| {
            assert_eq!(ready.status, 503);
            check
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_stored_shows_in_the_metrics_and_in_readyz() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let is_ready = async || {
        eventually("it is ready", || async {
            let ready = http::get(app.addr(), "/readyz").await;
            (ready.status == 200 && ready.json()["checks"]["ingest"] == "ok").then_some(())
        })
        .await;
    };
    app.publish(&device, "telemetry", r#"{"sensors":{"temperature":20}}"#).await;
    is_ready().await;
    until("everything is stored", || oldest_unstored(&app) == 0.0).await;

    let mut client = app.database().client().await;
    let lock = client.transaction().await.expect("a transaction");
    lock.batch_execute("lock table telemetry in exclusive mode").await.expect("the lock");
    app.publish(&device, "telemetry", r#"{"sensors":{"temperature":21}}"#).await;
    until("the gauge grows", || oldest_unstored(&app) > 1.0).await;
    let reason = unready_ingest(&app).await;
    let reason = reason.as_str().expect("a text");
    assert!(
        reason.starts_with("messages have waited to be stored for 1") && reason.ends_with("holds a lock"),
        "{reason}"
    );
    assert!(oldest_unstored(&app) >= 10.0);
    assert_eq!(http::get(app.addr(), "/livez").await.status, 200);

    lock.rollback().await.expect("unlocked");
    until("it is stored", || oldest_unstored(&app) == 0.0).await;
    is_ready().await;
}
