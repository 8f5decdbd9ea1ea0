//! Commands that a device missed while it was away, in the database.

use super::*;

impl Rig {
    /// The first device came back just now, after a day of silence.
    async fn set_returned(&self) {
        let (device, now) = (&self.devices[0], self.clock.now());
        let returned = format!(
            "insert into device_states (device_id, silent_since, returned_at, returned_from_offline) \
             values ({device}, '{now}'::timestamptz - interval '1 day', '{now}', true)"
        );
        self.graph.sql.execute(&returned, &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_send_a_missed_command_again_once() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Sent).await;
    rig.set_returned().await;
    let returned_elsewhere = ReturnedDevices::none();
    let mut other = new_outbox(&rig.graph, &returned_elsewhere);
    let mut conn = db::connect(&rig.graph.database.url(), None).await.unwrap();
    let (device, now) = (rig.device(0), rig.clock.now());
    rig.returned.add([device]);
    returned_elsewhere.add([device]);
    // Both have read the row before either changes it.
    rig.graph.sql.batch_execute("begin; select from commands for update").await.unwrap();
    let (here, there, ()) =
        tokio::join!(rig.outbox.requeue(&mut rig.conn, now), other.requeue(&mut conn, now), async {
            rig.graph.wait_for_waiting(2).await;
            rig.graph.sql.batch_execute("commit").await.unwrap();
        });
    here.and(there).unwrap();
    assert_eq!(rig.status(command).await, CommandStatus::Pending);
    assert_eq!(rig.claim().await.len(), 1);
    rig.clock.advance(TimeDelta::seconds(1));
    rig.record(command, PublishOutcome::Confirmed).await;
    // A server that learns of the return late.
    returned_elsewhere.add([device]);
    other.requeue(&mut conn, rig.clock.now()).await.unwrap();
    assert_eq!(rig.status(command).await, CommandStatus::Sent);
    assert_eq!(rig.graph.count("commands where resends = 1").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_finds_devices_that_came_back_before() {
    let mut rig = Rig::start(1).await;
    let command = rig.command_in(CommandStatus::Sent).await;
    rig.set_returned().await;
    rig.outbox.requeue(&mut rig.conn, rig.clock.now()).await.unwrap();
    assert_eq!(rig.status(command).await, CommandStatus::Sent, "this one was told of none");
    let mut started = new_outbox(&rig.graph, &ReturnedDevices::unknown());
    started.requeue(&mut rig.conn, rig.clock.now()).await.unwrap();
    assert_eq!(rig.status(command).await, CommandStatus::Pending);
}
