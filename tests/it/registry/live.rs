//! Subscriptions: their first events, catch-up, and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use async_graphql::{Request, Variables};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use smarthome::devices::DeviceState;
use smarthome::graphql::Viewer;
use smarthome::graphql::limits::budget::Budget;
use smarthome::hub::DEVICE_CAPACITY;
use smarthome::ids::{DeviceId, HomeId, TelemetryId};
use smarthome::telemetry::{Measurement, NewReading, Reading, TimeSource};

use super::{Graph, Person, number};
use crate::support::{soon, until};

const STATUS: &str = "subscription($d: ID, $h: ID) { deviceStatus(deviceId: $d, homeId: $h) { id name online } }";
const TELEMETRY: &str = "subscription($d: ID, $h: ID, $a: ID) { telemetry(deviceId: $d, homeId: $h, after: $a) { id sensors { temperature } device { name } } }";

pub(super) fn subscribe(graph: &Graph, who: &Person, query: &str, variables: Value) -> BoxStream<'static, Value> {
    let request = Request::new(query)
        .variables(Variables::from_json(variables))
        .data(Budget::default())
        .data(Viewer(who.0.clone()));
    let answers = graph.schema.execute_stream(request);
    answers.map(|answer| serde_json::to_value(answer).unwrap()).boxed()
}

pub(super) async fn next(stream: &mut BoxStream<'static, Value>) -> Option<Value> {
    soon("an event or the end", stream.next()).await
}

pub(super) fn state(device: &str, online: bool) -> Arc<DeviceState> {
    Arc::new(DeviceState {
        device: device.parse().unwrap(),
        online,
        online_changed_at: None,
        last_seen_at: None,
        firmware_version: None,
        signal_strength: None,
        battery_level: None,
        metadata: Arc::new(json!({})),
        reported: None,
        shed_messages: 0,
        last_shed_at: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn status_starts_with_the_present_state_and_continues_with_changes() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let mut all = subscribe(&graph, &ann, STATUS, json!({"h": home}));
    let mut one = subscribe(&graph, &ann, STATUS, json!({"d": devices[1]}));
    for name in ["Device 0", "Device 1"] {
        let device = &next(&mut all).await.unwrap()["data"]["deviceStatus"];
        assert_eq!((device["name"].as_str(), device["online"].as_bool()), (Some(name), Some(false)));
    }
    assert_eq!(next(&mut one).await.unwrap()["data"]["deviceStatus"]["name"], "Device 1");
    assert_eq!(graph.services.metrics.subscriptions.get(), 2);
    let id = HomeId::from_database(number(&home));
    let device = |n: usize| DeviceId::from_database(number(&devices[n]));
    graph.services.states.publish(id, device(0), &state(&devices[0], true));
    graph.services.states.publish(id, device(1), &state(&devices[1], true));
    assert_eq!(
        next(&mut all).await.unwrap()["data"]["deviceStatus"],
        json!({"id": devices[0], "name": "Device 0", "online": true})
    );
    assert_eq!(
        next(&mut one).await.unwrap()["data"]["deviceStatus"],
        json!({"id": devices[1], "name": "Device 1", "online": true})
    );

    // A subscriber that fell behind receives the present state again.
    for _ in 0..300 {
        graph.services.states.publish(id, device(1), &state(&devices[1], true));
    }
    assert_eq!(next(&mut one).await.unwrap()["data"]["deviceStatus"]["online"], false);

    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": devices[1]})).await;
    let end = async |stream: &mut BoxStream<'static, Value>| while next(stream).await.is_some() {};
    end(&mut one).await;
    graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    end(&mut all).await;
    assert_eq!(graph.services.metrics.subscriptions.get(), 0);
    assert_eq!(graph.services.states.n_homes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_replayed_after_a_cursor_and_end_with_their_device() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    for minute in 0..3 {
        graph.reading(&home, &device, minute).await;
    }
    let mut stream = subscribe(&graph, &ann, TELEMETRY, json!({"d": device, "a": "1"}));
    for temperature in [1.0, 2.0] {
        let event = next(&mut stream).await.unwrap();
        assert_eq!(event["data"]["telemetry"]["sensors"]["temperature"], temperature, "{event}");
        assert_eq!(event["data"]["telemetry"]["device"]["name"], "Device 0");
    }
    let mut newest = subscribe(&graph, &ann, TELEMETRY, json!({"d": device, "a": "3"}));
    let newest = tokio::spawn(async move { next(&mut newest).await });
    until("it runs", || graph.services.metrics.subscriptions.get() == 2).await;
    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": device})).await;
    // The newest cursor is a good one: nothing but the end follows.
    for end in [next(&mut stream).await.unwrap(), newest.await.unwrap().unwrap()] {
        assert_eq!(end["errors"][0]["extensions"]["code"], "NOT_FOUND", "{end}");
    }
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(graph.readings.n_homes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_fell_behind_is_caught_up_from_the_database() {
    const READINGS: i64 = 3 * DEVICE_CAPACITY as i64;
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let publish = async |n: i64| {
        graph.reading(&home, &device, n).await;
        graph.readings.publish(committed(&home, &device, n + 1, n));
    };
    let mut stream = subscribe(&graph, &ann, TELEMETRY, json!({"d": device}));
    let first = tokio::spawn(async move { (next(&mut stream).await, stream) });
    until("it runs", || graph.services.metrics.subscriptions.get() == 1).await;
    publish(0).await;
    let (event, mut stream) = first.await.unwrap();
    assert_eq!(event.unwrap()["data"]["telemetry"]["sensors"]["temperature"], 0.0);

    // The subscriber does not read, so the hub drops events. More events follow during the catch-up.
    for n in 1..READINGS {
        publish(n).await;
    }
    let catch_ups = &graph.services.metrics.subscription_catch_ups;
    assert_eq!(catch_ups.get(), 0);
    for n in 1..READINGS + 20 {
        if n > DEVICE_CAPACITY as i64 && n <= DEVICE_CAPACITY as i64 + 20 {
            publish(READINGS + n - DEVICE_CAPACITY as i64 - 1).await;
        }
        let event = next(&mut stream).await.unwrap();
        let reading = &event["data"]["telemetry"];
        assert_eq!(reading["sensors"]["temperature"].as_f64(), Some(n as f64), "neither a gap nor a repeat: {event}");
    }
    assert!(catch_ups.get() > 2 * DEVICE_CAPACITY as u64, "it was caught up: {}", catch_ups.get());
    assert_eq!(graph.services.metrics.subscriptions_lagged.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_fell_behind_waits_for_a_database_that_does_not_answer() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    let mut stream = subscribe(&graph, &ann, TELEMETRY, json!({"d": device}));
    let first = tokio::spawn(async move { (next(&mut stream).await, stream) });
    until("it runs", || graph.services.metrics.subscriptions.get() == 1).await;
    for n in 0..3 {
        graph.reading(&home, &device, n).await;
    }
    graph.readings.publish(committed(&home, &device, 1, 0));
    let (_, mut stream) = first.await.unwrap();
    // The subscriber does not read, so the hub drops events.
    graph.readings.publish(committed(&home, &device, 2, 1));
    for _ in 0..=DEVICE_CAPACITY {
        graph.readings.publish(committed(&home, &device, 3, 2));
    }
    let blocker = graph.database.client().await;
    blocker.batch_execute("begin; lock table telemetry").await.unwrap();
    let (statements, before) = (&graph.services.metrics.db_statements, graph.services.metrics.db_statements.get());
    let event = tokio::spawn(async move { next(&mut stream).await });
    // A page of a device takes two statements. The first waits for the lock until its timeout.
    until("it has retried", || statements.get() >= before + 2).await;
    graph.wait_for_waiting(1).await;
    blocker.batch_execute("commit").await.unwrap();
    let event = soon("the event", event).await.unwrap().unwrap();
    assert_eq!(event["data"]["telemetry"]["sensors"]["temperature"], 1.0, "{event}");
}

/// A committed reading with that id and a temperature of `n` degrees.
pub(super) fn committed(home: &str, device: &str, id: i64, n: i64) -> Reading {
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut measurement = Box::new(Measurement::default());
    measurement.sensors.temperature = Some(n as f64);
    let (home, device) = (HomeId::from_database(number(home)), device.parse().unwrap());
    let (recorded_at, received_at, time_source) = (at, at, TimeSource::Device);
    let new = NewReading { home, device, recorded_at, received_at, time_source, dedup: n, measurement };
    Reading::committed(TelemetryId::from_database(id), &new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_device_is_resumed_in_a_busy_home() {
    /// Readings that one statement scans at most.
    const MAX_SCANNED: i64 = 20_000;
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let (busy, silent) = (&devices[0], &devices[1]);
    let other_readings = async |from| insert_readings(&graph, &home, busy, from, 2 * MAX_SCANNED + 10).await;
    graph.reading(&home, silent, 0).await;
    other_readings(1).await;
    graph.reading(&home, silent, 1).await;
    other_readings(1_000_000).await;
    graph.reading(&home, silent, 2).await;
    other_readings(2_000_000).await;
    let (statements, before) = (&graph.services.metrics.db_statements, graph.services.metrics.db_statements.get());
    let mut stream = subscribe(&graph, &ann, TELEMETRY, json!({"d": silent, "a": "1"}));
    let received = async |stream: &mut BoxStream<'static, Value>| {
        let event = next(stream).await.unwrap();
        event["data"]["telemetry"]["sensors"]["temperature"].as_f64().unwrap_or_else(|| panic!("{event}"))
    };
    assert_eq!([received(&mut stream).await, received(&mut stream).await], [1.0, 2.0]);

    // Live readings follow after the other device's readings were scanned.
    let id = graph.count("telemetry").await + 1;
    let followed = HomeId::from_database(number(&home));
    let publish = async {
        until("it is subscribed", || graph.readings.has_subscriber(followed, DeviceId::from_database(number(silent))))
            .await;
        graph.readings.publish(committed(&home, silent, id, 3));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        live = received(&mut stream) => assert_eq!(live, 3.0),
        () = publish => {}
    }
    // Two statements for each piece, and those of opening the subscription.
    let n_pieces = u64::try_from(graph.count("telemetry").await / MAX_SCANNED).unwrap();
    let n_statements = statements.get() - before;
    assert!((2 * n_pieces..=2 * n_pieces + 12).contains(&n_statements), "{n_statements} for {n_pieces} pieces");
}

async fn insert_readings(graph: &Graph, home: &str, device: &str, from: i64, n: i64) {
    let insert = "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock) \
                  select $1, $2, '2026-02-01Z'::timestamptz + make_interval(secs => n), now(), n, true \
                  from generate_series($3::bigint, $3 + $4 - 1) n";
    graph.sql.execute(insert, &[&number(home), &number(device), &from, &n]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_silent_for_long_is_caught_up_from_where_its_subscriber_fell_behind() {
    const OTHERS: i64 = 30_000;
    const BURST: i64 = 2 * DEVICE_CAPACITY as i64;
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let mut stream = subscribe(&graph, &ann, TELEMETRY, json!({"d": devices[1]}));
    let first = tokio::spawn(async move { (next(&mut stream).await, stream) });
    until("it runs", || graph.services.metrics.subscriptions.get() == 1).await;
    graph.reading(&home, &devices[1], 0).await;
    graph.readings.publish(committed(&home, &devices[1], 1, 0));
    let (_, mut stream) = first.await.unwrap();

    insert_readings(&graph, &home, &devices[0], 1, OTHERS).await;
    for n in 1..=BURST {
        graph.reading(&home, &devices[1], n).await;
        graph.readings.publish(committed(&home, &devices[1], OTHERS + 1 + n, n));
    }
    let (statements, before) = (&graph.services.metrics.db_statements, graph.services.metrics.db_statements.get());
    for n in 1..=BURST {
        let event = next(&mut stream).await.unwrap();
        assert_eq!(event["data"]["telemetry"]["sensors"]["temperature"].as_f64(), Some(n as f64), "{event}");
    }
    assert!(graph.services.metrics.subscription_catch_ups.get() > 0, "it fell behind");
    // One statement for each event's device, and two for the page.
    let n_statements = statements.get() - before;
    assert!(n_statements <= BURST as u64 + 2, "{n_statements}: the readings of the other device were not scanned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_one_device_is_not_woken_for_the_others() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let id = HomeId::from_database(number(&home));
    let [mine, other] = [0, 1].map(|n: usize| DeviceId::from_database(number(&devices[n])));
    for query in [TELEMETRY, STATUS] {
        let mut stream = subscribe(&graph, &ann, query, json!({"d": devices[0]}));
        if query == STATUS {
            next(&mut stream).await.unwrap();
        } else {
            tokio::select! {
                event = next(&mut stream) => panic!("{event:?}"),
                () = until("it runs", || graph.services.metrics.subscriptions.get() > 0) => {}
            }
        }
        let publish = |device: DeviceId, n: i64| {
            graph.readings.publish(committed(&home, &device.to_string(), n, n));
            graph.services.states.publish(id, device, &state(&device.to_string(), true));
        };
        let counter = Arc::new(Wakes::default());
        let waker = Waker::from(counter.clone());
        // The first poll may finish earlier work.
        for _ in 0..2 {
            assert!(stream.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        let before = counter.0.load(Relaxed);
        for n in 1..5_000 {
            publish(other, n);
        }
        assert_eq!(counter.0.load(Relaxed), before, "{query}");
        publish(mine, 5_000);
        assert!(counter.0.load(Relaxed) > before, "{query}");
        assert!(next(&mut stream).await.is_some());
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subscription_with_a_required_target_delivers_its_events() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    let of_home = |field: &str| format!("subscription($id: ID!) {{ {field}(homeId: $id) {{ name }} }}");
    let of_device = |field: &str| format!("subscription($id: ID!) {{ {field}(deviceId: $id) {{ name }} }}");
    for (field, query, id, names) in [
        ("homeDeviceUpdates", of_home("homeDeviceUpdates"), &home, &["Device 0", "Device 1"][..]),
        ("deviceUpdates", of_device("deviceUpdates"), &devices[1], &["Device 1"]),
    ] {
        let mut stream = subscribe(&graph, &ann, &query, json!({"id": id}));
        for name in names {
            assert_eq!(next(&mut stream).await.unwrap()["data"][field]["name"], *name, "{field}");
        }
    }
    let telemetry = "subscription($id: ID!, $a: ID) { homeTelemetry(homeId: $id, afterId: $a) { id } }";
    let refused = [("x", "afterId must be the ID of a reading"), ("1", "afterId is newer than anything stored")];
    for (after, message) in refused {
        let mut stream = subscribe(&graph, &ann, telemetry, json!({"id": home, "a": after}));
        let error = &next(&mut stream).await.unwrap()["errors"][0];
        assert_eq!(error["extensions"], json!({"code": "BAD_USER_INPUT", "field": "afterId"}), "{error}");
        assert_eq!(error["message"], message);
        assert_eq!(next(&mut stream).await, None);
    }
}

/// A home without readings has no ID to begin with.
#[tokio::test(flavor = "multi_thread")]
async fn after_0_begins_with_the_first_reading() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 2).await;
    graph.reading(&home, &devices[0], 20).await;
    graph.reading(&home, &devices[1], 21).await;
    let of_home = "subscription($id: ID!) { homeTelemetry(homeId: $id, afterId: \"0\") { sensors { temperature } } }";
    let of_device = "subscription($id: ID!) { deviceTelemetry(deviceId: $id, afterId: 0) { sensors { temperature } } }";
    let cases =
        [("homeTelemetry", of_home, &home, &[20.0, 21.0][..]), ("deviceTelemetry", of_device, &devices[1], &[21.0])];
    for (field, query, id, temperatures) in cases {
        let mut stream = subscribe(&graph, &ann, query, json!({"id": id}));
        for temperature in temperatures {
            let event = next(&mut stream).await.unwrap();
            assert_eq!(event["data"][field]["sensors"]["temperature"], *temperature, "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_the_two_ids_is_given_and_a_cursor_that_was_given_out() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    for (query, variables, field) in [
        (STATUS, json!({}), "deviceId"),
        (STATUS, json!({"h": home, "d": "1"}), "deviceId"),
        (TELEMETRY, json!({}), "deviceId"),
        (TELEMETRY, json!({"h": home, "a": "x"}), "after"),
        (TELEMETRY, json!({"h": home, "a": "1"}), "after"),
        (TELEMETRY, json!({"h": home, "a": i64::MAX.to_string()}), "after"),
    ] {
        let mut stream = subscribe(&graph, &ann, query, variables);
        let answer = next(&mut stream).await.unwrap();
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": field}), "{answer}");
        assert_eq!(next(&mut stream).await, None);
    }
}
