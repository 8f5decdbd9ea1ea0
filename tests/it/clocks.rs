//! The server's clock beside the database's.

use chrono::TimeDelta;
use smarthome::app::compare_clocks;
use smarthome::db::{self, Frozen, PoolMetrics};

use super::support::app::TestApp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_tells_how_far_the_clock_is_ahead_of_the_databases() {
    let app = TestApp::start().await;
    let pool = db::pool(&app.settings().database, Frozen::default(), PoolMetrics::default());
    let metrics = &app.app().services().metrics;
    for seconds in [10, -20] {
        app.clock().advance(TimeDelta::seconds(seconds));
        compare_clocks(&pool, app.clock(), metrics).await.expect("an answer");
        let expected = if seconds > 0 { 10.0 } else { -10.0 };
        let ahead = app.metric("clock_ahead_seconds");
        assert!((ahead - expected).abs() < 2.0, "{ahead} instead of {expected}");
    }
}
