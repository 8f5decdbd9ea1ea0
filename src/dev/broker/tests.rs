//! The embedded broker from a client's side.

use super::*;
use crate::clock::Clock;
use crate::db;
use crate::dev::postgres::Postgres;
use crate::devices::{CredentialCache, Logins};
use crate::settings::{DatabaseSettings, Secret};
use mqtt5::{ConnectOptions, MqttClient};
use sha2::{Digest, Sha256};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn connect(addr: SocketAddr, login: Option<(&str, &str)>) -> Result<MqttClient, String> {
    connect_with(addr, "someone", login).await
}

async fn connect_with(addr: SocketAddr, id: &str, login: Option<(&str, &str)>) -> Result<MqttClient, String> {
    let mut options = ConnectOptions::new(id).with_clean_start(true);
    if let Some((user, password)) = login {
        options = options.with_credentials(user, password);
    }
    let client = MqttClient::with_options(options.clone());
    let answer = client.connect_with_options(&format!("mqtt://{addr}"), options).await;
    answer.map(|_| client).map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_anonymous_broker_accepts_every_client_and_a_taken_port_is_named() {
    let data = std::env::temp_dir().join(format!("smarthome-broker-open-{}", std::process::id()));
    let broker = start(&data, ANY.into(), Some(ANY.into()), None, Access::Anonymous).await.unwrap();
    let client = connect(broker.tcp_addr(), Some(("smarthome_backend", "password"))).await.unwrap();
    client.publish_qos1("smarthome/1/ESP32_001/commands", "{}").await.unwrap();
    client.disconnect().await.unwrap();
    let taken = start(&data, broker.tcp_addr(), None, None, Access::Anonymous).await.err().unwrap().to_string();
    assert!(taken.contains(&broker.tcp_addr().to_string()) && taken.contains("--mqtt-addr"), "{taken}");
    let world = start(&data, ([0, 0, 0, 0], 0).into(), None, None, Access::Anonymous).await;
    assert!(matches!(world, Err(BrokerError::NotLoopback(_))));
    broker.stop().await;
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_accounts_gives_each_device_its_own_topics() {
    let root = std::env::temp_dir().join(format!("smarthome-broker-closed-{}", std::process::id()));
    let postgres = Postgres::start(&root).unwrap();
    let settings = DatabaseSettings { url: Secret::new(postgres.url()), pool_size: 2 };
    db::migrate(&settings).await.unwrap();
    let client = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(client.1);
    let hash = |secret: &str| Sha256::digest(secret).to_vec();
    let sql = "with h as (insert into homes (key, name) values ('main', 'Home') returning id),
        d as (insert into devices (home_id, key, name, type) select id, 'lamp', 'Lamp', 'LIGHT' from h returning id)
        insert into device_credentials (device_id, secret_hash, expires_at)
        select id, s, e from d, (values ($1::bytea, null), ($2, timestamptz '2020-01-01')) v (s, e)";
    client.0.execute(sql, &[&hash("right"), &hash("expired")]).await.unwrap();

    let access = Access::Accounts(Box::new(AccountAccess {
        prefix: "smarthome".to_owned(),
        server_password: Secret::new("of the server"),
        server_client_id: "the server".to_owned(),
        logins: Logins::new(
            db::pool(&settings, db::Frozen::default(), db::PoolMetrics::default()),
            Clock::system(),
            CredentialCache::default(),
        ),
        connected: ConnectedDevices::default(),
    }));
    let broker = start(&root.join("broker"), ANY.into(), Some(ANY.into()), None, access).await.unwrap();
    let addr = broker.tcp_addr();
    let wrong = [
        None,
        Some(("main/lamp", "wrong")),
        Some(("main/lamp", "expired")),
        Some(("main/lamp", "")),
        Some(("main", "right")),
        Some((SERVER_USER, "right")),
    ];
    for login in wrong {
        for id in ["lamp@main", "the server"] {
            assert!(connect_with(addr, id, login).await.is_err(), "{login:?}");
        }
    }
    let (lamp_login, server_login) = (Some(("main/lamp", "right")), Some((SERVER_USER, "of the server")));
    let server = connect_with(addr, "the server", server_login).await.unwrap();
    for foreign in ["the server", "fan@main", "lamp@other", "main/lamp", "someone", ""] {
        assert!(connect_with(addr, foreign, lamp_login).await.is_err(), "{foreign}");
    }
    assert!(server.is_connected().await, "no client took over the server's session");
    let lamp = connect_with(addr, "lamp@main", lamp_login).await.unwrap();
    for kind in ["telemetry", "status", "heartbeat", "ack"] {
        lamp.publish_qos1(format!("smarthome/main/lamp/{kind}"), "{}").await.unwrap();
        assert!(lamp.publish_qos1(format!("smarthome/main/fan/{kind}"), "{}").await.is_err());
    }
    for topic in ["smarthome/main/lamp/commands", "smarthome/main/lamp/telemetry/x", "other/main/lamp/telemetry"] {
        assert!(lamp.publish_qos1(topic, "{}").await.is_err(), "{topic}");
    }
    let subscribe = async |client: &MqttClient, filter: &str| client.subscribe(filter, |_| {}).await.map(|_| ());
    subscribe(&lamp, "smarthome/main/lamp/commands").await.unwrap();
    subscribe(&lamp, "smarthome/main/lamp/config").await.unwrap();
    let foreign = ["smarthome/main/fan/commands", "smarthome/main/+/commands", "#", "smarthome/main/lamp/#", "$SYS/#"];
    for filter in foreign.into_iter().chain(["$share/g/smarthome/main/lamp/telemetry"]) {
        assert!(subscribe(&lamp, filter).await.is_err(), "{filter}");
    }
    subscribe(&server, "smarthome/+/+/telemetry").await.unwrap();
    assert!(
        server.publish_qos1("smarthome/main/lamp/telemetry", "{}").await.is_err(),
        "the server can't publish as a device"
    );
    server.publish_qos1("smarthome/main/lamp/commands", "{}").await.unwrap();

    // A device is disconnected when its credentials are deleted, replaced or expired.
    client.0.execute("delete from devices where key = 'lamp'", &[]).await.unwrap();
    let disconnected = async {
        while lamp.is_connected().await {
            tokio::time::sleep(Duration::from_millis(20)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(5), disconnected).await.unwrap();
    assert!(connect_with(addr, "lamp@main", lamp_login).await.is_err());
    assert!(server.is_connected().await);

    // The server deletes what a deleted device retained, under the device's client id.
    let cleaner = connect_with(addr, "lamp@main", server_login).await.unwrap();
    assert!(cleaner.publish_qos1("smarthome/main/lamp/status", "").await.is_err());
    let deleted = "insert into broker_cleanups (home_id, device_id, home_key, device_key, client_id)
        values (1, 1, 'main', 'lamp', 'lamp@main')";
    client.0.execute(deleted, &[]).await.unwrap();
    cleaner.publish_qos1("smarthome/main/lamp/status", "").await.unwrap();
    broker.stop().await;
    postgres.remove().unwrap();
    std::fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn retained_messages_survive_a_clean_restart() {
    let data = std::env::temp_dir().join(format!("smarthome-broker-kept-{}", std::process::id()));
    let broker = start(&data, ANY.into(), Some(ANY.into()), None, Access::Anonymous).await.unwrap();
    let client = connect(broker.tcp_addr(), None).await.unwrap();
    client.publish_retain("smarthome/main/lamp/config", "{\"version\":1}").await.unwrap();
    client.disconnect().await.unwrap();
    broker.stop().await;
    let broker = start(&data, ANY.into(), Some(ANY.into()), None, Access::Anonymous).await.unwrap();
    let client = connect(broker.tcp_addr(), None).await.unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    client
        .subscribe("smarthome/main/lamp/config", move |message| {
            let _ = sender.try_send(message.payload.clone());
        })
        .await
        .unwrap();
    let payload = tokio::task::spawn_blocking(move || receiver.recv_timeout(Duration::from_secs(10))).await.unwrap();
    assert_eq!(payload.unwrap(), b"{\"version\":1}");
    broker.stop().await;
    std::fs::remove_dir_all(data).unwrap();
}
