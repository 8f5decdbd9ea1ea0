//! Applies every event to a command in every status, through the real statements, and compares the result with the
//! table of transitions.

use smarthome::commands::{Event, Facts, next_status};

use super::*;

/// A row that can exist in the database.
#[derive(Debug, Clone, Copy)]
struct State {
    status: CommandStatus,
    facts: Facts,
}

fn states() -> Vec<State> {
    use CommandStatus::{Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
    let facts = |is_dispatched, is_acknowledged| Facts { is_dispatched, is_acknowledged, is_expired: false };
    let (waiting, dispatched, acknowledged) = (facts(false, false), facts(true, false), facts(true, true));
    let reachable = [
        (Pending, vec![waiting, dispatched]),
        (Sent, vec![dispatched]),
        (Acked, vec![acknowledged]),
        (Succeeded, vec![dispatched, acknowledged]),
        (Failed, vec![dispatched, acknowledged]),
        (TimedOut, vec![dispatched, acknowledged]),
        (Expired, vec![waiting, dispatched]),
        (Cancelled, vec![waiting]),
    ];
    let mut states = Vec::new();
    for (status, facts) in reachable {
        for facts in facts {
            states.extend([false, true].map(|is_expired| State { status, facts: Facts { is_expired, ..facts } }));
        }
    }
    states
}

impl Rig {
    /// Sets the columns of the command to this state. A deadline of an open command has passed.
    async fn set(&self, command: CommandId, State { status, facts }: State) {
        let now = self.clock.now();
        let (past, future) = (now - TimeDelta::seconds(10), now + TimeDelta::seconds(1_000));
        let timestamp = |is_set: bool| if is_set { format!("'{past}'") } else { "null".to_owned() };
        let is_sent = !matches!(status, CommandStatus::Pending | CommandStatus::Expired | CommandStatus::Cancelled);
        let Facts { is_dispatched, is_acknowledged, is_expired } = facts;
        let update = format!(
            "update commands set status = '{status}', dispatched_at = {}, acked_at = {}, sent_at = {}, finished_at = {}, \
             deadline = {}, expires_at = '{}', no_subscribers = false, \
             may_have_been_delivered = false, error = null, resends = 0, superseded_by = null, confirmed_by = null where id = '{}'",
            timestamp(is_dispatched),
            timestamp(is_acknowledged),
            timestamp(is_sent),
            timestamp(!status.is_open()),
            timestamp(status.is_open()),
            if is_expired { past } else { future },
            command.as_uuid(),
        );
        assert_eq!(self.graph.sql.execute(&update, &[]).await.unwrap(), 1);
    }

    async fn apply(&mut self, command: CommandId, event: Event) {
        match event {
            Event::Confirmed => self.record(command, PublishOutcome::Confirmed).await,
            Event::NoSubscribers => self.record(command, PublishOutcome::NoSubscribers).await,
            Event::Refused => self.record(command, PublishReport::refused("quota exceeded")).await,
            Event::NotSent => self.record(command, PublishOutcome::NotSent).await,
            Event::ExpiredUnsent => self.record(command, PublishOutcome::Expired).await,
            Event::DeadlinePassed => drop(self.handle_deadlines().await),
            Event::SessionLost => self.lose_broker_session().await,
            Event::Returned => {
                self.returned.add([self.device(0)]);
                self.outbox.requeue(&mut self.conn, self.clock.now()).await.unwrap();
            }
            Event::DeviceAcked => drop(self.answer(command, AnswerKind::Acked).await),
            Event::DeviceSucceeded => drop(self.answer(command, succeeded()).await),
            Event::DeviceFailed => drop(self.answer(command, failed()).await),
            Event::EffectObserved => drop(self.answer(command, AnswerKind::Effect).await),
            Event::CancelRequested => {
                let answer = self.graph.answer(&self.ann, CANCEL, json!({"id": command.to_string()})).await;
                let code = &answer["errors"][0]["extensions"]["code"];
                assert!(answer.get("errors").is_none() || code == "CONFLICT", "{answer}");
            }
            Event::NewerSent => {
                send(&self.graph, &self.ann, &power(&self.devices[0], false)).await;
                let newer = format!("delete from commands where id <> '{}'", command.as_uuid());
                self.graph.sql.execute(&newer, &[]).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_in_every_status_does_what_the_table_says() {
    let mut rig = Rig::start(1).await;
    let id = text(&send(&rig.graph, &rig.ann, &power(&rig.devices[0], true)).await["id"]);
    let command: CommandId = id.parse().unwrap();
    // The device came back after every attempt.
    let active = "insert into device_states (device_id, last_seen_at, silent_since, returned_at) \
                  values ($1, '2100-01-01Z', '2000-01-01Z', '2100-01-01Z')";
    rig.graph.sql.execute(active, &[&number(&rig.devices[0])]).await.unwrap();
    let mut wrong = Vec::new();
    for state in states() {
        for event in Event::ALL {
            rig.set(command, state).await;
            rig.apply(command, *event).await;
            let (status, expected) = (rig.status(command).await, next_status(state.status, *event, state.facts));
            if status != expected.unwrap_or(state.status) {
                wrong.push(format!("{state:?}, {event:?}: {status:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
