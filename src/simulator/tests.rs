//! The fleet against a broker in this process, heard by an ordinary client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Fleet, FleetConfig, Pace, Said, Timekeeping, VirtualDevice};
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
    /// Messages that came while we waited for something else.
    early: VecDeque<(String, Value)>,
    /// Until when it listens: also a test that hears something all the time must end.
    deadline: Instant,
}

impl Listener {
    async fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("listener", ("127.0.0.1", broker.url.port));
        options.set_outgoing_inflight_upper_limit(100);
        let (client, events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("smarthome/+/+/+", QoS::AtLeastOnce).await.unwrap();
        let mut listener = Self { client, events, early: VecDeque::new(), deadline: Instant::now() + PATIENCE * 2 };
        while !matches!(listener.event().await, Event::Incoming(Incoming::SubAck(_))) {}
        listener
    }

    async fn event(&mut self) -> Event {
        timeout_at(self.deadline, self.events.poll()).await.expect("an event in time").unwrap()
    }

    /// The next message: kind and payload.
    async fn message(&mut self) -> (String, Value) {
        loop {
            if let Some(message) = self.early.pop_front() {
                return message;
            }
            let event = self.event().await;
            self.early.extend(message(&event));
        }
    }

    /// Publishes to the first device and waits until the broker has it.
    async fn send(&mut self, kind: &str, payload: &Value, options: PublishOptions) {
        let topic = format!("smarthome/1/ESP32_001/{kind}");
        self.client.publish(topic, payload.to_string(), options).await.unwrap();
        loop {
            let event = self.event().await;
            self.early.extend(message(&event));
            if matches!(event, Event::Incoming(Incoming::PubAck(_))) {
                return;
            }
        }
    }

    async fn command(&mut self, command: &Value) {
        self.send("commands", command, PublishOptions::at_least_once()).await;
    }

    /// Kept by the broker.
    async fn config(&mut self, version: u32) {
        let config = json!({"version": version, "config": {"powerSaving": true}});
        self.send("config", &config, PublishOptions::at_least_once().retained()).await;
    }
}

fn message(event: &Event) -> Option<(String, Value)> {
    let Event::Incoming(Incoming::Publish(publish)) = event else { return None };
    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
    let kind = topic.rsplit('/').next().unwrap().to_owned();
    Some((kind, serde_json::from_slice(&publish.payload).unwrap()))
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

/// Readings often enough that a listener always hears something soon.
const TICKING: Pace = Pace::PerSecond(20.0);

/// A fleet of one device that answers like this and hears what is sent to it.
async fn answering(broker: &Broker, listener: &mut Listener, answers: &str) -> Fleet {
    let answers = answers.parse().unwrap();
    let config = FleetConfig { pace: TICKING, answers, ..fleet(broker, 1) };
    listener.config(1).await;
    started(config, listener).await
}

/// Starts it and waits until it hears what is sent to it: the kept configuration comes with the
/// subscription, and commands from then on.
async fn started(config: FleetConfig, listener: &mut Listener) -> Fleet {
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();
    while fleet.report().configs == 0 {
        listener.message().await;
    }
    fleet
}

#[tokio::test]
async fn a_slow_answer_holds_up_nobody_and_the_receipts_say_what_was_said() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let fleet = answering(&broker, &mut listener, "delay=0.3,dup=1").await;
    listener.command(&json!({"commandId": "a", "type": "SET_POWER", "payload": {"power": false}})).await;
    listener.command(&json!({"commandId": "b", "type": "X", "expiresAt": "2020-01-01T00:00:00Z"})).await;
    listener.command(&json!("not a command")).await;

    let mut acks = Vec::new();
    while acks.len() < 6 {
        let (kind, payload) = listener.message().await;
        if kind == "ack" && payload["commandId"].is_string() {
            acks.push((payload["commandId"].as_str().unwrap().to_owned(), payload["status"].clone()));
        }
    }
    let of = |id: &str| acks.iter().filter(|(of, _)| of == id).map(|(_, status)| status.clone()).collect::<Vec<_>>();
    assert_eq!(of("a"), ["ACKED", "SUCCEEDED", "SUCCEEDED"]);
    assert_eq!(of("b"), ["ACKED", "FAILED", "FAILED"]);
    assert!(acks[..2].iter().all(|(_, status)| status == "ACKED"), "{acks:?}");

    let receipts = fleet.receipts().of(0);
    let told: Vec<_> = receipts.iter().map(|r| (r.command_id.as_str(), r.is_late(), r.said.as_slice())).collect();
    let (good, bad) = ([Said::Acked, Said::Succeeded, Said::Succeeded], [Said::Acked, Said::Failed, Said::Failed]);
    assert_eq!(told, [("a", false, good.as_slice()), ("b", true, bad.as_slice())]);
    let report = fleet.report();
    assert_eq!((report.commands, report.command_ids, report.late, report.unreadable), (3, 2, 1, 1), "{report}");
}

#[tokio::test]
async fn silent_firmware_shows_what_it_was_set_to() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let fleet = answering(&broker, &mut listener, "effect").await;
    listener
        .command(&json!({"commandId": "a", "type": "SET_POWER", "payload": {"power": true, "brightness": 7}}))
        .await;
    loop {
        let (kind, payload) = listener.message().await;
        assert_ne!(kind, "ack", "{payload}");
        if kind == "status" && payload["status"]["power"] == true {
            assert_eq!((&payload["status"]["brightness"], &payload["online"]), (&json!(7), &json!(true)));
            break;
        }
    }
    assert_eq!(fleet.receipts().all()[0].1.said, [Said::Shown]);
}

#[tokio::test]
async fn refusals_and_silence_are_counted_as_what_they_are() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    let fleet = answering(&broker, &mut listener, "fail=1,reject=1,no-ack=1").await;
    listener.command(&json!({"commandId": "a", "type": "RESET"})).await;
    let (mut acks, expected) = (BTreeSet::new(), BTreeSet::from(["FAILED".to_owned(), "REJECTED".to_owned()]));
    listener.config(2).await;
    while acks != expected {
        let (kind, payload) = listener.message().await;
        acks.extend((kind == "ack").then(|| payload["status"].as_str().unwrap().to_owned()));
    }
    fleet.stop();
    fleet.finished().await;

    let fleet = answering(&broker, &mut listener, "silence=1").await;
    listener.command(&json!({"commandId": "a", "type": "RESET"})).await;
    while fleet.report().commands == 0 {
        listener.message().await;
    }
    assert_eq!((fleet.report().answers, fleet.receipts().of(0)[0].said.len()), (0, 0));
}

#[tokio::test]
async fn a_kept_session_brings_what_came_meanwhile_and_a_clean_one_does_not() {
    let broker = Broker::start().await;
    let mut listener = Listener::connect(&broker).await;
    listener.config(1).await;
    for (session_expiry, expected) in [(Some(Duration::from_secs(60)), 1), (None, 0)] {
        let config = FleetConfig { pace: TICKING, session_expiry, ..fleet(&broker, 1) };
        let before = started(config.clone(), &mut listener).await;
        before.stop();
        before.finished().await;
        listener.command(&json!({"commandId": "meanwhile", "type": "X"})).await;

        let after = started(config, &mut listener).await;
        listener.command(&json!({"commandId": "last", "type": "X"})).await;
        let of = |id: &str| after.receipts().of(0).iter().filter(|receipt| receipt.command_id == id).count();
        while of("last") == 0 {
            listener.message().await;
        }
        assert_eq!(of("meanwhile"), expected, "{session_expiry:?}");
        after.stop();
        after.finished().await;
    }
}
