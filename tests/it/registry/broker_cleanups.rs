//! What the broker must delete for deleted devices, and when.

use chrono::TimeDelta;
use serde_json::json;
use smarthome::settings::{DatabaseSettings, Secret};

use super::Graph;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_keeps_is_deleted_at_once_and_an_hour_later() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let (home, other) = (graph.home(&ann).await, graph.home(&ann).await);
    let devices = graph.devices(&ann, &home, 3).await;
    graph.devices(&ann, &other, 1).await;
    let as_spelt = "insert into device_states (device_id, home_segment, device_segment) \
                    select id, home_id, '24:6F:28:AA:BB:CC' from devices where key = 'd0'";
    graph.sql.batch_execute(as_spelt).await.unwrap();
    let database = DatabaseSettings { url: Secret::new(graph.database.url()), pool_size: 1 };
    let mut leader = graph.services.devices.cleanups().try_lead(&database).await.unwrap().expect("no other leader");
    assert_eq!(leader.due(10).await.unwrap(), []);
    let delete = "mutation($d: ID!) { deleteDevice(id: $d) }";
    graph.ask(&ann, delete, json!({"d": devices[0]})).await;
    let due = leader.due(10).await.unwrap();
    let client_id = format!("d0@{home}~");
    assert!(due[0].client_id.starts_with(&client_id), "{due:?}");
    let pair = |device: &str| (home.clone(), device.to_owned());
    assert_eq!(due[0].topics, [pair("d0"), pair("24:6F:28:AA:BB:CC")]);
    leader.confirm(&due[0]).await.unwrap();
    assert_eq!(leader.due(10).await.unwrap(), []);

    // The homes take turns.
    for home in [&home, &other] {
        graph.ask(&ann, "mutation($h: ID!) { deleteHome(id: $h) }", json!({"h": home})).await;
    }
    let due = leader.due(2).await.unwrap();
    assert_ne!(due[0].topics[0].0, due[1].topics[0].0);
    // A message to a device that is on its way keeps its cleanup waiting.
    let dispatcher = graph.database.client().await;
    let lock = |function: &str| format!("select {function}(7004, hashint8({}))", devices[1]);
    dispatcher.execute(&lock("pg_advisory_lock"), &[]).await.unwrap();
    assert_eq!(leader.due(10).await.unwrap().len(), 2);
    dispatcher.execute(&lock("pg_advisory_unlock"), &[]).await.unwrap();
    let due = leader.due(10).await.unwrap();
    assert_eq!(due.len(), 3);
    for cleanup in due {
        leader.confirm(&cleanup).await.unwrap();
    }
    graph.clock.advance(TimeDelta::hours(1));
    let again = leader.due(10).await.unwrap();
    assert_eq!(again.len(), 4);
    for cleanup in again {
        leader.confirm(&cleanup).await.unwrap();
    }
    assert_eq!(graph.count("broker_cleanups").await, 0);
}
