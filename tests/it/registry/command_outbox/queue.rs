//! Whose command is sent next, and what that costs where many commands wait.

use std::path::Path;

use super::*;

impl Rig {
    /// Finds due devices, up to `limit`.
    async fn next_turns(&mut self, busy: &[DeviceId], limit: i64) -> Vec<DeviceId> {
        self.outbox.find_due(&mut self.conn, self.clock.now(), busy, limit).await.unwrap()
    }

    /// Sends the oldest command of a device.
    async fn deliver(&mut self, device: DeviceId) {
        let claimed = self.outbox.claim(&mut self.conn, self.clock.now(), &[device]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        self.record(claimed[0].key, PublishOutcome::Confirmed).await;
    }

    /// Tries the oldest command of a device to whose topic nobody is subscribed.
    async fn try_without_subscribers(&mut self, device: DeviceId) {
        let claimed = self.outbox.claim(&mut self.conn, self.clock.now(), &[device]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        self.record(claimed[0].key, PublishOutcome::NoSubscribers).await;
    }

    /// The time until the next deadline.
    async fn pause(&mut self) -> TimeDelta {
        self.handle_deadlines().await.expect("a deadline") - self.clock.now()
    }

    async fn requeue(&mut self) {
        self.outbox.requeue(&mut self.conn, self.clock.now()).await.unwrap();
    }

    /// The pages that a statement of `src/commands/sql` reads.
    async fn n_pages(&self, file: &str, values: &[(&str, &str)]) -> u64 {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/sql").join(file);
        let sql = std::fs::read_to_string(path).unwrap();
        let (mut text, mut end) = (String::new(), 0);
        for (at, name) in db::parameters(&sql) {
            let (_, value) = values.iter().find(|(known, _)| *known == name).expect("a value");
            text.push_str(&sql[end..at]);
            text.push_str(value);
            end = at + 1 + name.len();
        }
        let explain = format!("explain (analyze, buffers, format json) {text}{}", &sql[end..]);
        let messages = self.graph.sql.simple_query(&explain).await.unwrap();
        let plan = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Value = serde_json::from_str(plan.expect("a plan")).unwrap();
        ["Shared Hit Blocks", "Shared Read Blocks"].iter().map(|key| plan[0]["Plan"][key].as_u64().unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_take_turns_and_so_do_the_devices_of_a_home() {
    let mut rig = Rig::start(3).await;
    let bob = rig.graph.person().await;
    let home = rig.graph.home(&bob).await;
    let quiet = rig.graph.devices(&bob, &home, 1).await.remove(0);
    for _ in 0..3 {
        for device in &rig.devices {
            send(&rig.graph, &rig.ann, &json!({"deviceId": device, "type": "BLINK"})).await;
        }
    }
    send(&rig.graph, &bob, &json!({"deviceId": quiet, "type": "BLINK"})).await;
    let quiet = DeviceId::from_database(number(&quiet));
    for expected in [rig.device(0), quiet, rig.device(0), quiet] {
        assert_eq!(rig.next_turns(&[], 1).await, [expected]);
    }
    let due = rig.next_turns(&[], 3).await;
    assert_eq!((due.len(), due[..2].contains(&quiet)), (3, true), "{due:?}");
    for n in [0, 1, 2, 0, 1] {
        assert_eq!(rig.next_turns(&[quiet], 1).await, [rig.device(n)]);
        rig.deliver(rig.device(n)).await;
    }
    // What has nothing left to send leaves the queue.
    rig.deliver(quiet).await;
    assert!(!rig.next_turns(&[], 10).await.contains(&quiet));
    assert_eq!(rig.graph.count("command_queue").await, 3);
    for n in [0, 1, 2, 2] {
        rig.deliver(rig.device(n)).await;
    }
    assert_eq!((rig.next_turns(&[], 10).await, rig.graph.count("command_queue").await), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_cannot_be_sent_cost_a_poll_little() {
    let mut rig = Rig::start(120).await;
    let flood = "insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, \
                 timeout_seconds, created_at, expires_at, deadline, sent_at) \
                 select gen_random_uuid(), d.home_id, d.id, 'BLINK', '{}', 'USER', 'c', 'EXPIRE', s.status, 60, now(), \
                 now() + interval '1 hour', now() + interval '1 hour', now() \
                 from devices d, generate_series(1, 50) n, (values ('PENDING'), ('SENT')) s (status)";
    assert_eq!(rig.graph.sql.execute(flood, &[]).await.unwrap(), 12_000);
    let offline = "insert into device_states (device_id, announced_offline) select id, true from devices";
    rig.graph.sql.execute(offline, &[]).await.unwrap();
    assert_eq!(rig.next_turns(&[], 512).await, []);
    for table in ["commands", "command_queue", "device_states"] {
        rig.graph.sql.batch_execute(&format!("vacuum analyze {table}")).await.unwrap();
    }
    let limit = ("limit", "512::bigint");
    let (now, after, busy) = (("now", "now()"), ("after", "0::bigint"), ("busy", "'{}'::bigint[]"));
    let due = rig.n_pages("find_due.sql", &[now, after, busy, limit]).await;
    assert!(due <= 20, "{due}");
    // Each is sent once it is back.
    let device = rig.device(7);
    let back = "update device_states set announced_offline = false where device_id = $1";
    rig.graph.sql.execute(back, &[&device.get()]).await.unwrap();
    assert_eq!(rig.next_turns(&[], 512).await, [device]);
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_that_never_came_cost_a_poll_little() {
    let mut rig = Rig::start(50).await;
    let timed_out = "insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, \
                     timeout_seconds, created_at, expires_at, dispatched_at, sent_at, finished_at, expect) \
                     select gen_random_uuid(), d.home_id, d.id, 'POWER', '{}', 'USER', 'c', 'EXPIRE', 'TIMED_OUT', 60, \
                     at, at, at, at, at, '{\"relay\": true}' \
                     from devices d, generate_series(1, $1) n, (values ($2::text::timestamptz)) t (at) where d.id <> $3";
    let (now, device) = (rig.clock.now(), rig.device(0));
    let long_ago = (now - TimeDelta::days(40)).to_rfc3339();
    assert_eq!(rig.graph.sql.execute(timed_out, &[&100_i32, &long_ago, &device.get()]).await.unwrap(), 4_900);
    let lately = (now - TimeDelta::minutes(59)).to_rfc3339();
    assert_eq!(rig.graph.sql.execute(timed_out, &[&1_i32, &lately, &rig.device(1).get()]).await.unwrap(), 49);
    rig.graph.sql.batch_execute("vacuum analyze commands").await.unwrap();
    let since = format!("'{}'", now - TimeDelta::hours(1));
    let bounds = [("finished_since", since.as_str()), ("max_late", "100000"), ("per_home", "1000"), ("limit", "10000")];
    let n_pages = rig.n_pages("find_expecting.sql", &bounds).await;
    // A few pages for each of the 49, none for each of the 4,900.
    assert!(n_pages <= 49 * 5, "{n_pages}");
    // The effect of a command that timed out within the hour confirms it, an older one's does not.
    rig.handle_deadlines().await;
    let expectations = rig.graph.services.commands.expectations();
    let relay = json!({"relay": true});
    let observed = |n: usize| expectations.observed(rig.device(n), &Observation::status(&relay), now).len();
    assert_eq!((observed(0), observed(1), observed(2)), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_subscribers_is_tried_again_after_growing_pauses() {
    const PART: TimeDelta = TimeDelta::milliseconds(500);
    let mut rig = Rig::start(2).await;
    let (silent, other) = (rig.device(0), rig.device(1));
    let fields = json!({"type": "BEEP", "expiresInSeconds": 3_600});
    let command = rig.send(fields.clone()).await;
    for seconds in [1, 2, 4, 8, 15, 15] {
        assert_eq!(rig.next_turns(&[], 10).await, [silent], "{seconds}");
        rig.try_without_subscribers(silent).await;
        let found = rig.find(command).await;
        assert_eq!((found.status, found.dispatched_at, found.sent_at), (CommandStatus::Pending, None, None));
        assert!(found.error.is_some_and(|error| error.contains("nobody is subscribed")));
        let pause = TimeDelta::seconds(seconds);
        assert_eq!(rig.pause().await.num_milliseconds() / 1_000, seconds - 1);
        rig.clock.advance(pause - PART);
        rig.requeue().await;
        assert_eq!(rig.next_turns(&[], 10).await, [], "{seconds}");
        rig.clock.advance(PART);
        rig.requeue().await;
    }
    // A device that sends something is tried at once, and again after a second.
    rig.try_without_subscribers(silent).await;
    assert!(!rig.returned.report_active([other]) && rig.returned.report_active([other, silent]));
    rig.requeue().await;
    rig.try_without_subscribers(silent).await;
    assert_eq!(rig.pause().await.num_milliseconds() / 1_000, 0);
    // A newer command makes it due too.
    rig.send(fields).await;
    assert_eq!(rig.next_turns(&[], 10).await, [silent]);
    rig.deliver(silent).await;
    assert_eq!(rig.status(command).await, CommandStatus::Sent);
    assert_eq!(rig.next_turns(&[], 10).await, [silent]);
}
