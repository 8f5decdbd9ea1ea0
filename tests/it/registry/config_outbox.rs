//! Configurations on their way out, step by step against the database: what is due, what a message says,
//! what a confirmation changes, and that nothing stays at the broker that should not.

use serde_json::{Value, json};
use smarthome::db;
use smarthome::device_config::{ConfigKey, ConfigOutbox, KeyRing};
use smarthome::downlink::{Channel, Delivery, DeliveryOutcome, Outgoing};
use smarthome::ids::{DeviceId, HomeId};
use smarthome::outbox::Outbox;
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

    async fn due(&mut self) -> Vec<DeviceId> {
        self.outbox.find_due(&mut self.conn, self.graph.clock.now(), &[], 100).await.unwrap()
    }

    /// What would go out now.
    async fn take(&mut self) -> Vec<Outgoing<ConfigKey>> {
        let due = self.due().await;
        self.outbox.claim(&mut self.conn, self.graph.clock.now(), &due).await.unwrap()
    }

    async fn settle(&mut self, outgoing: &[Outgoing<ConfigKey>], delivery: impl Into<Delivery>) {
        let delivery = delivery.into();
        let deliveries: Vec<_> = outgoing.iter().map(|message| (message.key, delivery)).collect();
        self.outbox.record_outcomes(&mut self.conn, self.graph.clock.now(), &deliveries).await.unwrap();
    }

    /// Sends whatever is to be sent, to the end; the topics and payloads.
    async fn run(&mut self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let outgoing = self.take().await;
            if outgoing.is_empty() {
                assert_eq!(self.due().await, []);
                return all;
            }
            self.settle(&outgoing, DeliveryOutcome::Confirmed).await;
            all.extend(outgoing.iter().map(said));
        }
        panic!("it never ends: {all:?}");
    }

    async fn tick(&mut self) {
        assert_eq!(self.outbox.tick(&mut self.conn, self.graph.clock.now()).await.unwrap(), None);
    }

    async fn forget(&mut self) {
        self.outbox
            .on_broker_session_lost(&mut self.conn, self.graph.clock.now(), self.graph.clock.now())
            .await
            .unwrap();
    }
}

fn said(outgoing: &Outgoing<ConfigKey>) -> (String, Value) {
    let message = &outgoing.message;
    assert_eq!((message.channel, message.expires_at), (Channel::Config, None));
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

async fn speaks_as(graph: &Graph, device: &str, home_segment: &str, device_segment: &str) -> DeviceId {
    let upsert = "insert into device_states (device_id, home_segment, device_segment) values ($1, $2, $3) \
                  on conflict (device_id) do update set home_segment = excluded.home_segment, device_segment = excluded.device_segment";
    graph.sql.execute(upsert, &[&number(device), &home_segment, &device_segment]).await.unwrap();
    device.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_goes_with_its_secrets_until_the_broker_has_it() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 2).await;
    let mut sender = Sender::new(&graph).await;
    assert_eq!(sender.take().await.len(), 0);
    push(&graph, &ann, &devices[0], json!({"wifiConfig": {"ssid": "a", "password": "canary-canary"}})).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    push(&graph, &ann, &devices[1], json!({})).await;
    let outgoing = sender.take().await;
    assert_eq!(outgoing.len(), 2);
    assert!(!format!("{outgoing:?}").contains("canary"));
    let (topic, payload) = said(&outgoing[0]);
    assert_eq!(topic, format!("{home}/d0"));
    let config = json!({"wifiConfig": {"ssid": "a", "password": "canary-canary"}, "sampleRate": 5});
    assert_eq!((&payload["version"], &payload["config"]), (&json!(2), &config));
    assert!(payload["timestamp"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{payload}");
    assert_eq!(payload.as_object().unwrap().len(), 3);

    for delivery in [DeliveryOutcome::Unknown.into(), Delivery::refused("quota")] {
        sender.settle(&outgoing, delivery).await;
        assert_eq!(status(&graph, &devices[0]).await, "PENDING");
        assert_eq!(sender.take().await.len(), 2, "it goes again");
    }
    let [first, second] = [0, 1].map(|n: usize| devices[n].parse::<DeviceId>().unwrap());
    let but_busy = sender.outbox.find_due(&mut sender.conn, graph.clock.now(), &[first], 100).await.unwrap();
    assert_eq!(but_busy, [second]);
    sender.settle(&outgoing, DeliveryOutcome::Confirmed).await;
    sender.settle(&outgoing, DeliveryOutcome::Confirmed).await;
    assert_eq!(status(&graph, &devices[0]).await, "SENT");
    assert_eq!(sender.run().await, []);

    // A newer version came while the one before was under way.
    push(&graph, &ann, &devices[0], json!({"sampleRate": 6})).await;
    let third = sender.take().await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 7})).await;
    sender.settle(&third, DeliveryOutcome::Confirmed).await;
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    let rest = sender.run().await;
    assert_eq!((rest.len(), &rest[0].1["version"]), (1, &json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_lost_is_put_back_and_keeps_its_status() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 3).await;
    let mut sender = Sender::new(&graph).await;
    for device in &devices[..2] {
        push(&graph, &ann, device, json!({"sampleRate": 5})).await;
    }
    assert_eq!(sender.run().await.len(), 2);
    graph
        .sql
        .execute("update device_configs set status = 'APPLIED' where device_id = $1", &[&number(&devices[0])])
        .await
        .unwrap();
    sender.forget().await;
    let again: Vec<_> = sender.take().await;
    assert_eq!(
        again.iter().map(|message| said(message).0).collect::<Vec<_>>(),
        [format!("{home}/d0"), format!("{home}/d1")]
    );
    // It forgot once more while they were under way: this confirmation is worth nothing.
    sender.forget().await;
    sender.settle(&again, DeliveryOutcome::Confirmed).await;
    assert_eq!(sender.run().await.len(), 2);
    assert_eq!([status(&graph, &devices[0]).await, status(&graph, &devices[1]).await], ["APPLIED", "SENT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_a_device_that_speaks_by_other_names() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 1).await;
    let mut sender = Sender::new(&graph).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    assert_eq!(sender.run().await[0].0, format!("{home}/d0"));
    let id = speaks_as(&graph, &devices[0], &home, &devices[0]).await;
    // Noted with what it said, so that it is not lost with whoever heard it.
    assert_eq!(sender.due().await, [id]);
    let moved = sender.run().await;
    assert_eq!(moved.len(), 2);
    assert_eq!((&moved[0].0, &moved[0].1["version"]), (&format!("{home}/{}", devices[0]), &json!(1)));
    assert_eq!(moved[1], (format!("{home}/d0"), Value::Null), "the copy left behind");

    // Back again before the copy is cleared: what is there now stays.
    speaks_as(&graph, &devices[0], &home, "d0").await;
    sender.due().await;
    let going = sender.take().await;
    speaks_as(&graph, &devices[0], &home, &devices[0]).await;
    sender.settle(&going, DeliveryOutcome::Confirmed).await;
    let rest = sender.run().await;
    let topics: Vec<_> = rest.iter().map(|(topic, payload)| (topic.as_str(), payload.is_null())).collect();
    let (by_id, by_key) = (format!("{home}/{}", devices[0]), format!("{home}/d0"));
    assert_eq!(topics, [(by_id.as_str(), false), (by_key.as_str(), true)]);
    assert_eq!(graph.count("retained_clearings where done_at is null").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_device_or_home_leaves_nothing_at_the_broker() {
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 3).await;
    let mut sender = Sender::new(&graph).await;
    for device in &devices {
        push(&graph, &ann, device, json!({"sampleRate": 5})).await;
    }
    let delete = "mutation($d: ID!) { deleteDevice(id: $d) }";
    // One never left, one may have left, one is there.
    graph.ask(&ann, delete, json!({"d": devices[0]})).await;
    let outgoing = sender.take().await;
    graph.ask(&ann, delete, json!({"d": devices[1]})).await;
    sender.settle(&outgoing, DeliveryOutcome::Confirmed).await;
    assert_eq!(sender.run().await, [(format!("{home}/d1"), Value::Null)]);

    // The same key again, before the old one's message is cleared: the new one's stays.
    graph.ask(&ann, delete, json!({"d": devices[2]})).await;
    let register =
        "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"d2\", name: \"N\"}) { device { id } } }";
    let again = graph.ask(&ann, register, json!({"h": home})).await["registerDevice"]["device"]["id"].clone();
    push(&graph, &ann, again.as_str().unwrap(), json!({"sampleRate": 6})).await;
    let rest = sender.run().await;
    assert_eq!((rest.len(), &rest[0].1["config"]), (1, &json!({"sampleRate": 6})));
    assert_eq!(graph.count("retained_clearings where done_at is null").await, 0);

    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    assert_eq!(sender.run().await, [(format!("{home}/d2"), Value::Null)]);
    for table in ["device_configs", "retained_configs", "retained_clearings where done_at is null"] {
        assert_eq!(graph.count(table).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_does_not_open_waits_and_holds_up_nobody() {
    let graph = Graph::start().await;
    let (ann, _, devices) = setup(&graph, 2).await;
    push(&graph, &ann, &devices[0], json!({"token": "canary"})).await;
    push(&graph, &ann, &devices[1], json!({"sampleRate": 5})).await;
    let mut keyless = Sender::with(&graph, None).await;
    assert_eq!(keyless.run().await.len(), 1);
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    assert_eq!(graph.services.metrics.configs_unreadable.get(), 1);
    // A new version of it goes, and with the key set as the one before all does.
    let keys = |name: &str| match name {
        "ENCRYPTION_KEY" => Some("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=".to_owned()),
        "ENCRYPTION_KEY_PREVIOUS" => Some(super::ENCRYPTION_KEY.to_owned()),
        _ => None,
    };
    let rotated = KeyRing::new(&EncryptionSettings::read(&keys).unwrap());
    let sent = Sender::with(&graph, rotated).await.run().await;
    assert_eq!((sent.len(), &sent[0].1["config"]), (1, &json!({"token": "canary"})));
    push(&graph, &ann, &devices[0], json!({"token": null})).await;
    assert_eq!(keyless.run().await.len(), 1);
    keyless.tick().await;
}

/// Holds up the commit of any change of a version while somebody holds the lock.
const SLOW_COMMIT: &str = "create function slow_commit() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock(42); return null; end $$;
    create constraint trigger slow_commit after update on device_configs deferrable initially deferred
        for each row execute function slow_commit()";

#[tokio::test(flavor = "multi_thread")]
async fn a_settling_whose_answer_was_lost_is_told_by_a_later_tick() {
    use smarthome::device_config::ConfigStatus;
    use smarthome::hub::HubEvent;
    let graph = Graph::start().await;
    let (ann, home, devices) = setup(&graph, 1).await;
    let mut sender = Sender::new(&graph).await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 5})).await;
    let outgoing = sender.take().await;
    let mut listener = graph.config_hub.subscribe(HomeId::from_database(number(&home)));
    graph.sql.batch_execute(SLOW_COMMIT).await.unwrap();
    graph.sql.batch_execute("select pg_advisory_lock(42)").await.unwrap();
    {
        // Cut off between the commit and its answer.
        let deliveries = [(outgoing[0].key, DeliveryOutcome::Confirmed.into())];
        let mut conn = connection(&graph).await;
        let settling = sender.outbox.record_outcomes(&mut conn, graph.clock.now(), &deliveries);
        tokio::select! {
            _ = settling => panic!("the commit is held up"),
            () = graph.wait_for_waiting(1) => {}
        }
    }
    // Not committed yet, and the link was lost meanwhile: it is uncertain still.
    sender.settle(&outgoing, DeliveryOutcome::Unknown).await;
    sender.tick().await;
    assert_eq!(status(&graph, &devices[0]).await, "PENDING");
    graph.sql.batch_execute("select pg_advisory_unlock(42)").await.unwrap();
    crate::support::eventually("it is committed", || async {
        (status(&graph, &devices[0]).await == "SENT").then_some(())
    })
    .await;
    sender.tick().await;
    // Once: what is certain is not told again.
    sender.tick().await;
    push(&graph, &ann, &devices[0], json!({"sampleRate": 6})).await;
    for expected in [(1, ConfigStatus::Sent), (1, ConfigStatus::Superseded), (2, ConfigStatus::Pending)] {
        let HubEvent::Published(told) = crate::support::soon("a change is told", listener.recv()).await else {
            panic!()
        };
        assert_eq!((told.version, told.status), expected);
    }
}
