//! The fleet against a broker in this process, heard by an ordinary client.

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Fleet, FleetConfig, Pace, Timekeeping, VirtualDevice};
use crate::settings::{BrokerUrl, Transport};

const PATIENCE: Duration = Duration::from_secs(20);

struct Broker {
    url: BrokerUrl,
    _task: AbortOnDropHandle<()>,
}

impl Broker {
    async fn start() -> Self {
        let memory = StorageConfig::new().with_backend(StorageBackend::Memory);
        let config = BrokerConfig::new().with_bind_address(([127, 0, 0, 1], 0)).with_storage(memory);
        let mut broker = MqttBroker::with_config(config).await.unwrap();
        let port = broker.local_addr().unwrap().port();
        let task = tokio::spawn(async move { broker.run().await.unwrap() });
        let url = BrokerUrl { transport: Transport::Tcp, host: "127.0.0.1".into(), port, path: String::new() };
        Self { url, _task: AbortOnDropHandle::new(task) }
    }
}

/// Hears everything under the prefix.
struct Listener {
    client: AsyncClient,
    events: rumqttc::EventLoop,
}

impl Listener {
    async fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("listener", ("127.0.0.1", broker.url.port));
        options.set_outgoing_inflight_upper_limit(100);
        let (client, events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("smarthome/+/+/+", QoS::AtLeastOnce).await.unwrap();
        let mut listener = Self { client, events };
        while !matches!(listener.event().await, Event::Incoming(Incoming::SubAck(_))) {}
        listener
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.poll()).await.expect("an event in time").unwrap()
    }

    /// The next message: kind and payload.
    async fn message(&mut self) -> (String, Value) {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = self.event().await {
                let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                let kind = topic.rsplit('/').next().unwrap().to_owned();
                return (kind, serde_json::from_slice(&publish.payload).unwrap());
            }
        }
    }
}

fn fleet(broker: &Broker, devices: usize) -> FleetConfig {
    let devices = (1..=devices).map(|n| VirtualDevice::new(format!("ESP32_{n:03}"))).collect();
    FleetConfig { numbered: true, pace: Pace::Flood, ..FleetConfig::new(broker.url.clone(), "1", devices) }
}

/// How often each numbered message was heard, until every confirmed one was.
async fn heard(listener: &mut Listener, confirmed: &[u64]) -> BTreeMap<u64, u32> {
    let mut heard = BTreeMap::new();
    while !confirmed.iter().all(|seq| heard.contains_key(seq)) {
        let (kind, payload) = listener.message().await;
        if kind == "telemetry" {
            *heard.entry(payload["sensors"]["seq"].as_u64().unwrap()).or_default() += 1;
        }
    }
    heard
}

#[tokio::test]
async fn every_message_arrives_once_in_the_seeds_shape() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let config = FleetConfig { messages: Some(500), connections: Some(2), ..fleet(&broker, 5) };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();

    let mut telemetry = Vec::new();
    let mut online = BTreeMap::new();
    while telemetry.len() < 500 || online.len() < 5 || online.values().any(|online| *online) {
        let (kind, payload) = listener.message().await;
        match kind.as_str() {
            "telemetry" => telemetry.push(payload),
            "status" => {
                online.insert(payload["deviceId"].to_string(), payload["online"] == true);
            }
            other => panic!("{other}: {payload}"),
        }
    }
    let report = timeout(PATIENCE, fleet.finished()).await.unwrap();
    assert_eq!((report.telemetry, report.confirmed, report.refused, report.resent), (500, 500, 0, 0));
    assert_eq!(fleet.ledger().confirmed(), (0..500).collect::<Vec<_>>());

    let first = telemetry[0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["deviceId", "metadata", "sensors", "timestamp"]);
    assert_eq!(first["sensors"].as_object().unwrap().len(), 13 + 1);
    assert_eq!(first["metadata"].as_object().unwrap().len(), 4);
    first["timestamp"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let mut seqs: Vec<_> = telemetry.iter().map(|payload| payload["sensors"]["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn cut_links_lose_nothing_that_was_confirmed() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let config = FleetConfig {
        messages: Some(2_000),
        pace: Pace::PerSecond(1_000.0),
        faults: "dup=0.1,loss=0.1,reconnect=0.3".parse().unwrap(),
        timekeeping: Timekeeping::None,
        ..fleet(&broker, 4)
    };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();
    let run = async { tokio::join!(fleet.finished(), async { while listener.message().await.0 != "status" {} }) };
    let (report, ()) = timeout(PATIENCE * 2, run).await.unwrap();
    let confirmed = fleet.ledger().confirmed();
    assert!(report.connects > 4 && report.disconnects > 0, "{report}");
    assert!(report.lost > 0 && report.doubled > 0, "{report}");
    assert_eq!(confirmed.len() as u64, report.telemetry - report.lost, "{report}");
    let heard = heard(&mut listener, &confirmed).await;
    assert!(heard.values().any(|times| *times > 1));
}

#[tokio::test]
async fn a_command_and_a_configuration_are_answered_and_a_cut_link_leaves_a_will() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let retained = r#"{"version":7,"config":{"sampleRate":0.05}}"#;
    let config_topic = "smarthome/1/ESP32_001/config";
    listener.client.publish(config_topic, retained, PublishOptions::at_least_once().retained()).await.unwrap();

    let faults = "reconnect=0.5".parse().unwrap();
    let config = FleetConfig { pace: Pace::PerSecond(0.1), faults, ..fleet(&broker, 1) };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();
    let (mut acks, mut telemetry, mut wills, mut asked) = (Vec::new(), 0, 0, false);
    while telemetry < 3 || wills == 0 || acks.len() < 3 {
        let (kind, payload) = listener.message().await;
        match kind.as_str() {
            "status" if payload == json!({"online": false}) => wills += 1,
            "ack" => acks.push(payload),
            "telemetry" if !asked => {
                asked = true;
                let command = r#"{"commandId":"cmd_1","type":"SET_POWER","payload":{"power":false}}"#;
                let topic = "smarthome/1/ESP32_001/commands";
                listener.client.publish(topic, command, PublishOptions::at_least_once()).await.unwrap();
            }
            "telemetry" => telemetry += 1,
            _ => {}
        }
        // A link that was cut before the command came (QoS 1, clean session) never hears of it.
        asked &= wills == 0 || acks.iter().any(|ack| ack["commandId"] == "cmd_1");
    }
    assert!(acks.contains(&json!({"configVersion": 7, "status": "APPLIED"})), "{acks:?}");
    assert!(acks.contains(&json!({"commandId": "cmd_1", "status": "ACKED"})), "{acks:?}");
    fleet.stop();
    timeout(PATIENCE, fleet.finished()).await.unwrap();
}
