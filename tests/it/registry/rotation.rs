//! Rotation of devices' passwords: which are valid, for how long, and the permission.

use chrono::TimeDelta;
use serde_json::{Value, json};
use smarthome::devices::{CredentialCache, Logins, MqttUser};

use super::{Graph, text};

const ROTATE: &str = "mutation($d: ID!, $g: Int) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: $g}) \
                      { username password clientId brokerUrl } }";

#[tokio::test(flavor = "multi_thread")]
async fn at_most_two_passwords_are_valid_after_a_rotation() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let device = graph.devices(&ann, &home, 2).await.remove(0);
    let logins = Logins::new(graph.services.pool.clone(), graph.clock.clone(), CredentialCache::default());
    let is_valid = async |credentials: &Value| {
        let username = text(&credentials["username"]);
        logins.authenticate(MqttUser::parse(&username).unwrap(), None, &text(&credentials["password"])).await.unwrap()
    };
    let rotate = async |grace: i64| {
        let mut made = graph.ask(&ann, ROTATE, json!({"d": device, "g": grace})).await;
        made["rotateDeviceCredentials"].take()
    };
    let one = rotate(0).await;
    assert_eq!(one["username"], json!(format!("{home}/d0")));
    assert!(text(&one["clientId"]).starts_with(&format!("d0@{home}~")), "{one}");
    assert!(is_valid(&one).await);
    let two = rotate(60).await;
    assert_eq!(two["clientId"], one["clientId"], "a rotation keeps the device's session");
    assert!(is_valid(&one).await && is_valid(&two).await, "both are valid for a minute");
    graph.clock.advance(TimeDelta::seconds(59));
    assert!(is_valid(&one).await);
    graph.clock.advance(TimeDelta::seconds(1));
    assert!(!is_valid(&one).await && is_valid(&two).await);

    let three = rotate(60).await;
    let four = rotate(3_600).await;
    assert!(!is_valid(&two).await, "the third rotation ends the oldest");
    assert!(is_valid(&three).await && is_valid(&four).await);
    let count = format!("device_credentials where device_id = {device}");
    assert_eq!(graph.count(&count).await, 2);
    let five = rotate(0).await;
    assert!(
        !is_valid(&three).await && !is_valid(&four).await && is_valid(&five).await,
        "without a grace period the others end at once"
    );
    assert_eq!(graph.count(&count).await, 1);
    let stored = "select secret_hash::text || broker_hash from device_credentials";
    for row in graph.sql.query(stored, &[]).await.unwrap() {
        let stored: String = row.get(0);
        assert!(!stored.contains(&text(&five["password"])) && stored.contains("$7$101$"), "{stored}");
    }

    graph.ask(&ann, "mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": device})).await;
    assert!(!is_valid(&five).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_needs_the_permission_and_a_bounded_grace_period() {
    let graph = Graph::start().await;
    let (ann, ben, eve) = (graph.person().await, graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    graph.join(&home, &ben, "MEMBER").await;
    let device = graph.devices(&ann, &home, 1).await.remove(0);
    assert_eq!(graph.code(&ben, ROTATE, json!({"d": device})).await, "FORBIDDEN");
    assert_eq!(graph.code(&eve, ROTATE, json!({"d": device})).await, "NOT_FOUND");
    assert_eq!(graph.code(&ann, ROTATE, json!({"d": "999999"})).await, "NOT_FOUND");
    for grace in [-1, 30 * 24 * 3600 + 1] {
        let answer = graph.answer(&ann, ROTATE, json!({"d": device, "g": grace})).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": "graceSeconds"}));
    }
    assert_eq!(graph.count("device_credentials").await, 1);
    let made = graph.ask(&ann, ROTATE, json!({"d": device, "g": 30 * 24 * 3600})).await;
    assert_eq!(text(&made["rotateDeviceCredentials"]["password"]).len(), 32);
}
