//! The broker loses the session of the server while thousands of commands wait for answers.

use std::time::Duration;

use serde_json::json;

use super::super::support::app::{Database, TestApp};
use super::super::support::broker::Broker;
use super::super::support::mqtt::Mqtt;
use super::super::support::{eventually, until, within};
use super::Rig;

/// 25 devices of a home, each with 100 commands that were sent a minute ago.
const LOST: &str = "with made as (
        insert into devices (home_id, key, name, type)
        select $1, 'lost' || n, 'Lost', 'OTHER' from generate_series(1, 25) n
        returning id, home_id
    )
    insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, timeout_seconds,
        created_at, expires_at, deadline, dispatched_at, sent_at)
    select gen_random_uuid(), made.home_id, made.id, 'LOST', '{}', 'USER', 'c', 'EXPIRE', 'SENT', 3600,
        at, at + interval '2 hours', at + interval '1 hour', at, at
    from made, generate_series(1, 100) n, lateral (values (now() - interval '1 minute' + n * interval '1 ms')) t (at)";
/// The recovery makes up to 1,000 due again in a step.
const N_LOST: i64 = 2_500;
/// Notes how many commands are still lost when the first other command is about to be sent.
const NOTE: &str = "create table noted (n_lost bigint);
    create function note() returns trigger language plpgsql as $$
    begin
        insert into noted select count(*) from commands
        where type = 'LOST' and status = 'SENT' and sent_at = created_at;
        return null;
    end $$;
    create trigger note after update of dispatched_at on commands
        for each row when (new.type <> 'LOST' and old.dispatched_at is null and new.dispatched_at is not null) execute function note()";

async fn n(database: &Database, rows: &str) -> i64 {
    let client = database.client().await;
    client.query_one(&format!("select count(*) from {rows}"), &[]).await.expect("a count").get(0)
}

async fn add_lost(rig: &Rig) {
    let home: i64 = rig.home.id.parse().expect("an id");
    let client = rig.app.database().client().await;
    assert_eq!(client.execute(LOST, &[&home]).await.expect("rows"), N_LOST.unsigned_abs());
}

/// Subscribes to the commands of all devices.
async fn listen(rig: &Rig) -> Mqtt {
    let mqtt = rig.app.another_mqtt().await;
    mqtt.subscribe(&format!("{}/+/+/commands", rig.app.prefix())).await.expect("SUBACK");
    mqtt
}

async fn all_are_sent_again(database: &Database) {
    within(Duration::from_secs(60), "all are sent again", || async {
        let again = "commands where type = 'LOST' and sent_at > created_at + interval '30 seconds'";
        (n(database, again).await == N_LOST).then_some(())
    })
    .await;
    eventually("the loss is recovered", || async { (n(database, "broker_losses").await == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_commands_are_sent_before_all_lost_ones_are_due_again() {
    let mut broker = Broker::start().await;
    let rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    rig.app.database().client().await.batch_execute(NOTE).await.expect("a trigger");
    broker.kill();
    broker.empty();
    let metrics = &rig.app.app().services().metrics;
    until("the link is down", || metrics.mqtt_connected.get() == 0).await;
    add_lost(&rig).await;
    let id = rig.send(json!({"type": "BEEP"})).await;
    // The recovery may begin before the link is up. Its first step cannot pass this command, so at least one more step
    // begins after that.
    let lock = "begin; select from commands where type = 'LOST' order by sent_at limit 1 for update";
    let holder = rig.app.database().client().await;
    holder.batch_execute(lock).await.expect("a lock");
    broker.restart().await;
    let _listener = listen(&rig).await;
    until("the link is up", || metrics.mqtt_connected.get() == 1).await;
    holder.batch_execute("rollback").await.expect("the lock is released");
    rig.until(&id, "SENT").await;
    let client = rig.app.database().client().await;
    let n_lost: i64 = client.query_one("select n_lost from noted", &[]).await.expect("noted once").get(0);
    assert!((1..N_LOST).contains(&n_lost), "{n_lost} were lost then");
    all_are_sent_again(rig.app.database()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_the_recovery_loses_no_command() {
    let mut broker = Broker::start().await;
    let rig = Rig::with(TestApp::builder().broker(broker.port())).await;
    broker.kill();
    broker.empty();
    add_lost(&rig).await;
    // The recovery cannot pass this one.
    let lock = "begin; select from commands where type = 'LOST' order by sent_at desc limit 1 for update";
    let holder = rig.app.database().client().await;
    holder.batch_execute(lock).await.expect("a lock");
    broker.restart().await;
    let _listener = listen(&rig).await;
    eventually("a part is due again", || async {
        let again =
            "commands where type = 'LOST' and (status = 'PENDING' or sent_at > created_at + interval '30 seconds')";
        (n(rig.app.database(), again).await >= 1_000).then_some(())
    })
    .await;
    let name = rig.app.settings().mqtt.client_id.clone();
    let prefix = rig.app.prefix().to_owned();
    let database = rig.app.stop().await;
    assert_eq!(n(&database, "broker_losses where outbox = 'commands'").await, 1);
    holder.batch_execute("rollback").await.expect("the lock is released");
    let builder = TestApp::builder().broker(broker.port());
    let app = builder.set("MQTT_CLIENT_ID", name).set("MQTT_TOPIC_PREFIX", prefix).start_on(database).await;
    all_are_sent_again(app.database()).await;
}

/// The server's client id is as new as the broker: only the database knows of a session before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_of_a_group_publishes_configurations_again_at_an_empty_broker() {
    let mut broker = Broker::start().await;
    let member =
        |id: &str| TestApp::builder().broker(broker.port()).set("MQTT_SHARED_GROUP", "g").set("MQTT_CLIENT_ID", id);
    let rig = Rig::with(member("one")).await;
    let version = rig.push(json!({"sampleRate": 30})).await;
    rig.until_config(version, "SENT").await;
    let long_ago = "update retained_configs set confirmed_at = confirmed_at - interval '2 hours'";
    rig.app.database().client().await.batch_execute(long_ago).await.expect("an update");
    let Rig { app, device, .. } = rig;
    let (another, prefix) = (member("two").set("MQTT_TOPIC_PREFIX", app.prefix()), app.prefix().to_owned());
    let database = app.stop().await;
    broker.kill();
    broker.empty();
    broker.restart().await;
    let app = another.start_on(database).await;
    let mut mqtt = app.another_mqtt().await;
    mqtt.subscribe(&format!("{prefix}/{}/{}/config", device.home.key, device.key)).await.expect("SUBACK");
    let config: serde_json::Value = serde_json::from_slice(&mqtt.next().await.1).expect("JSON");
    assert_eq!(config["version"], version);

    // A second member beside a running one has lost nothing.
    let third =
        TestApp::builder().broker(broker.port()).set("MQTT_SHARED_GROUP", "g").set("MQTT_TOPIC_PREFIX", &prefix);
    let needed = "retained_configs where needs_publish";
    for what in ["broker_losses", needed] {
        eventually("the loss is recovered", || async { (n(app.database(), what).await == 0).then_some(()) }).await;
    }
    // What the broker confirmed in the last hour every new connection publishes again.
    app.database().client().await.batch_execute(long_ago).await.expect("an update");
    let third = third.second(&app).await;
    let joined = "ingest_sessions where group_prefix is not null";
    eventually("all have joined", || async { (n(app.database(), joined).await >= 3).then_some(()) }).await;
    assert_eq!((n(app.database(), "broker_losses").await, n(app.database(), needed).await), (0, 0));
    third.stop().await;
    app.stop().await;
}
