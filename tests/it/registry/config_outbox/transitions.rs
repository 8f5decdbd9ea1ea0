//! Applies every event to a version in every status, through the real statements, and compares the result with the
//! table of transitions.

use smarthome::device_config::{
    self, ConfigAnswer, ConfigAnswerKind, ConfigEvent, ConfigStatus, TRANSITIONS, next_status,
};

use super::*;

/// The rig of one test: a device has one version, and a message with it is in flight.
struct Rig<'a> {
    sender: Sender<'a>,
    person: Person,
    home: String,
}

struct InFlight {
    device: String,
    message: OutboxMessage<ConfigKey>,
}

impl Rig<'_> {
    /// Registers a device with a version in this status, and claims its message.
    async fn version_in(&mut self, status: ConfigStatus, key: &str) -> InFlight {
        let register = "mutation($h: ID!, $k: String!) { registerDevice(input: {homeId: $h, key: $k, name: \"N\"}) { device { id } } }";
        let graph = self.sender.graph;
        let made = graph.ask(&self.person, register, json!({"h": self.home, "k": key})).await;
        let device = made["registerDevice"]["device"]["id"].as_str().unwrap().to_owned();
        push(graph, &self.person, &device, json!({"sampleRate": 1})).await;
        let outgoing = self.sender.claim().await;
        let message = outgoing.into_iter().find(|message| message.device == device.parse().unwrap()).unwrap();
        let update = "update device_configs set status = $2 where device_id = $1";
        graph.sql.execute(update, &[&number(&device), &status.as_str()]).await.unwrap();
        InFlight { device, message }
    }

    async fn apply(&mut self, event: ConfigEvent, version: &InFlight) {
        let outgoing = std::slice::from_ref(&version.message);
        match event {
            ConfigEvent::Confirmed => self.sender.record(outgoing, PublishOutcome::Confirmed).await,
            ConfigEvent::NotConfirmed => self.sender.record(outgoing, PublishOutcome::Unknown).await,
            ConfigEvent::SessionLost => self.sender.lose_session().await,
            ConfigEvent::DeviceApplied => self.answer(version, ConfigAnswerKind::Applied).await,
            ConfigEvent::DeviceRejected => self.answer(version, ConfigAnswerKind::Rejected { errors: None }).await,
            ConfigEvent::NewerPushed => {
                push(self.sender.graph, &self.person, &version.device, json!({"sampleRate": 2})).await;
            }
        }
    }

    async fn answer(&mut self, version: &InFlight, kind: ConfigAnswerKind) {
        let at = self.sender.graph.clock.now();
        let answer = ConfigAnswer { device: version.device.parse().unwrap(), version: 1, kind, at };
        device_config::record_answers(&self.sender.conn, &[&answer]).await.unwrap();
    }

    async fn status(&self, version: &InFlight) -> ConfigStatus {
        let first = "select status from device_configs where device_id = $1 and version = 1";
        let row = self.sender.graph.sql.query_one(first, &[&number(&version.device)]).await.unwrap();
        row.get::<_, String>(0).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_changes_every_status_as_the_table_says() {
    let graph = Graph::start().await;
    let person = graph.person().await;
    let home = graph.home(&person).await;
    let mut rig = Rig { sender: Sender::new(&graph).await, person, home };
    let mut n_changes = 0;
    for (n, status) in ConfigStatus::ALL.iter().enumerate() {
        for (m, event) in ConfigEvent::ALL.iter().enumerate() {
            let version = rig.version_in(*status, &format!("d{n}-{m}")).await;
            rig.apply(*event, &version).await;
            let expected = next_status(*status, *event).unwrap_or(*status);
            assert_eq!(rig.status(&version).await, expected, "{status}: {event}");
            n_changes += usize::from(expected != *status);
        }
    }
    assert_eq!(n_changes, TRANSITIONS.len());
}
