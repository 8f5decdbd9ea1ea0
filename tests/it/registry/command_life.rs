//! The life of a command at the database: what the dispatcher, the clock and the devices' answers do to
//! its row, each in its turn and out of turn.

mod answers;

use std::time::Duration;

use serde_json::{Value, json};
use smarthome::clock::Clock;
use smarthome::commands::{
    Answer, AnswerKind, Command, CommandOutbox, CommandStatus, ConfirmedBy, Observation, find_for_ingest,
    record_answers,
};
use smarthome::db;
use smarthome::downlink::DeliveryOutcome;
use smarthome::ids::{CommandId, DeviceId};
use smarthome::outbox::Outbox;

use super::commands::{power, send, start};
use super::{Graph, Person, number, text};

/// A device, and what dispatcher and ingest would do for it.
struct Life {
    graph: Graph,
    ann: Person,
    devices: Vec<String>,
    outbox: CommandOutbox,
    conn: db::Connection,
    clock: Clock,
}

impl Life {
    async fn start(n_devices: usize) -> Self {
        let (graph, ann, _, devices) = start(n_devices).await;
        let commands = &graph.services.commands;
        let (hub, expectations) = (commands.hub().clone(), commands.expectations().clone());
        let outbox = CommandOutbox::new(hub, expectations, graph.services.metrics.clone());
        let conn = db::connect(&graph.database.url(), None).await.unwrap();
        let clock = graph.clock.clone();
        Self { graph, ann, devices, outbox, conn, clock }
    }

    fn device(&self, n: usize) -> DeviceId {
        DeviceId::from_database(number(&self.devices[n]))
    }

    async fn send(&self, change: Value) -> CommandId {
        let mut input = json!({"deviceId": self.devices[0], "type": "BLINK"});
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        text(&send(&self.graph, &self.ann, &input).await["id"]).parse().unwrap()
    }

    /// What goes out: one per device at most.
    async fn take(&mut self) -> Vec<(CommandId, Value, String)> {
        let devices: Vec<_> = (0..self.devices.len()).map(|n| self.device(n)).collect();
        let taken = self.outbox.claim(&mut self.conn, self.clock.now(), &devices).await.unwrap();
        let outgoing = taken.into_iter().map(|out| {
            let topic = format!("{}/{}", out.message.home, out.message.device);
            (out.key, serde_json::from_slice(&out.message.payload).unwrap(), topic)
        });
        outgoing.collect()
    }

    async fn due(&mut self, busy: &[DeviceId]) -> Vec<DeviceId> {
        self.outbox.find_due(&mut self.conn, self.clock.now(), busy, 10).await.unwrap()
    }

    async fn settle(&mut self, command: CommandId, outcome: DeliveryOutcome) {
        self.outbox.record_outcomes(&mut self.conn, self.clock.now(), &[(command, outcome)]).await.unwrap();
    }

    /// Some seconds pass, and the clock is heeded.
    async fn pass(&mut self, seconds: u64) {
        self.clock.advance(chrono::TimeDelta::from_std(Duration::from_secs(seconds)).unwrap());
        self.outbox.tick(&mut self.conn, self.clock.now()).await.unwrap();
    }

    async fn answer(&mut self, command: CommandId, kind: AnswerKind) -> Option<CommandStatus> {
        let answer = Answer { command, device: self.device(0), kind, at: self.clock.now() };
        let changed = record_answers(&self.conn, &[&answer]).await.unwrap();
        self.outbox_hears(&changed);
        changed.first().map(|command| command.status)
    }

    fn outbox_hears(&self, changed: &[Command]) {
        self.graph.services.commands.expectations().update(changed);
    }

    async fn find(&self, command: CommandId) -> Command {
        find_for_ingest(&self.conn, &[command]).await.unwrap().remove(0)
    }

    async fn status(&self, command: CommandId) -> CommandStatus {
        self.find(command).await.status
    }
}

fn succeeded() -> AnswerKind {
    AnswerKind::Succeeded { result: Some(json!({"z": 1})) }
}

fn failed() -> AnswerKind {
    AnswerKind::Failed { error: Some("jam\0med".to_owned()), result: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_is_the_seeds_json_to_where_the_device_listens() {
    let mut life = Life::start(2).await;
    let (first, second) =
        (life.send(json!({"payload": {"a": 1}, "correlationId": "c"})).await, life.send(json!({})).await);
    let other = text(&send(&life.graph, &life.ann, &power(&life.devices[1], true)).await["id"]);
    let insert =
        "insert into device_states (device_id, online, home_segment, device_segment) values ($1, true, 'h', 'MAC')";
    life.graph.sql.execute(insert, &[&number(&life.devices[1])]).await.unwrap();
    assert_eq!(life.due(&[]).await, [life.device(0), life.device(1)]);
    assert_eq!(life.due(&[life.device(0)]).await, [life.device(1)]);
    let taken = life.take().await;
    assert_eq!(taken.len(), 2);
    let (_, wire, topic) = taken.iter().find(|(id, ..)| *id == first).expect("the older one");
    let found = life.find(first).await;
    let rfc3339 = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let expected = json!({
        "commandId": first.to_string(), "timestamp": rfc3339(found.created_at), "type": "BLINK", "payload": {"a": 1},
        "source": "USER", "correlationId": "c", "expiresAt": rfc3339(found.expires_at),
    });
    assert_eq!(*wire, expected);
    assert!(topic.ends_with("/d0"), "{topic}");
    let (.., topic) = taken.iter().find(|(id, ..)| id.to_string() == other).unwrap();
    assert_eq!(topic, "h/MAC");
    // Handed out is not sent, and what nobody settled goes again, under the same id.
    assert_eq!((found.status, found.sent_at), (CommandStatus::Pending, None));
    life.settle(first, DeliveryOutcome::Unknown).await;
    let again = life.take().await;
    assert!(again.iter().any(|(id, ..)| *id == first));
    assert_eq!(life.find(first).await.dispatched_at, found.dispatched_at);
    life.settle(first, DeliveryOutcome::Confirmed).await;
    assert_eq!(life.status(first).await, CommandStatus::Sent);
    assert!(life.take().await.iter().any(|(id, ..)| *id == second), "in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_said_goodbye_gets_nothing_until_it_is_heard_again() {
    let mut life = Life::start(1).await;
    let command = life.send(json!({"expiresInSeconds": 60})).await;
    let state =
        "insert into device_states (device_id, away) values ($1, $2) on conflict (device_id) do update set away = $2";
    let device = number(&life.devices[0]);
    life.graph.sql.execute(state, &[&device, &true]).await.unwrap();
    assert!(life.due(&[]).await.is_empty());
    life.graph.sql.execute(state, &[&device, &false]).await.unwrap();
    assert_eq!(life.due(&[]).await.len(), 1);
    life.graph.sql.execute(state, &[&device, &true]).await.unwrap();
    life.pass(61).await;
    let expired = life.find(command).await;
    assert_eq!(expired.status, CommandStatus::Expired);
    assert_eq!(expired.error.as_deref(), Some("it could not be sent before it expired"));
    assert!(life.take().await.is_empty(), "an expired command never goes out");
}

/// How far it has come, by what was seen of it.
async fn reach(life: &mut Life, status: CommandStatus) -> CommandId {
    use CommandStatus::{Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
    let command = life.send(json!({"expiresInSeconds": 60})).await;
    if status == Cancelled {
        let cancel = "mutation($id: ID!) { cancelCommand(id: $id) { id } }";
        life.graph.ask(&life.ann, cancel, json!({"id": command.to_string()})).await;
    } else {
        life.take().await;
    }
    if status == Expired {
        life.pass(61).await;
    }
    if !matches!(status, Pending | Cancelled | Expired) {
        life.settle(command, DeliveryOutcome::Confirmed).await;
    }
    match status {
        Acked => drop(life.answer(command, AnswerKind::Acked).await),
        Succeeded => drop(life.answer(command, succeeded()).await),
        Failed => drop(life.answer(command, failed()).await),
        TimedOut => life.pass(31).await,
        Pending | Sent | Expired | Cancelled => {}
    }
    assert_eq!(life.status(command).await, status);
    life.clock.advance(chrono::TimeDelta::seconds(1));
    command
}

/// Takes what is left out of the way of the next command.
async fn clear(life: &Life) {
    life.graph.sql.execute("delete from commands", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_says_what_did_not_come() {
    let mut life = Life::start(1).await;
    let sent = reach(&mut life, CommandStatus::TimedOut).await;
    assert_eq!(life.find(sent).await.error.as_deref(), Some("no answer from the device"));
    let acked = reach(&mut life, CommandStatus::Acked).await;
    // The wait starts anew with the acknowledgement, and its deadline is what the tick announces.
    let next = life.outbox.tick(&mut life.conn, life.clock.now()).await.unwrap();
    assert_eq!(next, life.find(acked).await.acked_at.map(|at| at + chrono::TimeDelta::seconds(30)));
    life.pass(31).await;
    let found = life.find(acked).await;
    assert_eq!((found.status, found.error.unwrap().contains("never reported")), (CommandStatus::TimedOut, true));
    // A second ACKED is no news, an outcome is.
    assert_eq!(life.answer(acked, AnswerKind::Acked).await, None);
    assert_eq!(life.answer(acked, succeeded()).await, Some(CommandStatus::Succeeded));
    assert_eq!(life.find(acked).await.error, None);
    assert_eq!(life.outbox.tick(&mut life.conn, life.clock.now()).await.unwrap(), None);
    let counted = |status| {
        let label = smarthome::metrics::Status { status };
        life.graph.services.metrics.commands.get_or_create(&label).get()
    };
    assert_eq!((counted("PENDING"), counted("SENT"), counted("TIMED_OUT")), (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_word_changes_no_more_than_it_says() {
    let mut life = Life::start(1).await;
    // Refused: it waits with the reason, and goes again.
    let command = reach(&mut life, CommandStatus::Pending).await;
    life.settle(command, DeliveryOutcome::Refused("quota exceeded")).await;
    let found = life.find(command).await;
    assert_eq!((found.status, found.error.as_deref()), (CommandStatus::Pending, Some("quota exceeded")));
    assert_eq!(life.take().await.len(), 1);
    life.settle(command, DeliveryOutcome::Confirmed).await;
    let found = life.find(command).await;
    assert_eq!((found.status, found.error, found.sent_at.is_some()), (CommandStatus::Sent, None, true));
    // Lost by the broker: it waits again. What the device has is left alone, what is late stays away.
    life.outbox.on_broker_session_lost(&mut life.conn, life.clock.now(), life.clock.now()).await.unwrap();
    let found = life.find(command).await;
    assert_eq!((found.status, found.sent_at), (CommandStatus::Pending, None));
    life.settle(command, DeliveryOutcome::Confirmed).await;
    life.answer(command, AnswerKind::Acked).await;
    life.outbox.on_broker_session_lost(&mut life.conn, life.clock.now(), life.clock.now()).await.unwrap();
    assert_eq!(life.status(command).await, CommandStatus::Acked);
    clear(&life).await;
    // Too late to leave, and confirmed after all.
    let command = reach(&mut life, CommandStatus::Pending).await;
    life.settle(command, DeliveryOutcome::Expired).await;
    assert_eq!(life.status(command).await, CommandStatus::Expired);
    life.settle(command, DeliveryOutcome::Confirmed).await;
    let found = life.find(command).await;
    assert_eq!((found.status, found.sent_at.is_some()), (CommandStatus::Expired, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_answer_was_lost_is_told_by_the_next_tick() {
    use smarthome::hub::HubEvent;
    let mut life = Life::start(1).await;
    let command = reach(&mut life, CommandStatus::Pending).await;
    let access = {
        let home = life.find(command).await.home;
        let who = life.ann.0.clone().unwrap();
        life.graph.services.homes.access(&who, home, smarthome::homes::Permission::Read).await.unwrap()
    };
    let mut listener = life.graph.services.commands.hub().subscribe(access.home());
    // Cut off between the statement and its answer: it waits for the row, so its answer can't come.
    life.graph.sql.batch_execute("begin; select from commands for update").await.unwrap();
    {
        let outcomes = [(command, DeliveryOutcome::Confirmed)];
        let mut conn = db::connect(&life.graph.database.url(), None).await.unwrap();
        let settling = life.outbox.record_outcomes(&mut conn, life.clock.now(), &outcomes);
        let mut settling = std::pin::pin!(settling);
        assert!(futures_util::poll!(&mut settling).is_pending());
        tokio::select! {
            _ = &mut settling => panic!("the row is locked"),
            () = life.graph.wait_for_waiting(1) => {}
        }
    }
    life.graph.sql.batch_execute("commit").await.unwrap();
    crate::support::eventually("it is committed", || async {
        (life.status(command).await == CommandStatus::Sent).then_some(())
    })
    .await;
    life.pass(0).await;
    let HubEvent::Published(told) = crate::support::soon("the change is told", listener.recv()).await else { panic!() };
    assert_eq!((told.id, told.status), (command, CommandStatus::Sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_dispatchers_answers_and_the_clock_do_not_get_in_each_others_way() {
    const ROUNDS: usize = 60;
    let life = Life::start(4).await;
    let all: Vec<_> = (0..4).map(|n| life.device(n)).collect();
    let Life { graph, ann, devices, clock, outbox, .. } = &life;
    let sent = std::sync::Mutex::new(Vec::<(CommandId, DeviceId)>::new());
    let (sent, all) = (&sent, &all);
    let sends = futures_util::future::join_all((0..8).map(|sender| async move {
        for n in 0..ROUNDS {
            let to = (sender + n) % 4;
            let answer = graph.answer(ann, super::commands::SEND, json!({"input": power(&devices[to], true)})).await;
            if let Some(id) = answer["data"]["sendCommand"]["id"].as_str() {
                sent.lock().unwrap().push((id.parse().unwrap(), all[to]));
            }
            // Too many open ones is an answer, too.
            let code = &answer["errors"][0]["extensions"]["code"];
            assert!(answer.get("errors").is_none() || code == "CONFLICT", "{answer}");
        }
    }));
    let dispatch = futures_util::future::join_all((0..2).map(|_| async {
        let mut conn = db::connect(&graph.database.url(), None).await.unwrap();
        for n in 0..ROUNDS {
            let taken = outbox.claim(&mut conn, clock.now(), all).await.unwrap();
            let outcomes: Vec<_> = taken.iter().map(|out| (out.key, DeliveryOutcome::Confirmed)).collect();
            outbox.record_outcomes(&mut conn, clock.now(), &outcomes).await.unwrap();
            if n % 10 == 0 {
                clock.advance(chrono::TimeDelta::seconds(20));
                outbox.on_broker_session_lost(&mut conn, clock.now(), clock.now()).await.unwrap();
            }
            outbox.tick(&mut conn, clock.now()).await.unwrap();
        }
    }));
    let answers = futures_util::future::join_all((0..2).map(|_| async {
        let conn = db::connect(&graph.database.url(), None).await.unwrap();
        for n in 0..ROUNDS {
            let known: Vec<_> = sent.lock().unwrap().iter().rev().take(50).copied().collect();
            let answer = |(command, device)| {
                let kind = if n % 2 == 0 { AnswerKind::Acked } else { succeeded() };
                Answer { command, device, kind, at: clock.now() }
            };
            let answers: Vec<_> = known.into_iter().map(answer).collect();
            record_answers(&conn, &answers.iter().collect::<Vec<_>>()).await.unwrap();
        }
    }));
    tokio::join!(sends, dispatch, answers);
    let wrong = "commands where (dispatched_at is null and sent_at is not null) \
                 or (superseded_by is not null and dispatched_at is not null) or (status = 'SENT' and sent_at is null)";
    assert_eq!(graph.count(wrong).await, 0);
}
