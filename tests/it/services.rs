//! The shared servers of the tests, and the access rules shipped for Mosquitto.

use crate::support::broker::Broker;
use crate::support::mqtt::Mqtt;
use crate::support::services::services;

#[tokio::test]
async fn the_shared_servers_work() {
    let (client, connection) =
        tokio_postgres::connect(&services().database_url("smarthome_absent"), tokio_postgres::NoTls)
            .await
            .map_or((None, None), |(client, connection)| (Some(client), Some(connection)));
    assert!(client.is_none() && connection.is_none(), "a database that is not there");
    let mut listener = Mqtt::connect(services().mqtt_port()).await;
    let topic = crate::support::unique("kit");
    listener.subscribe(&topic).await.unwrap();
    let talker = Mqtt::connect(services().mqtt_port()).await;
    talker.publish(&topic, "hello").await.unwrap();
    assert_eq!(listener.next().await, (topic, b"hello".to_vec()));
}

#[tokio::test]
async fn mosquittos_rules_give_each_account_its_own_topics() {
    let accounts =
        [("smarthome_backend", "backend password"), ("main/ESP32_001", "device password"), ("main/lamp", "lamp")];
    let broker = Broker::with_accounts(&accounts).await;
    assert!(Mqtt::connect_as(broker.port(), None).await.is_err(), "nobody comes in without an account");
    assert!(Mqtt::connect_as(broker.port(), Some(("main/ESP32_001", "wrong"))).await.is_err());
    let mut backend = Mqtt::connect_as(broker.port(), Some(accounts[0])).await.unwrap();
    let mut device = Mqtt::connect_as(broker.port(), Some(accounts[1])).await.unwrap();

    for kind in ["telemetry", "status", "heartbeat", "ack"] {
        backend.subscribe(&format!("smarthome/+/+/{kind}")).await.unwrap();
    }
    for kind in ["telemetry", "status", "heartbeat", "ack"] {
        let own = format!("smarthome/main/ESP32_001/{kind}");
        device.publish(&own, kind).await.unwrap();
        assert_eq!(backend.next().await, (own, kind.as_bytes().to_vec()));
        let neighbours = format!("smarthome/main/lamp/{kind}");
        assert!(device.publish(&neighbours, "not mine").await.is_err(), "{neighbours}");
    }
    assert!(device.publish("smarthome/main/ESP32_001/commands", "my own order").await.is_err());

    for kind in ["commands", "config"] {
        device.subscribe(&format!("smarthome/main/ESP32_001/{kind}")).await.unwrap();
        // Mosquitto grants a foreign filter and then delivers nothing.
        let _ = device.subscribe(&format!("smarthome/main/lamp/{kind}")).await;
        backend.publish(&format!("smarthome/main/lamp/{kind}"), "for the lamp").await.unwrap();
        let own = format!("smarthome/main/ESP32_001/{kind}");
        backend.publish(&own, kind).await.unwrap();
        assert_eq!(device.next().await, (own, kind.as_bytes().to_vec()));
    }
    assert!(backend.try_next().is_none() && device.try_next().is_none());
}

/// A device whose account name is not its topic needs the commented lines of the ACL: the pattern rules refuse it.
#[tokio::test]
async fn a_device_with_another_account_name_works_with_the_commented_lines() {
    let accounts = [("smarthome_backend", "backend password"), ("device_001", "device password")];
    let take_in = |rules: &str| {
        let lines = rules.lines().map(|line| match line.strip_prefix('#') {
            Some(rule) if rule.starts_with("user ") || rule.starts_with("topic ") => rule,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let broker = Broker::with_rules(&accounts, take_in).await;
    let mut backend = Mqtt::connect_as(broker.port(), Some(accounts[0])).await.unwrap();
    let mut device = Mqtt::connect_as(broker.port(), Some(accounts[1])).await.unwrap();
    for kind in ["telemetry", "status", "heartbeat", "ack"] {
        backend.subscribe(&format!("smarthome/+/+/{kind}")).await.unwrap();
        let own = format!("smarthome/home1/device1/{kind}");
        device.publish(&own, kind).await.unwrap();
        assert_eq!(backend.next().await.0, own);
        assert!(device.publish(&format!("smarthome/home1/device2/{kind}"), kind).await.is_err());
    }
    for kind in ["commands", "config"] {
        let own = format!("smarthome/home1/device1/{kind}");
        device.subscribe(&own).await.unwrap();
        backend.publish(&own, kind).await.unwrap();
        assert_eq!(device.next().await.0, own);
    }
}
