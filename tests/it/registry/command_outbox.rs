//! The rows of commands in the database: what the dispatcher, deadlines and answers of devices do to them, also out
//! of order and concurrently.

mod answers;
mod lost;
mod queue;
mod returned;
mod transitions;

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use smarthome::clock::Clock;
use smarthome::commands::{
    Answer, AnswerKind, Command, CommandOutbox, CommandStatus, ConfirmedBy, Observation, ReturnedDevices,
    find_for_ingest, record_answers,
};
use smarthome::db;
use smarthome::downlink::{PublishOutcome, PublishReport};
use smarthome::ids::{CommandId, DeviceId};
use smarthome::outbox::{Outbox, Recovery};

use super::commands::{power, send, start};
use super::{Graph, Person, number, text};

const CANCEL: &str = "mutation($id: ID!) { cancelCommand(id: $id) { id } }";

/// Devices, and the outbox and connection that stand for dispatcher and ingest.
struct Rig {
    graph: Graph,
    ann: Person,
    devices: Vec<String>,
    outbox: CommandOutbox,
    /// Tells `outbox` which devices came back.
    returned: ReturnedDevices,
    conn: db::Connection,
    clock: Clock,
}

impl Rig {
    async fn start(n_devices: usize) -> Self {
        let (graph, ann, _, devices) = start(n_devices).await;
        let returned = ReturnedDevices::none();
        let outbox = new_outbox(&graph, &returned);
        let conn = db::connect(&graph.database.url(), None).await.unwrap();
        let clock = graph.clock.clone();
        Self { graph, ann, devices, outbox, returned, conn, clock }
    }

    fn device(&self, n: usize) -> DeviceId {
        DeviceId::from_database(number(&self.devices[n]))
    }

    /// Sends a command with these fields to the first device.
    async fn send(&self, fields: Value) -> CommandId {
        let mut input = json!({"deviceId": self.devices[0], "type": "BLINK"});
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        text(&send(&self.graph, &self.ann, &input).await["id"]).parse().unwrap()
    }

    /// Claims the due command of each device: id, payload and topic segments.
    async fn claim(&mut self) -> Vec<(CommandId, Value, String)> {
        let devices: Vec<_> = (0..self.devices.len()).map(|n| self.device(n)).collect();
        let claimed = self.outbox.claim(&mut self.conn, self.clock.now(), &devices).await.unwrap();
        let outgoing = claimed.into_iter().map(|out| {
            let segments = format!("{}/{}", out.message.home, out.message.device);
            (out.key, serde_json::from_slice(&out.message.payload).unwrap(), segments)
        });
        outgoing.collect()
    }

    async fn find_due(&mut self, busy: &[DeviceId]) -> Vec<DeviceId> {
        self.outbox.find_due(&mut self.conn, self.clock.now(), busy, 10).await.unwrap()
    }

    async fn record(&mut self, command: CommandId, report: impl Into<PublishReport>) {
        let reports = [(command, report.into())];
        self.outbox.record_outcomes(&mut self.conn, self.clock.now(), &reports).await.unwrap();
    }

    async fn handle_deadlines(&mut self) -> Option<chrono::DateTime<chrono::Utc>> {
        self.outbox.handle_deadlines(&mut self.conn, self.clock.now()).await.unwrap()
    }

    /// Moves the clock and handles the deadlines that have passed.
    async fn advance(&mut self, seconds: u64) {
        self.clock.advance(TimeDelta::from_std(Duration::from_secs(seconds)).unwrap());
        self.handle_deadlines().await;
    }

    async fn lose_broker_session(&mut self) {
        let now = self.clock.now();
        while self.outbox.on_broker_session_lost(&mut self.conn, now, now).await.unwrap() == Recovery::Unfinished {}
    }

    /// Records an answer of the first device; the new status if the command changed.
    async fn answer(&mut self, command: CommandId, kind: AnswerKind) -> Option<CommandStatus> {
        let answer = Answer { command, device: self.device(0), kind, at: self.clock.now() };
        let changed = record_answers(&self.conn, &[&answer]).await.unwrap();
        self.graph.services.commands.expectations().update(&changed);
        changed.first().map(|command| command.status)
    }

    async fn find(&self, command: CommandId) -> Command {
        find_for_ingest(&self.conn, &[command]).await.unwrap().remove(0)
    }

    async fn status(&self, command: CommandId) -> CommandStatus {
        self.find(command).await.status
    }

    async fn delete_commands(&self) {
        self.graph.sql.execute("delete from commands", &[]).await.unwrap();
    }

    /// Sends a command and brings it to this status by the events that lead there.
    async fn command_in(&mut self, status: CommandStatus) -> CommandId {
        use CommandStatus::{Acked, Cancelled, Expired, Failed, Pending, Sent, Succeeded, TimedOut};
        let command = self.send(json!({"expiresInSeconds": 60})).await;
        if status == Cancelled {
            self.graph.ask(&self.ann, CANCEL, json!({"id": command.to_string()})).await;
        } else {
            self.claim().await;
        }
        if status == Expired {
            self.advance(61).await;
        }
        if !matches!(status, Pending | Cancelled | Expired) {
            self.record(command, PublishOutcome::Confirmed).await;
        }
        match status {
            Acked => drop(self.answer(command, AnswerKind::Acked).await),
            Succeeded => drop(self.answer(command, succeeded()).await),
            Failed => drop(self.answer(command, failed()).await),
            TimedOut => self.advance(31).await,
            Pending | Sent | Expired | Cancelled => {}
        }
        assert_eq!(self.status(command).await, status);
        self.clock.advance(TimeDelta::seconds(1));
        command
    }
}

fn new_outbox(graph: &Graph, returned: &ReturnedDevices) -> CommandOutbox {
    let (commands, metrics) = (&graph.services.commands, graph.services.metrics.clone());
    CommandOutbox::new(commands.hub().clone(), commands.expectations().clone(), returned.clone(), metrics)
}

fn succeeded() -> AnswerKind {
    AnswerKind::Succeeded { result: Some(json!({"z": 1})) }
}

fn failed() -> AnswerKind {
    AnswerKind::Failed { error: Some("jam\0med".to_owned()), result: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_to_its_devices_topic_in_the_format_of_the_device_protocol() {
    let mut rig = Rig::start(2).await;
    let (first, second) =
        (rig.send(json!({"payload": {"a": 1}, "correlationId": "c"})).await, rig.send(json!({})).await);
    let other = text(&send(&rig.graph, &rig.ann, &power(&rig.devices[1], true)).await["id"]);
    let insert =
        "insert into device_states (device_id, online, home_segment, device_segment) values ($1, true, 'h', 'MAC')";
    rig.graph.sql.execute(insert, &[&number(&rig.devices[1])]).await.unwrap();
    assert_eq!(rig.find_due(&[]).await, [rig.device(0), rig.device(1)]);
    assert_eq!(rig.find_due(&[rig.device(0)]).await, [rig.device(1)]);
    let claimed = rig.claim().await;
    assert_eq!(claimed.len(), 2);
    let (_, payload, segments) = claimed.iter().find(|(id, ..)| *id == first).expect("the older one");
    let found = rig.find(first).await;
    let rfc3339 = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let expected = json!({
        "commandId": first.to_string(), "timestamp": rfc3339(found.created_at), "type": "BLINK", "payload": {"a": 1},
        "source": "USER", "correlationId": "c", "expiresAt": rfc3339(found.expires_at),
    });
    assert_eq!(*payload, expected);
    assert!(segments.ends_with("/d0"), "{segments}");
    let (.., segments) = claimed.iter().find(|(id, ..)| id.to_string() == other).unwrap();
    assert_eq!(segments, "h/MAC");
    // Claimed is not sent. A command without a recorded outcome is claimed again, under the same id.
    assert_eq!((found.status, found.sent_at), (CommandStatus::Pending, None));
    rig.record(first, PublishOutcome::Unknown).await;
    let again = rig.claim().await;
    assert!(again.iter().any(|(id, ..)| *id == first));
    assert_eq!(rig.find(first).await.dispatched_at, found.dispatched_at);
    rig.record(first, PublishOutcome::Confirmed).await;
    assert_eq!(rig.status(first).await, CommandStatus::Sent);
    assert!(rig.claim().await.iter().any(|(id, ..)| *id == second), "in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_reported_offline_gets_nothing_until_it_is_active_again() {
    let mut rig = Rig::start(1).await;
    let command = rig.send(json!({"expiresInSeconds": 60})).await;
    let state = "insert into device_states (device_id, announced_offline) values ($1, $2) on conflict (device_id) do update set announced_offline = $2";
    let device = number(&rig.devices[0]);
    rig.graph.sql.execute(state, &[&device, &true]).await.unwrap();
    assert!(rig.find_due(&[]).await.is_empty());
    rig.graph.sql.execute(state, &[&device, &false]).await.unwrap();
    assert_eq!(rig.find_due(&[]).await.len(), 1);
    rig.graph.sql.execute(state, &[&device, &true]).await.unwrap();
    rig.advance(61).await;
    let expired = rig.find(command).await;
    assert_eq!(expired.status, CommandStatus::Expired);
    assert_eq!(expired.error.as_deref(), Some("it could not be sent before it expired"));
    assert!(rig.claim().await.is_empty(), "an expired command is never sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_command_and_says_what_is_missing() {
    let mut rig = Rig::start(1).await;
    let sent = rig.command_in(CommandStatus::TimedOut).await;
    assert_eq!(rig.find(sent).await.error.as_deref(), Some("no answer from the device"));
    let acked = rig.command_in(CommandStatus::Acked).await;
    // The timeout starts again with the acknowledgement, and handle_deadlines returns its end.
    let next = rig.handle_deadlines().await;
    assert_eq!(next, rig.find(acked).await.acked_at.map(|at| at + TimeDelta::seconds(30)));
    rig.advance(31).await;
    let found = rig.find(acked).await;
    assert_eq!((found.status, found.error.unwrap().contains("never reported")), (CommandStatus::TimedOut, true));
    // A second ACKED changes nothing, an outcome does.
    assert_eq!(rig.answer(acked, AnswerKind::Acked).await, None);
    assert_eq!(rig.answer(acked, succeeded()).await, Some(CommandStatus::Succeeded));
    assert_eq!(rig.find(acked).await.error, None);
    assert_eq!(rig.handle_deadlines().await, None);
    let counted = |status| {
        let label = smarthome::metrics::Status { status };
        rig.graph.services.metrics.commands.get_or_create(&label).get()
    };
    assert_eq!((counted("PENDING"), counted("SENT"), counted("TIMED_OUT")), (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_stays_pending_with_the_reason_and_is_sent_again() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Pending).await;
    rig.record(command, PublishReport::refused("quota exceeded")).await;
    let found = rig.find(command).await;
    assert_eq!((found.status, found.error.as_deref()), (CommandStatus::Pending, Some("quota exceeded")));
    assert_eq!(rig.claim().await.len(), 1);
    rig.record(command, PublishOutcome::Confirmed).await;
    let found = rig.find(command).await;
    assert_eq!((found.status, found.error, found.sent_at.is_some()), (CommandStatus::Sent, None, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_makes_sent_commands_pending_but_not_acknowledged_ones() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Sent).await;
    rig.lose_broker_session().await;
    let found = rig.find(command).await;
    assert_eq!((found.status, found.sent_at), (CommandStatus::Pending, None));
    rig.record(command, PublishOutcome::Confirmed).await;
    rig.answer(command, AnswerKind::Acked).await;
    rig.lose_broker_session().await;
    assert_eq!(rig.status(command).await, CommandStatus::Acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_after_the_expiry_only_sets_the_time_of_sending() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Pending).await;
    rig.record(command, PublishOutcome::Expired).await;
    assert_eq!(rig.status(command).await, CommandStatus::Expired);
    rig.record(command, PublishOutcome::Confirmed).await;
    let found = rig.find(command).await;
    assert_eq!((found.status, found.sent_at.is_some()), (CommandStatus::Expired, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_published_by_the_next_tick() {
    use smarthome::hub::HubEvent;
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Pending).await;
    let access = {
        let home = rig.find(command).await.home;
        let user = rig.ann.0.clone().unwrap();
        rig.graph.services.homes.access(&user, home, smarthome::homes::Permission::Read).await.unwrap()
    };
    let mut receiver = rig.graph.services.commands.hub().subscribe(access.home(), None);
    // The statement waits for the locked row, so its future is dropped before its answer can arrive.
    rig.graph.sql.batch_execute("begin; select from commands for update").await.unwrap();
    {
        let reports = [(command, PublishOutcome::Confirmed.into())];
        let mut conn = db::connect(&rig.graph.database.url(), None).await.unwrap();
        let recording = rig.outbox.record_outcomes(&mut conn, rig.clock.now(), &reports);
        let mut recording = std::pin::pin!(recording);
        assert!(futures_util::poll!(&mut recording).is_pending());
        tokio::select! {
            _ = &mut recording => panic!("the row is locked"),
            () = rig.graph.wait_for_waiting(1) => {}
        }
    }
    rig.graph.sql.batch_execute("commit").await.unwrap();
    crate::support::eventually("it is committed", || async {
        (rig.status(command).await == CommandStatus::Sent).then_some(())
    })
    .await;
    rig.handle_deadlines().await;
    let HubEvent::Published(published) = crate::support::soon("the change is published", receiver.recv()).await else {
        panic!()
    };
    assert_eq!((published.id, published.status), (command, CommandStatus::Sent));
}

/// A sender that adds the device to the queue may lock the command afterwards, so nobody may hold it while waiting for the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_command_is_locked_after_its_device_in_the_queue() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Sent).await;
    rig.graph.sql.batch_execute("delete from command_queue").await.unwrap();
    let sender = rig.graph.database.client().await;
    let added = "begin; set local lock_timeout = '5s';
                 insert into command_queue (device_id, home_id) select id, home_id from devices";
    sender.batch_execute(added).await.unwrap();
    let (graph, clock) = (&rig.graph, &rig.clock);
    let recovered = rig.outbox.on_broker_session_lost(&mut rig.conn, clock.now(), clock.now());
    let sent = async {
        graph.wait_for_waiting(1).await;
        sender.batch_execute("select from commands for update; commit").await
    };
    let (recovered, sent) = tokio::join!(recovered, sent);
    assert_eq!((recovered.unwrap(), sent.map_err(|error| error.to_string())), (Recovery::Finished, Ok(())));
    assert_eq!(rig.status(command).await, CommandStatus::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_dispatchers_answers_and_deadlines_run_concurrently_without_deadlock() {
    const ROUNDS: usize = 60;
    let rig = Rig::start(4).await;
    let all: Vec<_> = (0..4).map(|n| rig.device(n)).collect();
    let Rig { graph, ann, devices, clock, .. } = &rig;
    let sent = std::sync::Mutex::new(Vec::<(CommandId, DeviceId)>::new());
    let (sent, all) = (&sent, &all);
    let sends = futures_util::future::join_all((0..8).map(|sender| async move {
        for n in 0..ROUNDS {
            let to = (sender + n) % 4;
            let answer = graph.answer(ann, super::commands::SEND, json!({"input": power(&devices[to], true)})).await;
            if let Some(id) = answer["data"]["sendCommand"]["id"].as_str() {
                sent.lock().unwrap().push((id.parse().unwrap(), all[to]));
            }
            // Too many open commands are a valid answer, too.
            let code = &answer["errors"][0]["extensions"]["code"];
            assert!(answer.get("errors").is_none() || code == "CONFLICT", "{answer}");
        }
    }));
    let dispatch = futures_util::future::join_all((0..2).map(|_| async {
        let mut outbox = new_outbox(graph, &ReturnedDevices::none());
        let mut conn = db::connect(&graph.database.url(), None).await.unwrap();
        for n in 0..ROUNDS {
            let claimed = outbox.claim(&mut conn, clock.now(), all).await.unwrap();
            let outcome = if n % 3 == 0 { PublishOutcome::NoSubscribers } else { PublishOutcome::Confirmed };
            let reports: Vec<_> = claimed.iter().map(|out| (out.key, outcome.into())).collect();
            outbox.record_outcomes(&mut conn, clock.now(), &reports).await.unwrap();
            if n % 10 == 0 {
                clock.advance(TimeDelta::seconds(20));
                outbox.on_broker_session_lost(&mut conn, clock.now(), clock.now()).await.unwrap();
            }
            outbox.handle_deadlines(&mut conn, clock.now()).await.unwrap();
            outbox.requeue(&mut conn, clock.now()).await.unwrap();
        }
    }));
    let answers = futures_util::future::join_all((0..2).map(|_| async {
        let conn = db::connect(&graph.database.url(), None).await.unwrap();
        for n in 0..ROUNDS {
            let newest: Vec<_> = sent.lock().unwrap().iter().rev().take(50).copied().collect();
            let answer = |(command, device)| {
                let kind = if n % 2 == 0 { AnswerKind::Acked } else { succeeded() };
                Answer { command, device, kind, at: clock.now() }
            };
            let answers: Vec<_> = newest.into_iter().map(answer).collect();
            record_answers(&conn, &answers.iter().collect::<Vec<_>>()).await.unwrap();
        }
    }));
    let presence = async {
        let sql = graph.database.client().await;
        for n in 0..ROUNDS {
            let changed = "insert into device_states (device_id, online, announced_offline, last_seen_at)
                           select id, $1::boolean, not $1::boolean, now() from devices order by id
                           on conflict (device_id) do update set online = excluded.online,
                               announced_offline = excluded.announced_offline, last_seen_at = excluded.last_seen_at";
            sql.execute(changed, &[&(n % 2 == 0)]).await.unwrap();
        }
    };
    tokio::join!(sends, dispatch, answers, presence);
    let inconsistent = "commands where (dispatched_at is null and sent_at is not null) \
                        or (superseded_by is not null and dispatched_at is not null) \
                        or (status = 'SENT' and (sent_at is null or no_subscribers))";
    assert_eq!(graph.count(inconsistent).await, 0);
}
