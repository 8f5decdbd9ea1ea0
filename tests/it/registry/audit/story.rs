//! Every change that writes an entry, in the order of a home's life, and its actor.

use std::collections::HashMap;

use async_graphql::Request;
use serde_json::{Value, json};
use smarthome::auth::{Actor, Principal};
use smarthome::graphql::limits::budget::Budget;
use smarthome::graphql::{Peer, Viewer};
use smarthome::ids::{SessionId, UserId};

use crate::registry::{Graph, Person, text};

/// The address of every client.
pub(super) const ADDRESS: &str = "2001:db8::7";

/// The actor, the parts of the answer to remember (name and JSON pointer), the mutation, and the expected entries,
/// oldest first: action, target, details. `@name` is replaced by the remembered part.
pub(super) type Step = (
    Character,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Character {
    Ann,
    Bob,
    /// An integration.
    Robot,
}
use Character::{Ann, Bob, Robot};

pub(super) const STEPS: &[Step] = &[
    (
        Ann,
        &[("home", "/createHome/id")],
        "mutation { createHome(input: {name: \"Test\"}) { id } }",
        &[("home.create", "home @home", r#"{"id": "@home", "key": "@home", "name": "Test", "timezone": "UTC"}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { updateHome(input: {id: \"@home\", name: \"Villa\", timezone: \"UTC\"}) { id } }",
        &[("home.update", "home @home", r#"{"id": "@home", "name": {"old": "Test", "new": "Villa"}}"#)],
    ),
    (
        Ann,
        &[("room", "/createRoom/id")],
        "mutation { createRoom(input: {homeId: \"@home\", name: \"Kitchen\"}) { id } }",
        &[("room.create", "room @room (Kitchen)", r#"{"id": "@room", "name": "Kitchen"}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { renameRoom(input: {id: \"@room\", name: \"kitchen\"}) { id } }",
        &[("room.rename", "room @room (kitchen)", r#"{"id": "@room", "name": {"old": "Kitchen", "new": "kitchen"}}"#)],
    ),
    (
        Ann,
        &[("device", "/registerDevice/device/id"), ("secret1", "/registerDevice/credentials/password")],
        "mutation { registerDevice(input: {homeId: \"@home\", key: \"ESP32_001\", name: \"Lamp\", type: LIGHT, \
         macAddress: \"24:6F:28:AA:BB:CC\", roomId: \"@room\"}) { device { id } credentials { password } } }",
        &[(
            "device.register",
            "device @device (ESP32_001)",
            r#"{"id": "@device", "key": "ESP32_001", "name": "Lamp", "type": "LIGHT",
                "macAddress": "24:6F:28:AA:BB:CC", "roomId": "@room"}"#,
        )],
    ),
    (
        Ann,
        &[("d1", "/registerDevices/0/device/id"), ("d2", "/registerDevices/1/device/id")],
        "mutation { registerDevices(input: {homeId: \"@home\", devices: [{key: \"b\", name: \"B\"}, {key: \"a\", name: \"A\"}]}) \
         { device { id } } }",
        &[
            ("device.register", "device @d1 (b)", r#"{"id": "@d1", "key": "b", "name": "B", "type": "SENSOR_NODE"}"#),
            ("device.register", "device @d2 (a)", r#"{"id": "@d2", "key": "a", "name": "A", "type": "SENSOR_NODE"}"#),
        ],
    ),
    (
        Ann,
        &[],
        "mutation { updateDevice(input: {id: \"@device\", name: \"Lamp\", type: DOOR, macAddress: null, roomId: null}) { id } }",
        &[(
            "device.update",
            "device @device (ESP32_001)",
            r#"{"id": "@device", "type": {"old": "LIGHT", "new": "DOOR"}, "roomId": {"old": "@room", "new": null},
                "macAddress": {"old": "24:6F:28:AA:BB:CC", "new": null}}"#,
        )],
    ),
    (
        Ann,
        &[("secret2", "/rotateDeviceCredentials/password")],
        "mutation { rotateDeviceCredentials(input: {deviceId: \"@device\", graceSeconds: 60}) { password } }",
        &[("device.rotate_credentials", "device @device (ESP32_001)", r#"{"id": "@device", "graceSeconds": 60}"#)],
    ),
    (
        Ann,
        &[("c1", "/sendCommand/id")],
        "mutation { sendCommand(input: {deviceId: \"@device\", type: \"UNLOCK\", payload: {pin: \"canary-7f3a91\"}, \
         onStale: SUPERSEDE, idempotencyKey: \"k\"}) { id } }",
        &[(
            "command.send",
            "command @c1 to device @device",
            r#"{"id": "@c1", "type": "UNLOCK", "deviceId": "@device"}"#,
        )],
    ),
    (
        Ann,
        &[("c2", "/sendCommand/id")],
        "mutation { sendCommand(input: {deviceId: \"@device\", type: \"UNLOCK\", onStale: SUPERSEDE}) { id } }",
        &[(
            "command.send",
            "command @c2 to device @device",
            r#"{"id": "@c2", "type": "UNLOCK", "deviceId": "@device", "supersedes": ["@c1"]}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { cancelCommand(id: \"@c2\") { id } }",
        &[(
            "command.cancel",
            "command @c2 to device @device",
            r#"{"id": "@c2", "type": "UNLOCK", "deviceId": "@device"}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { pushConfig(input: {deviceId: \"@device\", config: {sampleRate: 5, \
         wifiConfig: {ssid: \"home\", password: \"canary-7f3a91\"}}}) { version } }",
        &[(
            "config.push",
            "device @device (ESP32_001)",
            r#"{"id": "@device", "version": 1, "keys": ["sampleRate", "wifiConfig"]}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { pushConfig(input: {deviceId: \"@device\", config: {wifiConfig: {password: \"canary-7f3a91-2\"}}}) { version } }",
        &[("config.push", "device @device (ESP32_001)", r#"{"id": "@device", "version": 2, "keys": ["wifiConfig"]}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { rollbackConfig(input: {deviceId: \"@device\", toVersion: 1}) { version } }",
        &[(
            "config.rollback",
            "device @device (ESP32_001)",
            r#"{"id": "@device", "version": 3, "toVersion": 1, "keys": ["wifiConfig"]}"#,
        )],
    ),
    (
        Ann,
        &[("t1", "/createIntegrationToken/integrationToken/id"), ("secret4", "/createIntegrationToken/token")],
        "mutation { createIntegrationToken(input: {homeId: \"@home\", name: \"Robot\", scopes: [COMMANDS_SEND, DEVICES_READ], \
         deviceIds: [\"@device\"], expiresAt: \"2099-01-01T00:00:00Z\"}) { token integrationToken { id } } }",
        &[(
            "token.create",
            "integration token @t1 (Robot)",
            r#"{"id": "@t1", "name": "Robot", "scopes": ["DEVICES_READ", "COMMANDS_SEND"], "deviceIds": ["@device"],
                "expiresAt": "2099-01-01T00:00:00Z"}"#,
        )],
    ),
    (
        Robot,
        &[("c3", "/sendCommand/id")],
        "mutation { sendCommand(input: {deviceId: \"@device\", type: \"RESET\"}) { id } }",
        &[(
            "command.send",
            "command @c3 to device @device",
            r#"{"id": "@c3", "type": "RESET", "deviceId": "@device"}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { revokeIntegrationToken(id: \"@t1\") }",
        &[("token.revoke", "integration token @t1 (Robot)", r#"{"id": "@t1", "name": "Robot"}"#)],
    ),
    (
        Ann,
        &[("i1", "/inviteMember/id"), ("secret3", "/inviteMember/token")],
        "mutation { inviteMember(input: {homeId: \"@home\", email: \"@bob\", role: ADMIN}) { id token } }",
        &[("invitation.create", "invitation @i1 (@bob)", r#"{"id": "@i1", "email": "@bob", "role": "ADMIN"}"#)],
    ),
    (
        Ann,
        &[("i2", "/inviteMember/id")],
        "mutation { inviteMember(input: {homeId: \"@home\", email: \"@bob\", role: GUEST}) { id } }",
        &[(
            "invitation.create",
            "invitation @i2 (@bob)",
            r#"{"id": "@i2", "email": "@bob", "role": "GUEST", "replaces": ["@i1"]}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { revokeInvitation(id: \"@i2\") }",
        &[("invitation.revoke", "invitation @i2 (@bob)", r#"{"id": "@i2", "email": "@bob", "role": "GUEST"}"#)],
    ),
    (
        Ann,
        &[("i3", "/inviteMember/id"), ("token", "/inviteMember/token")],
        "mutation { inviteMember(input: {homeId: \"@home\", email: \"@bob\"}) { id token } }",
        &[("invitation.create", "invitation @i3 (@bob)", r#"{"id": "@i3", "email": "@bob", "role": "MEMBER"}"#)],
    ),
    (
        Bob,
        &[],
        "mutation { acceptInvitation(token: \"@token\") { id } }",
        &[("invitation.accept", "invitation @i3 (@bob)", r#"{"id": "@i3", "email": "@bob", "role": "MEMBER"}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { setMemberRole(input: {homeId: \"@home\", userId: \"@uid\", role: ADMIN}) { role } }",
        &[("member.role", "member @bob", r#"{"id": "@uid", "role": {"old": "MEMBER", "new": "ADMIN"}}"#)],
    ),
    (
        Bob,
        &[("i4", "/inviteMember/id")],
        "mutation { inviteMember(input: {homeId: \"@home\", email: \"new@test.example\"}) { id } }",
        &[(
            "invitation.create",
            "invitation @i4 (new@test.example)",
            r#"{"id": "@i4", "email": "new@test.example", "role": "MEMBER"}"#,
        )],
    ),
    (
        Bob,
        &[("t2", "/createIntegrationToken/integrationToken/id")],
        "mutation { createIntegrationToken(input: {homeId: \"@home\", name: \"Other\", scopes: [DEVICES_READ]}) \
         { integrationToken { id } } }",
        &[(
            "token.create",
            "integration token @t2 (Other)",
            r#"{"id": "@t2", "name": "Other", "scopes": ["DEVICES_READ"]}"#,
        )],
    ),
    (
        Ann,
        &[],
        "mutation { setMemberRole(input: {homeId: \"@home\", userId: \"@uid\", role: GUEST}) { role } }",
        &[(
            "member.role",
            "member @bob",
            r#"{"id": "@uid", "role": {"old": "ADMIN", "new": "GUEST"}, "endedInvitations": ["@i4"],
                "endedTokens": ["@t2"]}"#,
        )],
    ),
    (
        Bob,
        &[],
        "mutation { removeMember(input: {homeId: \"@home\", userId: \"@uid\"}) }",
        &[("member.remove", "member @bob", r#"{"id": "@uid", "role": "GUEST"}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { deleteRoom(id: \"@room\") }",
        &[("room.delete", "room @room (kitchen)", r#"{"id": "@room", "name": "kitchen"}"#)],
    ),
    (
        Ann,
        &[],
        "mutation { deleteDevice(id: \"@device\") }",
        &[("device.delete", "device @device (ESP32_001)", r#"{"id": "@device", "key": "ESP32_001", "name": "Lamp"}"#)],
    ),
    (Ann, &[], "mutation { deleteHome(id: \"@home\") }", &[("home.delete", "home @home", r#"{"id": "@home"}"#)]),
];

/// Every table that a mutation may change, as one text.
const EVERYTHING: &str = "select string_agg(coalesce(md5, '-'), ' ' order by name) from (select 1 as name, md5(string_agg(t::text, ' ' order by id)) from homes t \
    union all select 2, md5(string_agg(t::text, ' ' order by home_id, user_id)) from memberships t \
    union all select 3, md5(string_agg(t::text, ' ' order by id)) from invitations t \
    union all select 4, md5(string_agg(t::text, ' ' order by id)) from rooms t \
    union all select 5, md5(string_agg(t::text, ' ' order by id)) from devices t \
    union all select 6, md5(string_agg(t::text, ' ' order by id)) from device_credentials t \
    union all select 7, md5(string_agg(t::text, ' ' order by id)) from commands t \
    union all select 8, md5(string_agg(t::text, ' ' order by device_id, version)) from device_configs t \
    union all select 9, md5(string_agg(t::text, ' ' order by id)) from audit_log t \
    union all select 10, md5(string_agg(t::text, ' ' order by id)) from integration_tokens t) all_of_it";

/// Two people, and the remembered parts of the answers.
pub(super) struct Story {
    pub(super) graph: Graph,
    ann: Person,
    bob: Person,
    pub(super) known: HashMap<String, String>,
}

impl Story {
    pub(super) async fn begin() -> Self {
        let graph = Graph::start().await;
        let (ann, bob) = (graph.person().await, graph.person().await);
        let ann = signed_in(&graph, ann);
        let email = text(&graph.ask(&bob, "{ me { email } }", json!({})).await["me"]["email"]);
        let known = HashMap::from([("bob".to_owned(), email), ("uid".to_owned(), user(&bob).to_string())]);
        Self { graph, ann, bob, known }
    }

    /// Replaces each `@name` by the remembered part, the longest names first.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut names: Vec<_> = self.known.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.iter().fold(template.to_owned(), |text, name| text.replace(&format!("@{name}"), &self.known[*name]))
    }

    pub(super) async fn person(&self, actor: Character) -> Person {
        match actor {
            Ann => self.ann.clone(),
            Bob => self.bob.clone(),
            Robot => {
                let id: SessionId = self.known["t1"].parse().unwrap();
                let row = "select user_id from integration_tokens where id::text = $1";
                let user = self.graph.sql.query_one(row, &[&self.known["t1"]]).await.unwrap().get(0);
                let principal = self.ann.0.clone().unwrap();
                Person(Some(Principal {
                    user: UserId::from_database(user),
                    actor: Actor::Integration(id),
                    ..principal
                }))
            }
        }
    }

    pub(super) async fn answer(&self, actor: &Person, query: &str) -> Value {
        let request = Request::new(self.fill(query)).data(Budget::default()).data(Viewer(actor.0.clone()));
        let request = request.data(Peer(Some(ADDRESS.parse().unwrap())));
        let schema = self.graph.schema.clone();
        let response = tokio::spawn(async move { schema.execute(request).await }).await.unwrap();
        serde_json::to_value(response).unwrap()
    }

    pub(super) async fn step(&mut self, (actor, remember, query, _): &Step) {
        let answer = self.answer(&self.person(*actor).await, query).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        for (name, pointer) in *remember {
            let value = answer["data"].pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {answer}"));
            self.known.insert((*name).to_owned(), text(value));
        }
    }

    /// The entries after an id, as JSON.
    pub(super) async fn entries_after(&self, id: i64) -> Vec<Value> {
        let rows = "select row_to_json(audit_log)::text from audit_log where id > $1 order by id";
        let rows = self.graph.sql.query(rows, &[&id]).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(row.get::<_, &str>(0)).unwrap()).collect()
    }

    pub(super) async fn newest(&self) -> i64 {
        self.graph.sql.query_one("select coalesce(max(id), 0) from audit_log", &[]).await.unwrap().get(0)
    }

    pub(super) async fn everything(&self) -> String {
        self.graph.sql.query_one(EVERYTHING, &[]).await.unwrap().get(0)
    }
}

/// The same person by a session instead of an operator's token.
pub(super) fn signed_in(graph: &Graph, actor: Person) -> Person {
    let principal = actor.0.unwrap();
    Person(Some(Principal { actor: Actor::Session(SessionId::generate(graph.clock.now())), ..principal }))
}

pub(super) fn user(actor: &Person) -> i64 {
    actor.0.as_ref().unwrap().user.get()
}
