//! What live events say of their devices: from memory, without a statement, and shared by equal operations.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use smarthome::commands::Command;
use smarthome::device_config::DeviceConfig;
use smarthome::graphql::engine::{Caller, Engine};
use smarthome::graphql::request::GraphQLRequest;
use smarthome::graphql::{Peer, Viewer};
use smarthome::hub::HubEvent;
use smarthome::ids::{DeviceId, HomeId};

use super::live::{committed, state};
use super::{Graph, Person, number, text};
use crate::support::soon;

/// Fields that the registry answers.
const KNOWN: &str = "id key name macAddress type createdAt topics { telemetry commands } room { id name } \
     home { id key name timezone createdAt }";

/// A graph with a home of two devices, the first of them in a room.
struct World {
    graph: Graph,
    engine: Engine,
    ann: Person,
    home: String,
    room: String,
    devices: Vec<String>,
    next_reading: i64,
}

impl World {
    async fn start() -> Self {
        let graph = Graph::start().await;
        let ann = graph.person().await;
        let home = graph.home(&ann).await;
        let devices = graph.devices(&ann, &home, 2).await;
        let create = "mutation($h: ID!) { createRoom(input: {homeId: $h, name: \"Hall\"}) { id } }";
        let room = text(&graph.ask(&ann, create, json!({"h": home})).await["createRoom"]["id"]);
        let update = "mutation($d: ID!, $r: ID) { updateDevice(input: {id: $d, roomId: $r, macAddress: \
                      \"24:6F:28:00:00:01\"}) { id } }";
        graph.ask(&ann, update, json!({"d": devices[0], "r": room})).await;
        let engine = Engine::new(graph.schema.clone(), true);
        Self { graph, engine, ann, home, room, devices, next_reading: 1 }
    }

    /// A subscription that runs.
    async fn subscribe(&self, who: &Person, query: &str) -> BoxStream<'static, Value> {
        let running = &self.graph.services.metrics.subscriptions;
        let before = running.get();
        let request = json!({"query": query, "variables": {"h": self.home}}).to_string();
        let prepared = self.engine.prepare(GraphQLRequest::from_json(&request).unwrap());
        let prepared = prepared.unwrap_or_else(|refused| panic!("{query}: {refused}"));
        let caller = Caller { viewer: Viewer(who.0.clone()), peer: Peer(None) };
        let responses = self.engine.stream(prepared, caller).map(|response| {
            let mut out = Vec::new();
            response.write(&mut out);
            serde_json::from_slice(&out).unwrap()
        });
        let mut responses = responses.boxed();
        let starting = async {
            while running.get() == before {
                tokio::task::yield_now().await;
            }
        };
        if query.contains("deviceStatus") {
            // The present states come first.
            for _ in 0..self.devices.len() {
                next(&mut responses).await;
            }
            return responses;
        }
        tokio::select! {
            response = responses.next() => panic!("{response:?}"),
            () = soon("the subscription runs", starting) => {}
        }
        responses
    }

    /// The response to a query.
    async fn ask(&self, who: &Person, query: &str) -> Value {
        let request = GraphQLRequest::from_json(&json!({ "query": query }).to_string()).unwrap();
        let prepared = self.engine.prepare(request).unwrap_or_else(|refused| panic!("{query}: {refused}"));
        let caller = Caller { viewer: Viewer(who.0.clone()), peer: Peer(None) };
        let mut out = Vec::new();
        self.engine.execute(prepared, caller).await.write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn report(&mut self, device: usize) {
        let n = self.next_reading;
        self.next_reading += 1;
        self.graph.readings.publish(committed(&self.home, &self.devices[device], n, n));
    }

    fn ids(&self) -> (HomeId, DeviceId) {
        (HomeId::from_database(number(&self.home)), DeviceId::from_database(number(&self.devices[0])))
    }

    fn n_statements(&self) -> u64 {
        self.graph.services.metrics.db_statements.get()
    }

    fn n_rendered(&self) -> u64 {
        self.graph.services.metrics.subscription_responses_rendered.get()
    }
}

async fn next(stream: &mut BoxStream<'static, Value>) -> Value {
    soon("an event", stream.next()).await.expect("an event")
}

fn telemetry(device: &str) -> String {
    format!("subscription($h: ID) {{ telemetry(homeId: $h) {{ id sensors {{ temperature }} device {{ {device} }} }} }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devices_of_events_cost_no_statement_and_equal_operations_share_one_execution() {
    const N_EVENTS: u64 = 20;
    let mut world = World::start().await;
    let bob = world.graph.person().await;
    world.graph.join(&world.home, &bob, "GUEST").await;
    let mut streams = Vec::new();
    for who in [&world.ann, &world.ann, &world.ann, &bob, &bob] {
        streams.push(world.subscribe(who, &telemetry(KNOWN)).await);
    }
    // The first event loads the devices of the home.
    world.report(0);
    for stream in &mut streams {
        next(stream).await;
    }
    let (statements, rendered) = (world.n_statements(), world.n_rendered());
    let shared = world.graph.services.metrics.subscription_responses_shared.get();
    let device = "query($d: ID!) { device(id: $d) { KNOWN } }".replace("KNOWN", KNOWN);
    let mut received = Vec::new();
    for n in 0..N_EVENTS {
        world.report((n % 2) as usize);
        for stream in &mut streams {
            received.push(next(stream).await);
        }
    }
    assert_eq!(world.n_statements() - statements, 0);
    assert_eq!(world.n_rendered() - rendered, 2 * N_EVENTS, "one for each viewer");
    assert_eq!(world.graph.services.metrics.subscription_responses_shared.get() - shared, 3 * N_EVENTS);
    for (n, event) in received.iter().enumerate() {
        let n = n / streams.len();
        let event = &event["data"]["telemetry"];
        assert_eq!(event["id"], (n + 2).to_string());
        let asked = world.graph.ask(&world.ann, &device, json!({"d": world.devices[n % 2]})).await;
        assert_eq!(event["device"], asked["device"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_registry_shows_in_the_next_event() {
    let mut world = World::start().await;
    let mut stream = world.subscribe(&world.ann, &telemetry("name room { name } home { name }")).await;
    let mut expected = json!({"name": "Device 0", "room": {"name": "Hall"}, "home": {"name": "Test"}});
    let changes: [(&str, &str, Value); 5] = [
        ("/name", "mutation($d: ID!) { updateDevice(input: {id: $d, name: \"Lamp\"}) { id } }", json!("Lamp")),
        ("/room/name", "mutation($r: ID!) { renameRoom(input: {id: $r, name: \"Attic\"}) { id } }", json!("Attic")),
        ("/home/name", "mutation($h: ID!) { updateHome(input: {id: $h, name: \"Villa\"}) { id } }", json!("Villa")),
        ("/room", "mutation($d: ID!) { updateDevice(input: {id: $d, roomId: null}) { id } }", Value::Null),
        (
            "/room",
            "mutation($d: ID!, $r: ID!) { updateDevice(input: {id: $d, roomId: $r}) { id } }",
            json!({"name": "Attic"}),
        ),
    ];
    world.report(0);
    assert_eq!(next(&mut stream).await["data"]["telemetry"]["device"], expected);
    for (place, mutation, value) in changes {
        let variables = json!({"d": world.devices[0], "r": world.room, "h": world.home});
        world.graph.ask(&world.ann, mutation, variables).await;
        *expected.pointer_mut(place).unwrap() = value;
        world.report(0);
        assert_eq!(next(&mut stream).await["data"]["telemetry"]["device"], expected, "{mutation}");
    }
    let delete = "mutation($r: ID!) { deleteRoom(id: $r) }";
    world.graph.ask(&world.ann, delete, json!({"r": world.room})).await;
    world.report(0);
    assert_eq!(next(&mut stream).await["data"]["telemetry"]["device"]["room"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_server_is_found_with_one_statement_for_all_devices() {
    let mut world = World::start().await;
    let mut stream =
        world.subscribe(&world.ann, &telemetry("name room { name } home { name } topics { commands }")).await;
    for (change, place, value) in [
        ("update devices set name = 'Lamp'", "/name", json!("Lamp")),
        ("update homes set name = 'Villa'", "/home/name", json!("Villa")),
        ("update rooms set name = 'Attic'", "/room/name", json!("Attic")),
        (
            "insert into device_states (device_id, home_segment, device_segment) select id, 'HOME', 'D0' from devices",
            "/topics/commands",
            json!("smarthome/HOME/D0/commands"),
        ),
    ] {
        for device in [0, 1] {
            world.report(device);
            next(&mut stream).await;
        }
        let before = world.n_statements();
        world.graph.services.devices.refresh_registry_cache().await.unwrap();
        assert_eq!(world.n_statements() - before, 1);
        world.graph.sql.batch_execute(change).await.unwrap();
        world.graph.services.devices.refresh_registry_cache().await.unwrap();
        world.report(0);
        let event = next(&mut stream).await;
        assert_eq!(event["data"]["telemetry"]["device"].pointer(place), Some(&value), "{change}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_viewer_gets_the_same_device_from_an_event_as_from_a_query() {
    let mut world = World::start().await;
    let mut viewers = vec![world.ann.clone()];
    for scopes in [None, Some(2_i16), Some(3)] {
        let viewer = world.graph.person().await;
        let insert = "insert into memberships (home_id, user_id, role, scopes) values ($1, $2, 'GUEST', $3)";
        let user = viewer.0.as_ref().unwrap().user.get();
        world.graph.sql.execute(insert, &[&number(&world.home), &user, &scopes]).await.unwrap();
        viewers.push(viewer);
    }
    for viewer in &viewers {
        for fields in [
            "id key",
            KNOWN,
            "__typename id online lastSeenAt metadata",
            "home { id myRole members { role } }",
            "name latestTelemetry { id }",
            "room { name home { name devices { nodes { id } } } }",
            "home { name } config { version }",
        ] {
            let mut streams =
                [world.subscribe(viewer, &telemetry(fields)).await, world.subscribe(viewer, &telemetry(fields)).await];
            let asked = world.ask(viewer, &format!("{{ device(id: {}) {{ {fields} }} }}", world.devices[0])).await;
            // A token without DEVICES_READ may not ask for a device, but its readings name theirs.
            let is_hidden = asked["data"]["device"].is_null();
            world.report(0);
            let codes = |answer: &Value| {
                let errors = answer["errors"].as_array().cloned().unwrap_or_default();
                errors.into_iter().map(|error| error["extensions"]["code"].clone()).collect::<Vec<_>>()
            };
            for stream in &mut streams {
                let event = next(stream).await;
                let device = &event["data"]["telemetry"]["device"];
                if is_hidden {
                    assert!(codes(&event).iter().all(|code| code == "FORBIDDEN"), "{fields}: {event}");
                    assert!(device["name"].is_null() && (fields != "id key" || device["key"] == "d0"), "{event}");
                } else {
                    assert_eq!((device, codes(&event)), (&asked["data"]["device"], codes(&asked)), "{fields}: {event}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_commands_and_configurations_know_their_device() {
    let world = World::start().await;
    let (graph, (home, device)) = (&world.graph, world.ids());
    let mut commands = graph.services.commands.hub().subscribe(home, None);
    let mut configs = graph.config_hub.subscribe(home, None);
    for mutation in [
        "mutation($d: ID!) { sendCommand(input: {deviceId: $d, type: \"X\"}) { id } }",
        "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 1}}) { version } }",
    ] {
        graph.ask(&world.ann, mutation, json!({"d": world.devices[0]})).await;
    }
    let (HubEvent::Published(command), HubEvent::Published(config)) = (commands.recv().await, configs.recv().await)
    else {
        panic!("nothing was published")
    };
    let query = "query($d: ID!) { device(id: $d) { KNOWN } }".replace("KNOWN", KNOWN);
    let expected = graph.ask(&world.ann, &query, json!({"d": world.devices[0]})).await["device"].clone();

    for (field, selection) in [
        ("deviceStatus", "{ online KNOWN }"),
        ("commandUpdates", "{ status device { KNOWN } }"),
        ("configUpdates", "{ status device { KNOWN } }"),
    ] {
        let query = format!("subscription($h: ID) {{ {field}(homeId: $h) {} }}", selection.replace("KNOWN", KNOWN));
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(world.subscribe(&world.ann, &query).await);
        }
        let publish = |n: i64| {
            let later = TimeDelta::seconds(n);
            let command = Command { updated_at: command.updated_at + later, ..(*command.value).clone() };
            let config = DeviceConfig { updated_at: config.updated_at + later, ..(*config.value).clone() };
            graph.services.states.publish(home, device, &state(&world.devices[0], n % 2 == 0));
            graph.services.commands.hub().publish(home, device, &Arc::new(command));
            graph.config_hub.publish(home, device, &Arc::new(config));
        };
        // The first event loads the devices of the home.
        publish(1);
        for stream in &mut streams {
            next(stream).await;
        }
        let (statements, rendered) = (world.n_statements(), world.n_rendered());
        for n in 2..12 {
            publish(n);
            for stream in &mut streams {
                let event = next(stream).await;
                let mut object = event["data"][field].clone();
                let named = if field == "deviceStatus" { object["online"].take().is_boolean() } else { false };
                let of = if named { without(&mut object, "online") } else { object["device"].clone() };
                assert_eq!(of, expected, "{event}");
            }
        }
        assert_eq!((world.n_statements() - statements, world.n_rendered() - rendered), (0, 10), "{field}");
    }
}

fn without(object: &mut Value, field: &str) -> Value {
    object.as_object_mut().unwrap().remove(field);
    object.take()
}
