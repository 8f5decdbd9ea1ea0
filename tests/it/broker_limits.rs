//! The shipped limits of Mosquitto: one device can't fill the broker's memory.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::broker::Broker;
use crate::support::mqtt::Mqtt;
use crate::support::soon;

/// Bytes of the largest payload that the broker accepts: twice what the server accepts.
const MAX_PAYLOAD: usize = 2 * smarthome::mqtt::payload::MAX_PAYLOAD_BYTES;
/// Bytes that the broker queues for a client in the test: eight of the largest payloads.
const MAX_QUEUED: usize = 8 * MAX_PAYLOAD;
const N_LARGE: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_accepts_nothing_much_larger_than_the_server_does() {
    let broker = Broker::start().await;
    let mut subscriber = Mqtt::connect(broker.port()).await;
    subscriber.subscribe("t").await.unwrap();
    let device = Mqtt::connect(broker.port()).await;
    device.publish("t", vec![b'x'; MAX_PAYLOAD]).await.expect("the largest payload");
    assert_eq!(subscriber.next().await.1.len(), MAX_PAYLOAD);
    for retain in [false, true] {
        let payload = vec![b'x'; MAX_PAYLOAD + 1];
        let sent =
            if retain { device.publish_retained("t", payload).await } else { device.publish("t", payload).await };
        assert!(sent.is_err(), "a larger payload is refused");
    }
    device.publish("t", "small").await.expect("the connection is still open");
    assert_eq!(subscriber.next().await.1, b"small");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_bounded_by_bytes() {
    const SHIPPED: &str = "\nmax_queued_bytes 536870912\n";
    let limits = include_str!("../../docker/mosquitto/conf.d/limits.conf");
    assert!(limits.contains(SHIPPED), "the shipped limit");
    // The same with a limit that a test can reach: the last line counts.
    let broker = Broker::start_with(&format!("allow_anonymous true\nmax_queued_bytes {MAX_QUEUED}")).await;
    let subscriber = |arguments: &[&str]| {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &broker.port().to_string()]);
        command.args(["-c", "-i", "kept", "-q", "1", "-t", "t", "-F", "%l"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    };
    // It exits after its SUBACK; the broker keeps its session.
    assert!(subscriber(&["-E"]).status().await.unwrap().success());
    let device = Mqtt::connect(broker.port()).await;
    for _ in 0..N_LARGE {
        device.publish("t", vec![b'x'; MAX_PAYLOAD]).await.expect("PUBACK");
    }
    let mut child = subscriber(&[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut n_queued = 0;
    loop {
        // Dropped where the queue is still full.
        device.publish("t", "end").await.expect("PUBACK");
        let bytes: usize = soon("a message", lines.next_line()).await.unwrap().unwrap().parse().unwrap();
        if bytes < MAX_PAYLOAD {
            break;
        }
        n_queued += 1;
    }
    assert_eq!(n_queued * MAX_PAYLOAD, MAX_QUEUED);
}
