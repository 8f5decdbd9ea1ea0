//! The outbox of configurations, step by step against the database: which rows are due, what a message contains, what
//! a confirmation changes, and that the broker retains nothing of deleted devices and former topics.

mod transitions;

use serde_json::{Value, json};
use smarthome::db;
use smarthome::device_config::{ConfigKey, ConfigOutbox, KeyRing};
use smarthome::downlink::{DownlinkKind, OutboxMessage, PublishOutcome, PublishReport};
use smarthome::ids::{DeviceId, HomeId};
use smarthome::outbox::{Outbox, Recovery};
use smarthome::settings::EncryptionSettings;

use super::device_config::{connection, push};
use super::{Graph, Person, number};

struct Sender<'a> {
    graph: &'a Graph,
    outbox: ConfigOutbox,
    conn: db::Connection,
}

impl<'a> Sender<'a> {
    async fn new(graph: &'a Graph) -> Self {
        Self::with(graph, graph.key_ring.clone()).await
    }

    async fn with(graph: &'a Graph, key_ring: Option<KeyRing>) -> Self {
        let metrics = graph.services.metrics.clone();
        let outbox = ConfigOutbox::new(graph.config_hub.clone(), key_ring, metrics);
        Self { graph, outbox, conn: connection(graph).await }
    }

    async fn find_due(&mut self) -> Vec<DeviceId> {
        self.next_turns(&[], 100).await
    }

    async fn next_turns(&mut self, busy: &[DeviceId], limit: i64) -> Vec<DeviceId> {
        self.outbox.find_due(&mut self.conn, self.graph.clock.now(), busy, limit).await.unwrap()
    }

    /// The messages that are due now.
    async fn claim(&mut self) -> Vec<OutboxMessage<ConfigKey>> {
        let due = self.find_due().await;
        self.outbox.claim(&mut self.conn, self.graph.clock.now(), &due).await.unwrap()
    }

    async fn record(&mut self, outgoing: &[OutboxMessage<ConfigKey>], report: impl Into<PublishReport>) {
        let report = report.into();
        let reports: Vec<_> = outgoing.iter().map(|message| (message.key, report)).collect();
        self.outbox.record_outcomes(&mut self.conn, self.graph.clock.now(), &reports).await.unwrap();
    }

    /// Sends every due message, until none is due. Returns the topics and payloads.
    async fn send_all(&mut self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let outgoing = self.claim().await;
            if outgoing.is_empty() {
                assert_eq!(self.find_due().await, []);
                return all;
            }
            self.record(&outgoing, PublishOutcome::Confirmed).await;
            all.extend(outgoing.iter().map(topic_and_payload));
        }
        panic!("messages stay due: {all:?}");
    }

    async fn handle_deadlines(&mut self) {
        assert_eq!(self.outbox.handle_deadlines(&mut self.conn, self.graph.clock.now()).await.unwrap(), None);
    }

    async fn lose_session(&mut self) {
        let now = self.graph.clock.now();
        while self.outbox.on_broker_session_lost(&mut self.conn, now, now).await.unwrap() == Recovery::Unfinished {}
    }
}

fn topic_and_payload(outgoing: &OutboxMessage<ConfigKey>) -> (String, Value) {
    let message = &outgoing.message;
    assert_eq!((message.kind, message.expires_at), (DownlinkKind::Config, None));
    let payload = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
    (format!("{}/{}", message.home, message.device), payload)
}

async fn setup(graph: &Graph, n_devices: usize) -> (Person, String, Vec<String>) {
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, n_devices).await;
    (ann, home, devices)
}

async fn status(graph: &Graph, device: &str) -> String {
    let newest = "select status from device_configs where device_id = $1 order by version desc limit 1";
    graph.sql.query_one(newest, &[&number(device)]).await.unwrap().get(0)
}

async fn use_topic(graph: &Graph, device: &str, home_segment: &str, device_segment: &str) -> DeviceId {
    let upsert = "insert into device_states (device_id, home_segment, device_segment) values ($1, $2, $3) \
                  on conflict (device_id) do update set home_segment = excluded.home_segment, device_segment = excluded.device_segment";
    graph.sql.execute(upsert, &[&number(device), &home_segment, &device_segment]).await.unwrap();
    device.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_take_turns() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 3).await;
    for device in &devices {
        push(&graph, &ann, device, json!({})).await;
    }
    let home = graph.home(&bob).await;
    let quiet = graph.devices(&bob, &home, 1).await.remove(0);
    push(&graph, &bob, &quiet, json!({})).await;
    let [first, second, third, quiet] = [&devices[0], &devices[1], &devices[2], &quiet].map(|id| id.parse().unwrap());
    let mut sender = Sender::new(&graph).await;
    for expected in [first, quiet, first, quiet] {
        assert_eq!(sender.next_turns(&[], 1).await, [expected]);
    }
    assert_eq!(sender.next_turns(&[], 3).await, [first, quiet, second]);
    assert_eq!(sender.next_turns(&[quiet, first], 3).await, [second, third]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_version_is_sent_with_its_secrets_until_the_broker_confirms_it() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 2).await;
    let mut sender = Sender::new(&graph).await;
    assert_eq!(sender.claim().await.len(), 0);
    push(&graph, &ann, &devices[0], json!({"wifiConfig": {"ssid": "a", "password": "canary-canary"}})).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    push(&graph, &ann, &devices[1], json!({})).await;
    let outgoing = sender.claim().await;
    assert_eq!(outgoing.len(), 2);
    assert!(!format!("{outgoing:?}").contains("canary"));
    let (topic, payload) = topic_and_payload(&outgoing[0]);
    assert_eq!(topic, format!("{home}/d0"));
    let config = json!({"wifiConfig": {"ssid": "a", "password": "canary-canary"}, "sampleRate": 5});
    assert_eq!((&payload["version"], &payload["config"]), (&json!(2), &config));
    assert!(payload["timestamp"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{payload}");
    assert_eq!(payload.as_object().unwrap().len(), 3);

    for report in [PublishOutcome::Unknown.into(), PublishReport::refused("quota")] {
        sender.record(&outgoing, report).await;
        assert_eq!(status(&graph, &devices[0]).await, "PENDING");
        assert_eq!(sender.claim().await.len(), 2, "it is sent again");
    }
    let [first, second] = [0, 1].map(|n: usize| devices[n].parse::<DeviceId>().unwrap());
    let without_busy = sender.outbox.find_due(&mut sender.conn, graph.clock.now(), &[first], 100).await.unwrap();
    assert_eq!(without_busy, [second]);
    sender.record(&outgoing, PublishOutcome::Confirmed).await;
    sender.record(&outgoing, PublishOutcome::Confirmed).await;
    assert_eq!(status(&graph, &devices[0]).await, "SENT");
    assert_eq!(sender.send_all().await, []);

    // A newer version is pushed while the previous one is in flight.
    push(&graph, &ann, &devices[0], json!({"sampleRate": 6})).await;
    let third = sender.claim().await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 7})).await;
    sender.record(&third, PublishOutcome::Confirmed).await;
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    let rest = sender.send_all().await;
    assert_eq!((rest.len(), &rest[0].1["version"]), (1, &json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_broker_lost_is_sent_again_and_keeps_its_status() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 3).await;
    let mut sender = Sender::new(&graph).await;
    for device in &devices[..2] {
        push(&graph, &ann, device, json!({"sampleRate": 5})).await;
    }
    assert_eq!(sender.send_all().await.len(), 2);
    graph
        .sql
        .execute("update device_configs set status = 'APPLIED' where device_id = $1", &[&number(&devices[0])])
        .await
        .unwrap();
    sender.lose_session().await;
    let again: Vec<_> = sender.claim().await;
    assert_eq!(
        again.iter().map(|message| topic_and_payload(message).0).collect::<Vec<_>>(),
        [format!("{home}/d0"), format!("{home}/d1")]
    );
    // The session is lost again while they are in flight: the broker retains nothing that it confirms now.
    sender.lose_session().await;
    sender.record(&again, PublishOutcome::Confirmed).await;
    assert_eq!(sender.send_all().await.len(), 2);
    assert_eq!([status(&graph, &devices[0]).await, status(&graph, &devices[1]).await], ["APPLIED", "SENT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lost_configurations_are_published_again_step_by_step() {
    let graph = Graph::start().await;
    let (_, home, _) = setup(&graph, 1).await;
    let retained = "with made as (
            insert into devices (home_id, key, name, type, mqtt_client_id)
            select $1, 'many' || n, 'Device', 'OTHER', 'many' || n from generate_series(1, 2500) n returning id
        )
        insert into retained_configs (device_id, home_segment, device_segment, version, needs_publish, confirmed_at)
        select id, 'h', 'd' || id, 1, false, case when id % 2 = 0 then now() end from made";
    assert_eq!(graph.sql.execute(retained, &[&number(&home)]).await.unwrap(), 2_500);
    let n_due = "retained_configs where needs_publish";
    let mut sender = Sender::new(&graph).await;
    let (now, mut marked) = (graph.clock.now(), Vec::new());
    for _ in 0..2 {
        // What the broker confirms in between is not lost.
        graph.sql.execute("update retained_configs set needs_publish = false where needs_publish", &[]).await.unwrap();
        assert_eq!(
            sender.outbox.on_broker_session_lost(&mut sender.conn, now, now).await.unwrap(),
            Recovery::Unfinished
        );
        marked.push(graph.count(n_due).await);
    }
    assert_eq!(sender.outbox.on_broker_session_lost(&mut sender.conn, now, now).await.unwrap(), Recovery::Finished);
    marked.push(graph.count(n_due).await);
    assert_eq!(marked, [1_000, 1_000, 1_500]);
    // Another connection starts from the first device.
    graph.sql.execute("update retained_configs set needs_publish = false", &[]).await.unwrap();
    let mut reconnect = async |epoch| sender.outbox.on_reconnected(&mut sender.conn, now, epoch).await.unwrap();
    assert_eq!(reconnect(1).await, Recovery::Unfinished);
    assert_eq!(graph.count(n_due).await, 1_000);
    graph.sql.execute("update retained_configs set needs_publish = false", &[]).await.unwrap();
    assert_eq!(reconnect(2).await, Recovery::Unfinished);
    assert_eq!((reconnect(2).await, graph.count(n_due).await), (Recovery::Finished, 1_250));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_follows_its_device_to_another_topic() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 1).await;
    let mut sender = Sender::new(&graph).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    assert_eq!(sender.send_all().await[0].0, format!("{home}/d0"));
    let id = use_topic(&graph, &devices[0], &home, &devices[0]).await;
    // A trigger notes it in the transaction that stores the topic, so a crash loses nothing.
    assert_eq!(sender.find_due().await, [id]);
    let moved = sender.send_all().await;
    assert_eq!(moved.len(), 2);
    assert_eq!((&moved[0].0, &moved[0].1["version"]), (&format!("{home}/{}", devices[0]), &json!(1)));
    assert_eq!(moved[1], (format!("{home}/d0"), Value::Null), "the copy under the former topic is cleared");

    // The device returns to the former topic before that is cleared: the message there stays.
    use_topic(&graph, &devices[0], &home, "d0").await;
    sender.find_due().await;
    let in_flight = sender.claim().await;
    use_topic(&graph, &devices[0], &home, &devices[0]).await;
    sender.record(&in_flight, PublishOutcome::Confirmed).await;
    let rest = sender.send_all().await;
    let topics: Vec<_> = rest.iter().map(|(topic, payload)| (topic.as_str(), payload.is_null())).collect();
    let (by_id, by_key) = (format!("{home}/{}", devices[0]), format!("{home}/d0"));
    assert_eq!(topics, [(by_id.as_str(), false), (by_key.as_str(), true)]);
    assert_eq!(graph.count("retained_clearings where confirmed_at is null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_retains_nothing_of_a_deleted_device_or_home() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 3).await;
    let mut sender = Sender::new(&graph).await;
    for device in &devices {
        push(&graph, &ann, device, json!({"sampleRate": 5})).await;
    }
    let delete = "mutation($d: ID!) { deleteDevice(id: $d) }";
    // One message was never sent, one is in flight, one is retained.
    graph.ask(&ann, delete, json!({"d": devices[0]})).await;
    let outgoing = sender.claim().await;
    graph.ask(&ann, delete, json!({"d": devices[1]})).await;
    sender.record(&outgoing, PublishOutcome::Confirmed).await;
    assert_eq!(sender.send_all().await, [(format!("{home}/d1"), Value::Null)]);

    // A device with the same key is registered before the old message is cleared: the new message stays.
    graph.ask(&ann, delete, json!({"d": devices[2]})).await;
    let register =
        "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"d2\", name: \"N\"}) { device { id } } }";
    let again = graph.ask(&ann, register, json!({"h": home})).await["registerDevice"]["device"]["id"].clone();
    push(&graph, &ann, again.as_str().unwrap(), json!({"sampleRate": 6})).await;
    let rest = sender.send_all().await;
    assert_eq!((rest.len(), &rest[0].1["config"]), (1, &json!({"sampleRate": 6})));
    assert_eq!(graph.count("retained_clearings where confirmed_at is null").await, 0);

    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    assert_eq!(sender.send_all().await, [(format!("{home}/d2"), Value::Null)]);
    for table in ["device_configs", "retained_configs", "retained_clearings where confirmed_at is null"] {
        assert_eq!(graph.count(table).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_secrets_do_not_open_waits_and_does_not_delay_others() {
    let graph = Graph::start().await;
    let (ann, _, devices) = setup(&graph, 2).await;
    push(&graph, &ann, &devices[0], json!({"token": "canary"})).await;
    push(&graph, &ann, &devices[1], json!({"sampleRate": 5})).await;
    let mut keyless = Sender::with(&graph, None).await;
    assert_eq!(keyless.send_all().await.len(), 1);
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    assert_eq!(graph.services.metrics.configs_unreadable.get(), 1);
    // It is sent by a server that has the key as its previous one. A newer version without secrets is sent by this one.
    let keys = |name: &str| match name {
        "ENCRYPTION_KEY" => Some("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=".to_owned()),
        "ENCRYPTION_KEY_PREVIOUS" => Some(super::ENCRYPTION_KEY.to_owned()),
        _ => None,
    };
    let rotated = KeyRing::new(&EncryptionSettings::read(&keys).unwrap());
    let sent = Sender::with(&graph, rotated).await.send_all().await;
    assert_eq!((sent.len(), &sent[0].1["config"]), (1, &json!({"token": "canary"})));
    push(&graph, &ann, &devices[0], json!({"token": null})).await;
    assert_eq!(keyless.send_all().await.len(), 1);
    keyless.handle_deadlines().await;
}

/// Delays the commit of every change of a version while a session holds the advisory lock.
const SLOW_COMMIT: &str = "create function slow_commit() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock(42); return null; end $$;
    create constraint trigger slow_commit after update on device_configs deferrable initially deferred
        for each row execute function slow_commit()";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_published_by_a_later_tick() {
    use smarthome::device_config::ConfigStatus;
    use smarthome::hub::HubEvent;
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 1).await;
    let mut sender = Sender::new(&graph).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    let outgoing = sender.claim().await;
    let mut listener = graph.config_hub.subscribe(HomeId::from_database(number(&home)), None);
    graph.sql.batch_execute(SLOW_COMMIT).await.unwrap();
    graph.sql.batch_execute("select pg_advisory_lock(42)").await.unwrap();
    {
        // Dropped between the commit and its answer.
        let reports = [(outgoing[0].key, PublishOutcome::Confirmed.into())];
        let mut conn = connection(&graph).await;
        let recording = sender.outbox.record_outcomes(&mut conn, graph.clock.now(), &reports);
        tokio::select! {
            _ = recording => panic!("the commit is delayed"),
            () = graph.wait_for_waiting(1) => {}
        }
    }
    // Not committed yet, and the connection to the broker is lost: the change stays unconfirmed.
    sender.record(&outgoing, PublishOutcome::Unknown).await;
    sender.handle_deadlines().await;
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    graph.sql.batch_execute("select pg_advisory_unlock(42)").await.unwrap();
    crate::support::eventually("the change is committed", || async {
        (status(&graph, &devices[0]).await == "SENT").then_some(())
    })
    .await;
    sender.handle_deadlines().await;
    // Once: a published change is not published again.
    sender.handle_deadlines().await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 6})).await;
    for expected in [(1, ConfigStatus::Sent), (1, ConfigStatus::Superseded), (2, ConfigStatus::Pending)] {
        let HubEvent::Published(config) = crate::support::soon("a change is published", listener.recv()).await else {
            panic!()
        };
        assert_eq!((config.version, config.status), expected);
    }
}
