//! Which session at the broker a server continues, and what is stored from it.

use smarthome::ingest::delete_unused_sessions;

use super::super::outages::{report, stored};
use super::super::support::app::{Builder, Database, TestApp};
use super::super::support::broker::Broker;
use super::super::support::mqtt::Mqtt;
use super::super::support::ports::free_port;
use super::super::support::{unique, until};
use super::groups::until_all_joined;
use super::ingests;

fn server(prefix: &str, client_id: &str) -> Builder {
    TestApp::builder().set("MQTT_TOPIC_PREFIX", prefix).set("MQTT_CLIENT_ID", client_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_subscription_stays_until_the_broker_grants_the_shared_one() {
    let limited = free_port();
    let limit = format!("allow_anonymous true\nlistener {limited} 127.0.0.1\nmax_qos 0");
    let (broker, prefix) = (Broker::start_with(&limit).await, unique("t"));
    let server = |port| server(&prefix, "one").broker(port);
    let plain = server(broker.port()).start().await;
    ingests(&plain.app().services().metrics).await;
    let (home, owner) = plain.home().await;
    let device = plain.device(&owner, &home, "a").await;
    let database = plain.stop().await;

    let refused = server(limited).set("MQTT_SHARED_GROUP", "g").start_on(database).await;
    let metrics = refused.app().services().metrics.clone();
    until("the broker grants too little", || metrics.mqtt_connection_errors.get() > 0).await;
    let database = refused.stop().await;
    let mqtt = Mqtt::connect(broker.port()).await;
    report(&mqtt, &device, 0).await;

    let shared = server(broker.port()).set("MQTT_SHARED_GROUP", "g").start_on(database).await;
    stored(shared.database(), 1).await;
    shared.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_does_not_store_again_what_a_plain_subscription_has_stored() {
    let prefix = unique("t");
    let (member, other) = (unique("t"), unique("t"));
    let group = server(&prefix, &member).set("MQTT_SHARED_GROUP", "g").start().await;
    ingests(&group.app().services().metrics).await;
    let (home, owner) = group.home().await;
    let device = group.device(&owner, &home, "a").await;
    until_all_joined(&group, 1).await;
    // The last one stays subscribed.
    let (mqtt, database) = (group.another_mqtt().await, group.stop().await);

    let plain = server(&prefix, &other).start_on(database).await;
    ingests(&plain.app().services().metrics).await;
    for n in 0..5 {
        report(&mqtt, &device, n).await;
    }
    stored(plain.database(), 5).await;
    let database = plain.stop().await;

    let group = server(&prefix, &member).set("MQTT_SHARED_GROUP", "g").start_on(database).await;
    let metrics = group.app().services().metrics.clone();
    ingests(&metrics).await;
    report(&mqtt, &device, 5).await;
    stored(group.database(), 6).await;
    assert_eq!(metrics.mqtt_received.get(), 1);
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_the_session_of_another_prefix_alone() {
    let (prefix, client_id) = (unique("t"), unique("t"));
    let first = server(&prefix, &client_id).start_on(Database::create().await).await;
    ingests(&first.app().services().metrics).await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    let (mqtt, database) = (first.another_mqtt().await, first.stop().await);
    report(&mqtt, &device, 0).await;

    let other = server(&unique("t"), &client_id).start_on(database).await;
    ingests(&other.app().services().metrics).await;
    let database = other.stop().await;
    let first = server(&prefix, &client_id).start_on(database).await;
    stored(first.database(), 1).await;
    first.stop().await;
}

const KEPT: &str = "select client_id from ingest_sessions union select client_id from broker_sessions \
                    union select client_id from committed_packets order by client_id";

/// The broker deletes a session after seven days. Client ids of containers seldom come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_client_ids_that_do_not_come_back_is_deleted() {
    let prefix = unique("t");
    let member = |id: &str| server(&prefix, id).set("MQTT_SHARED_GROUP", "g");
    let first = member("c1").start().await;
    ingests(&first.app().services().metrics).await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    report(&first.another_mqtt().await, &device, 0).await;
    stored(first.database(), 1).await;
    let database = first.stop().await;
    let second = member("c2").start_on(database).await;
    until_all_joined(&second, 2).await;
    let sql = second.database().client().await;
    let ids = async || -> Vec<String> {
        sql.query(KEPT, &[]).await.expect("client ids").iter().map(|row| row.get(0)).collect()
    };
    sql.batch_execute(
        "insert into ingest_sessions (client_id, plain_prefix, term) values ('plain', 'another', 1); \
         insert into broker_sessions values ('an-old-release', now()); \
         insert into committed_packets (client_id, packet_ids, digests) values ('an-old-release', '{1}', '{1}')",
    )
    .await
    .expect("rows");
    let pool = second.app().services().pool.clone();
    let days_later = async |days: i32| {
        let later = format!(
            "update ingest_sessions set used_at = now() - interval '{days} days'; \
             update broker_sessions set since = now() - interval '{days} days'"
        );
        sql.batch_execute(&later).await.expect("an update");
        delete_unused_sessions(&pool).await.expect("deleted");
        ids().await
    };
    assert_eq!(days_later(7).await, ["an-old-release", "c1", "c2", "plain"]);
    assert_eq!(days_later(9).await, ["c2", "plain"]);
    second.stop().await;
}
