//! What the broker reports about itself, in the metrics and in `serverStatus`.

use serde_json::Value;

use crate::support::app::TestApp;
use crate::support::broker::Broker;
use crate::support::eventually;

const STATUS: &str = "{ serverStatus { mqtt { brokerClientsConnected brokerMessagesReceived brokerMessagesSent \
                      brokerMessagesDropped } } }";

#[tokio::test]
async fn the_figures_of_the_broker_are_in_the_metrics_and_in_the_status() {
    let broker = Broker::start().await;
    let app = TestApp::builder().broker(broker.port()).start().await;
    let user = app.user().await;
    let status = eventually("the broker has reported everything", || async {
        let status = user.query(STATUS, Value::Null).await["serverStatus"]["mqtt"].take();
        let is_complete = status.as_object().expect("an object").values().all(Value::is_i64);
        // Its first report comes before it has counted anything.
        (is_complete && status["brokerMessagesReceived"].as_i64() > Some(0)).then_some(status)
    })
    .await;
    assert!(status["brokerClientsConnected"].as_i64() >= Some(0), "{status}");
    assert_eq!(status["brokerMessagesDropped"], 0);
    assert!(app.metric("broker_messages_received") > 0.0);
    assert_eq!(app.metric("broker_messages_dropped"), 0.0);
}
