//! The broker lost the session of the server, and with it very many commands.

use super::*;

impl Rig {
    /// Adds commands of every device that were sent and not answered.
    async fn add_sent(&self, n_each: i32) {
        let sent = "insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, \
                    timeout_seconds, created_at, expires_at, deadline, dispatched_at, sent_at) \
                    select gen_random_uuid(), d.home_id, d.id, 'BLINK', '{}', 'USER', 'c', 'EXPIRE', 'SENT', 60, at, \
                    at + interval '1 hour', at + interval '1 hour', at, at \
                    from devices d, generate_series(1, $1) n, (values ($2::text::timestamptz)) t (at)";
        self.graph.sql.execute(sent, &[&n_each, &self.clock.now().to_rfc3339()]).await.unwrap();
    }

    /// The remaining steps of the recovery.
    async fn recover(&mut self, before: chrono::DateTime<chrono::Utc>) {
        let now = self.clock.now();
        while self.outbox.on_broker_session_lost(&mut self.conn, now, before).await.unwrap() == Recovery::Unfinished {}
    }

    async fn n_sent(&self) -> i64 {
        self.graph.count("commands where status = 'SENT'").await
    }

    /// The orders of these commands among those of their device.
    async fn places(&self, commands: &[CommandId]) -> Vec<i64> {
        let mut places = Vec::new();
        for command in commands {
            let (device, seq) = (self.find(*command).await.device, self.find(*command).await.seq);
            places.push(self.graph.count(&format!("commands where device_id = {device} and seq < {seq}")).await);
        }
        places
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lost_commands_become_pending_step_by_step() {
    let mut rig = Rig::start(25).await;
    rig.add_sent(100).await;
    let now = rig.clock.now();
    let mut left = Vec::new();
    loop {
        let recovery = rig.outbox.on_broker_session_lost(&mut rig.conn, now, now).await.unwrap();
        left.push(rig.n_sent().await);
        if recovery == Recovery::Finished {
            break;
        }
    }
    assert_eq!(left, [1_500, 500, 0]);
    assert_eq!(rig.graph.count("commands where status = 'PENDING'").await, 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_command_is_sent_before_newer_ones_of_its_device() {
    let mut rig = Rig::start(25).await;
    rig.add_sent(60).await;
    let now = rig.clock.now();
    rig.clock.advance(TimeDelta::seconds(1));
    for device in &rig.devices {
        send(&rig.graph, &rig.ann, &json!({"deviceId": device, "type": "BLINK"})).await;
    }
    let recovery = rig.outbox.on_broker_session_lost(&mut rig.conn, now, now).await.unwrap();
    assert_eq!((recovery, rig.n_sent().await), (Recovery::Unfinished, 500));
    for place in [0, 1, 2] {
        let claimed: Vec<_> = rig.claim().await.into_iter().map(|(command, ..)| command).collect();
        assert_eq!(rig.places(&claimed).await, [place; 25]);
        for command in claimed {
            rig.record(command, PublishOutcome::Confirmed).await;
        }
    }
    // Those that were sent again are not lost.
    rig.recover(now).await;
    assert_eq!(rig.n_sent().await, 3 * 25);
}
