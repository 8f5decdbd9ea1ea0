//! A simulated fleet with a broker in this process; an ordinary client receives its messages.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what is missing fails the test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::{Value, json};
use smarthome::settings::{BrokerUrl, Transport};
use smarthome::simulator::{Fleet, FleetConfig, SentAnswer, VirtualDevice};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::support::PATIENCE;
use super::support::observed_commands::ObservedCommands;

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

/// Receives every message below the prefix.
struct Subscriber {
    client: AsyncClient,
    events: rumqttc::EventLoop,
    /// Messages that came while we waited for something else.
    early: VecDeque<(String, Value)>,
    /// A test that receives messages all the time must end too.
    deadline: Instant,
}

impl Subscriber {
    async fn connect(broker: &Broker) -> Self {
        let mut options = MqttOptions::new("subscriber", ("127.0.0.1", broker.url.port));
        options.set_outgoing_inflight_upper_limit(100);
        let (client, events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("smarthome/+/+/+", QoS::AtLeastOnce).await.unwrap();
        let mut subscriber = Self { client, events, early: VecDeque::new(), deadline: Instant::now() + PATIENCE * 2 };
        while !matches!(subscriber.event().await, Event::Incoming(Incoming::SubAck(_))) {}
        subscriber
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

    /// Retained.
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
    FleetConfig::new(broker.url.clone(), "1", devices)
}

/// How often each telemetry payload was received, until at least `n` different ones were.
async fn received(subscriber: &mut Subscriber, n: u64) -> BTreeMap<String, u32> {
    let mut received = BTreeMap::new();
    while (received.len() as u64) < n {
        let (kind, payload) = subscriber.message().await;
        if kind == "telemetry" {
            *received.entry(payload.to_string()).or_default() += 1;
        }
    }
    received
}

#[tokio::test]
async fn every_message_arrives_once_in_the_shape_of_the_protocol() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let config = FleetConfig { rate: 250.0, duration: Some(Duration::from_secs(2)), ..fleet(&broker, 5) };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();

    let mut telemetry = Vec::new();
    let mut online = BTreeMap::new();
    while online.len() < 5 || online.values().any(|online| *online) {
        let (kind, payload) = subscriber.message().await;
        match kind.as_str() {
            "telemetry" => telemetry.push(payload),
            "status" => {
                online.insert(payload["deviceId"].to_string(), payload["online"] == true);
            }
            other => panic!("{other}: {payload}"),
        }
    }
    let report = timeout(PATIENCE, fleet.finished()).await.unwrap();
    assert!(report.telemetry > 100, "{report}");
    let n_received = telemetry.len() as u64;
    assert_eq!((report.telemetry, report.confirmed, report.refused, report.resent), (n_received, n_received, 0, 0));

    let first = telemetry[0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["deviceId", "metadata", "sensors", "timestamp"]);
    assert_eq!(first["sensors"].as_object().unwrap().len(), 13);
    assert_eq!(first["metadata"].as_object().unwrap().len(), 4);
    first["timestamp"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
}

#[tokio::test]
async fn broken_connections_lose_no_confirmed_message() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let config = FleetConfig {
        rate: 500.0,
        duration: Some(Duration::from_secs(4)),
        faults: "dup=0.1,loss=0.1,reconnect=0.3".parse().unwrap(),
        ..fleet(&broker, 4)
    };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();
    let run = async { tokio::join!(fleet.finished(), async { while subscriber.message().await.0 != "status" {} }) };
    let (report, ()) = timeout(PATIENCE * 2, run).await.unwrap();
    assert!(report.connects > 4 && report.disconnects > 0, "{report}");
    assert!(report.lost > 0 && report.duplicated > 0 && report.confirmed > 0, "{report}");
    let received = received(&mut subscriber, report.confirmed).await;
    assert!(received.values().any(|times| *times > 1));
}

#[tokio::test]
async fn commands_and_configurations_are_answered_and_a_broken_connection_sends_the_last_will() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let retained = r#"{"version":7,"config":{"sampleRate":0.05}}"#;
    let config_topic = "smarthome/1/ESP32_001/config";
    subscriber.client.publish(config_topic, retained, PublishOptions::at_least_once().retained()).await.unwrap();

    let faults = "reconnect=0.5".parse().unwrap();
    let config = FleetConfig { rate: 0.1, faults, ..fleet(&broker, 1) };
    let fleet = Fleet::start(config, &CancellationToken::new()).unwrap();
    let (mut acks, mut telemetry, mut wills, mut asked) = (Vec::new(), 0, 0, false);
    while telemetry < 3 || wills == 0 || acks.len() < 3 {
        let (kind, payload) = subscriber.message().await;
        match kind.as_str() {
            "status" if payload == json!({"online": false}) => wills += 1,
            "ack" => acks.push(payload),
            "telemetry" if !asked => {
                asked = true;
                let command = r#"{"commandId":"cmd_1","type":"SET_POWER","payload":{"power":false}}"#;
                let topic = "smarthome/1/ESP32_001/commands";
                subscriber.client.publish(topic, command, PublishOptions::at_least_once()).await.unwrap();
            }
            "telemetry" => telemetry += 1,
            _ => {}
        }
        // A device whose connection broke before the command arrived (clean session) never receives it.
        asked &= wills == 0 || acks.iter().any(|ack| ack["commandId"] == "cmd_1");
    }
    assert!(acks.contains(&json!({"configVersion": 7, "status": "APPLIED"})), "{acks:?}");
    assert!(acks.contains(&json!({"commandId": "cmd_1", "status": "ACKED"})), "{acks:?}");
    fleet.stop();
    timeout(PATIENCE, fleet.finished()).await.unwrap();
}

/// Readings often enough that a subscriber always receives a message soon.
const FREQUENT: f64 = 20.0;

/// A fleet of one subscribed device that answers like this.
async fn answering(broker: &Broker, subscriber: &mut Subscriber, answers: &str) -> (Fleet, ObservedCommands) {
    let answers = answers.parse().unwrap();
    let config = FleetConfig { rate: FREQUENT, answers, ..fleet(broker, 1) };
    subscriber.config(1).await;
    started(config, subscriber).await
}

/// Starts a fleet and waits until it is subscribed: the retained configuration arrives with the subscription, and
/// commands from then on.
async fn started(config: FleetConfig, subscriber: &mut Subscriber) -> (Fleet, ObservedCommands) {
    let observed = ObservedCommands::default();
    let fleet = Fleet::start_with(config, &CancellationToken::new(), Some(observed.listener())).unwrap();
    while fleet.report().configs == 0 {
        subscriber.message().await;
    }
    (fleet, observed)
}

#[tokio::test]
async fn a_delayed_answer_blocks_no_other_and_every_answer_is_observed() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let (fleet, observed) = answering(&broker, &mut subscriber, "delay=0.3,dup=1").await;
    subscriber.command(&json!({"commandId": "a", "type": "SET_POWER", "payload": {"power": false}})).await;
    subscriber.command(&json!({"commandId": "b", "type": "X", "expiresAt": "2020-01-01T00:00:00Z"})).await;
    subscriber.command(&json!("not a command")).await;

    let mut acks = Vec::new();
    while acks.len() < 6 {
        let (kind, payload) = subscriber.message().await;
        if kind == "ack" && payload["commandId"].is_string() {
            acks.push((payload["commandId"].as_str().unwrap().to_owned(), payload["status"].clone()));
        }
    }
    let of = |id: &str| acks.iter().filter(|(of, _)| of == id).map(|(_, status)| status.clone()).collect::<Vec<_>>();
    assert_eq!(of("a"), ["ACKED", "SUCCEEDED", "SUCCEEDED"]);
    assert_eq!(of("b"), ["ACKED", "FAILED", "FAILED"]);
    assert!(acks[..2].iter().all(|(_, status)| status == "ACKED"), "{acks:?}");

    let commands = observed.of(0);
    let observed: Vec<_> = commands.iter().map(|it| (it.received.command_id.as_str(), it.answers.as_slice())).collect();
    let good = [SentAnswer::Acked, SentAnswer::Succeeded, SentAnswer::Succeeded];
    let bad = [SentAnswer::Acked, SentAnswer::Failed, SentAnswer::Failed];
    assert_eq!(observed, [("a", good.as_slice()), ("b", bad.as_slice())]);
    let report = fleet.report();
    assert_eq!((report.commands, report.command_ids, report.late, report.unreadable), (3, 2, 1, 1), "{report}");
}

#[tokio::test]
async fn firmware_without_answers_shows_the_values_that_were_set() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let (_fleet, observed) = answering(&broker, &mut subscriber, "effect").await;
    subscriber
        .command(&json!({"commandId": "a", "type": "SET_POWER", "payload": {"power": true, "brightness": 7}}))
        .await;
    loop {
        let (kind, payload) = subscriber.message().await;
        assert_ne!(kind, "ack", "{payload}");
        if kind == "status" && payload["status"]["power"] == true {
            assert_eq!((&payload["status"]["brightness"], &payload["online"]), (&json!(7), &json!(true)));
            break;
        }
    }
    assert_eq!(observed.all()[0].answers, [SentAnswer::Effect]);
}

/// The outputs in the next status that was not sent for another reason, after the answer to a command.
async fn outputs(subscriber: &mut Subscriber, command_id: &str) -> Value {
    let mut is_answered = false;
    loop {
        let (kind, payload) = subscriber.message().await;
        match kind.as_str() {
            "ack" if payload["commandId"] == command_id => is_answered = payload["status"] == "SUCCEEDED",
            "status" if is_answered => {
                assert_eq!(payload["online"], true);
                return json!([payload["status"]["power"], payload["status"]["brightness"]]);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_switched_device_reports_its_outputs_after_the_answer() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    subscriber.config(1).await;
    let _fleet = started(FleetConfig { rate: FREQUENT, ..fleet(&broker, 1) }, &mut subscriber).await;
    let set = |id: &str, power: bool, brightness: u32| json!({"commandId": id, "type": "SET_POWER", "payload": {"power": power, "brightness": brightness}});
    let off = set("a", false, 40);
    subscriber.command(&off).await;
    assert_eq!(outputs(&mut subscriber, "a").await, json!([false, 40]));
    // A repeat and a command without outputs change nothing, so no status is sent until the next change.
    subscriber.command(&off).await;
    subscriber.command(&json!({"commandId": "b", "type": "BLINK"})).await;
    subscriber.command(&set("c", true, 40)).await;
    assert_eq!(outputs(&mut subscriber, "a").await, json!([true, 40]));
    // After a restart only the load is on.
    subscriber.command(&set("d", false, 40)).await;
    assert_eq!(outputs(&mut subscriber, "d").await, json!([false, 40]));
    subscriber.command(&json!({"commandId": "e", "type": "RESET"})).await;
    assert_eq!(outputs(&mut subscriber, "e").await, json!([true, null]));
}

#[tokio::test]
async fn refusals_and_missing_answers_are_counted() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    let (fleet, _) = answering(&broker, &mut subscriber, "fail=1,reject=1,no-ack=1").await;
    subscriber.command(&json!({"commandId": "a", "type": "RESET"})).await;
    let (mut acks, expected) = (BTreeSet::new(), BTreeSet::from(["FAILED".to_owned(), "REJECTED".to_owned()]));
    subscriber.config(2).await;
    while acks != expected {
        let (kind, payload) = subscriber.message().await;
        acks.extend((kind == "ack").then(|| payload["status"].as_str().unwrap().to_owned()));
    }
    fleet.stop();
    fleet.finished().await;

    let (fleet, observed) = answering(&broker, &mut subscriber, "silence=1").await;
    subscriber.command(&json!({"commandId": "a", "type": "RESET"})).await;
    while fleet.report().commands == 0 {
        subscriber.message().await;
    }
    assert_eq!((fleet.report().answers, observed.of(0)[0].answers.len()), (0, 0));
}

#[tokio::test]
async fn a_persistent_session_delivers_commands_sent_meanwhile_and_a_clean_one_does_not() {
    let broker = Broker::start().await;
    let mut subscriber = Subscriber::connect(&broker).await;
    subscriber.config(1).await;
    for (session_expiry, expected) in [(Some(Duration::from_secs(60)), 1), (None, 0)] {
        let config = FleetConfig { rate: FREQUENT, session_expiry, ..fleet(&broker, 1) };
        let (before, _) = started(config.clone(), &mut subscriber).await;
        before.stop();
        before.finished().await;
        subscriber.command(&json!({"commandId": "meanwhile", "type": "X"})).await;

        let (after, observed) = started(config, &mut subscriber).await;
        subscriber.command(&json!({"commandId": "last", "type": "X"})).await;
        let of = |id: &str| observed.of(0).iter().filter(|it| it.received.command_id == id).count();
        while of("last") == 0 {
            subscriber.message().await;
        }
        assert_eq!(of("meanwhile"), expected, "{session_expiry:?}");
        after.stop();
        after.finished().await;
    }
}
