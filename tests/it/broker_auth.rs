//! Authentication and authorization for brokers that ask over HTTP, in the format of each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::app::{Database, TestApp};
use crate::support::eventually;
use crate::support::http::request;
use crate::support::proxy::Mode;
use crate::support::user::Device;

const SECRET: &str = "a secret of the broker and the server";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

async fn ask(addr: SocketAddr, path: &str, media: &str, body: &str) -> (u16, Value) {
    let headers = [("content-type", media), ("x-auth-secret", SECRET)];
    let answer = request(addr, "POST", path, &headers, body.as_bytes()).await;
    (answer.status, answer.json())
}

async fn allows(addr: SocketAddr, path: &str, question: Value) -> bool {
    let (status, answer) = ask(addr, path, JSON, &question.to_string()).await;
    let allowed = answer["ok"].as_bool().unwrap_or_else(|| panic!("{question}: {answer}"));
    // EMQX takes any other status for no answer; the others take 200 for a yes.
    let is_emqx = path == "/emqx/auth" || question.get("action").is_some();
    assert_eq!(status, if allowed || is_emqx { 200 } else { 403 }, "{question}: {answer}");
    assert_eq!(answer["result"], if allowed { "allow" } else { "deny" });
    allowed
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_topics_are_authorized() {
    let app = TestApp::builder()
        .set("MQTT_AUTH_ADDR", "127.0.0.1:0")
        .set("MQTT_AUTH_SECRET", SECRET)
        .set("MQTT_TOPIC_PREFIX", "smarthome")
        .set("MQTT_USERNAME", "smarthome_backend")
        .set("MQTT_PASSWORD", "the server's own password")
        .start()
        .await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let lamp = app.device(&owner, &home, "lamp").await;
    let (name, password, id) = (&lamp.username, &lamp.password, &lamp.client_id);

    // Authentication in JSON (EMQX) and as a form (mosquitto-go-auth); VerneMQ has a test of its own.
    assert!(allows(addr, "/auth", json!({"username": name, "password": password, "clientid": id})).await);
    assert!(allows(addr, "/auth", json!({"username": name, "password": password})).await);
    let server = json!({"username": "smarthome_backend", "password": "the server's own password", "clientid": "any"});
    assert!(allows(addr, "/auth", server).await);
    for (username, password, clientid) in [
        (name.as_str(), "wrong", ""),
        (name, "", ""),
        (name, password, "somebody else's"),
        ("smarthome_backend", password, ""),
        ("", "", ""),
        ("lamp", password, ""),
    ] {
        let question = json!({"username": username, "password": password, "clientid": clientid});
        for path in ["/auth", "/emqx/auth"] {
            assert!(!allows(addr, path, question.clone()).await, "{question}");
        }
    }
    let form = |name: &str| format!("username={}&password={password}", name.replace('/', "%2F"));
    assert_eq!(ask(addr, "/auth", FORM, &form(name)).await.1["ok"], true);
    assert_eq!(ask(addr, "/auth", FORM, &form("other/lamp")).await.1["ok"], false);
    assert!(!allows(addr, "/superuser", json!({"username": "smarthome_backend"})).await);

    // Authorization by action (EMQX) and by number (mosquitto-go-auth).
    let own = |kind: &str| format!("smarthome/{name}/{kind}");
    for (username, kind, publish, subscribe) in [
        (name.as_str(), "telemetry", true, false),
        (name, "ack", true, false),
        (name, "commands", false, true),
        ("smarthome_backend", "telemetry", false, true),
        ("smarthome_backend", "commands", true, false),
        ("other/lamp", "telemetry", false, false),
        ("other/lamp", "commands", false, false),
        ("", "telemetry", false, false),
    ] {
        let question = |action: (&str, Value)| json!({"username": username, "topic": own(kind), action.0: action.1});
        assert_eq!(allows(addr, "/acl", question(("action", "publish".into()))).await, publish, "{username} {kind}");
        assert_eq!(
            allows(addr, "/acl", question(("action", "subscribe".into()))).await,
            subscribe,
            "{username} {kind}"
        );
        for (acc, expected) in [(1, subscribe), (2, publish), (3, publish && subscribe), (4, subscribe)] {
            assert_eq!(allows(addr, "/acl", question(("acc", acc.into()))).await, expected, "{username} {kind} {acc}");
        }
        let form = format!("username={username}&topic={}&acc=2", own(kind));
        assert_eq!(ask(addr, "/acl", FORM, &form).await.1["ok"], publish);
    }

    // Malformed requests, wrong secrets, deleted devices.
    for (media, body) in [(JSON, "{"), (JSON, "[]"), ("text/plain", "x"), (JSON, r#"{"username":"a/b","topic":"t"}"#)] {
        assert_eq!(ask(addr, "/acl", media, body).await.0, 400, "{body}");
    }
    let long = format!("{{\"username\": \"{}\"}}", "x".repeat(200 << 10));
    assert_eq!(ask(addr, "/auth", JSON, &long).await.0, 413);
    let question = json!({"username": name, "password": password}).to_string();
    let basic = |secret: &str| {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("broker:{secret}")))
    };
    let (right, wrong) = (basic(SECRET), basic("guessed"));
    for (header, value, status) in [
        ("x-other", "", 401),
        ("x-auth-secret", "guessed", 401),
        ("authorization", wrong.as_str(), 401),
        ("authorization", right.as_str(), 200),
    ] {
        let headers = [("content-type", JSON), (header, value)];
        assert_eq!(request(addr, "POST", "/auth", &headers, question.as_bytes()).await.status, status, "{header}");
    }
    assert_eq!(request(app.addr(), "POST", "/auth", &[("content-type", JSON)], b"{}").await.status, 404);
    let publish = json!({"username": name, "topic": own("telemetry"), "action": "publish"});
    assert!(allows(addr, "/acl", publish.clone()).await);
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": lamp.id})).await;
    assert!(!allows(addr, "/acl", publish).await, "its connection may still be open");
    assert!(!allows(addr, "/auth", json!({"username": name, "password": password})).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vernemq_webhooks_are_answered_in_its_format() {
    let app =
        TestApp::builder().set("MQTT_AUTH_ADDR", "127.0.0.1:0").set("MQTT_TOPIC_PREFIX", "smarthome").start().await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let lamp = app.device(&owner, &home, "lamp").await;
    let hook = async |hook: &str, question: Value| {
        let headers = [("content-type", JSON), ("vernemq-hook", hook)];
        let answer = request(addr, "POST", "/vernemq", &headers, question.to_string().as_bytes()).await;
        (answer.status, answer.json()["result"].clone())
    };
    let (yes, no) = ((200, json!("ok")), (200, json!({"error": "not_allowed"})));
    let name = &lamp.username;
    let id = &lamp.client_id;
    let register = |password: &str| json!({"username": name, "password": password, "client_id": id, "mountpoint": ""});
    for version in ["", "_m5"] {
        assert_eq!(hook(&format!("auth_on_register{version}"), register(&lamp.password)).await, yes);
        assert_eq!(hook(&format!("auth_on_register{version}"), register("wrong")).await, no);
        let publish = |topic: String| json!({"username": name, "client_id": id, "topic": topic, "payload": "e30="});
        assert_eq!(hook(&format!("auth_on_publish{version}"), publish(lamp.topic("telemetry"))).await, yes);
        assert_eq!(hook(&format!("auth_on_publish{version}"), publish(lamp.topic("commands"))).await, no);
        let subscribe = |kinds: &[&str]| {
            let topics: Vec<_> = kinds.iter().map(|kind| json!({"topic": lamp.topic(kind), "qos": 1})).collect();
            json!({"username": name, "client_id": id, "topics": topics})
        };
        assert_eq!(hook(&format!("auth_on_subscribe{version}"), subscribe(&["commands", "config"])).await, yes);
        assert_eq!(hook(&format!("auth_on_subscribe{version}"), subscribe(&["commands", "telemetry"])).await, no);
        assert_eq!(hook(&format!("auth_on_subscribe{version}"), subscribe(&[])).await, no);
    }
    assert_eq!(hook("on_deliver", json!({})).await.0, 400);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_authorized_while_its_password_is_valid() {
    let app = TestApp::builder().set("MQTT_AUTH_ADDR", "127.0.0.1:0").set("MQTT_AUTH_SECRET", SECRET).start().await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let (lamp, fan) = (app.device(&owner, &home, "lamp").await, app.device(&owner, &home, "fan").await);
    let rotate = async |device: &Device, grace: i64| {
        let rotate = "mutation($d: ID!, $g: Int) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: $g}) \
                      { username password } }";
        let made = owner.query(rotate, json!({"d": device.id, "g": grace})).await;
        assert_eq!(made["rotateDeviceCredentials"]["username"], device.username, "the user name stays");
        made["rotateDeviceCredentials"]["password"].as_str().unwrap().to_owned()
    };
    let may_connect =
        async |password: &str| allows(addr, "/auth", json!({"username": lamp.username, "password": password})).await;
    let is_authorized = async || allows(addr, "/acl", publishes(&lamp)).await;
    let one = &lamp.password;
    assert!(may_connect(one).await && is_authorized().await);
    let two = rotate(&lamp, 0).await;
    assert!(!is_authorized().await && !may_connect(one).await, "the old password is invalid at once");
    assert!(!is_authorized().await, "also at a later question");
    assert!(may_connect(&two).await && is_authorized().await, "connected with the new password");

    let three = rotate(&lamp, 60).await;
    assert!(is_authorized().await, "during the grace period");
    app.clock().advance(TimeDelta::seconds(60));
    assert!(!is_authorized().await);
    assert!(may_connect(&three).await && is_authorized().await);

    // A connection with the old password ends with it; one with the new password goes on.
    let four = rotate(&lamp, 60).await;
    assert!(may_connect(&four).await && may_connect(&three).await);
    app.clock().advance(TimeDelta::seconds(60));
    assert!(!is_authorized().await && may_connect(&four).await && is_authorized().await);
    let five = rotate(&lamp, 60).await;
    assert!(may_connect(&five).await);
    app.clock().advance(TimeDelta::seconds(60));
    assert!(is_authorized().await);

    // A device that never connected with a password, for example with a certificate, loses none.
    rotate(&fan, 0).await;
    assert!(allows(addr, "/acl", publishes(&fan)).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_registered_anew_shares_nothing_with_the_deleted_one() {
    let app = TestApp::builder()
        .set("MQTT_AUTH_ADDR", "127.0.0.1:0")
        .set("MQTT_AUTH_SECRET", SECRET)
        .set("MQTT_USERNAME", "smarthome_backend")
        .set("MQTT_PASSWORD", "the server's own password")
        .start()
        .await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let first = app.device(&owner, &home, "lamp").await;
    let logs_in = |device: &Device, password: &str, id: &str| {
        let question = json!({"username": device.username, "password": password, "clientid": id});
        allows(addr, "/auth", question)
    };
    let server_clears = json!({"username": "smarthome_backend", "topic": first.topic("status"), "action": "publish"});
    assert!(logs_in(&first, &first.password, &first.client_id).await && allows(addr, "/acl", publishes(&first)).await);
    assert!(!allows(addr, "/acl", server_clears.clone()).await, "the device exists");
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": first.id})).await;
    assert!(allows(addr, "/acl", server_clears.clone()).await);
    let second = app.device(&owner, &home, "lamp").await;
    eventually("the broker has nothing of the first", || async {
        logs_in(&second, &second.password, &second.client_id).await.then_some(())
    })
    .await;
    assert!(!allows(addr, "/acl", server_clears).await, "the topic is that of the second");
    for (password, id) in [(&first.password, &first.client_id), (&second.password, &first.client_id)] {
        assert!(!logs_in(&second, password, id).await);
    }
    app.stop().await;
}

/// EMQX's time-out for an answer.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

fn publishes(device: &Device) -> Value {
    json!({"username": device.username, "topic": device.topic("telemetry"), "action": "publish"})
}

#[tokio::test(flavor = "multi_thread")]
async fn authorized_connections_go_on_while_the_database_is_away() {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let app = TestApp::builder()
        .set("DATABASE_URL", url)
        .set("MQTT_AUTH_ADDR", "127.0.0.1:0")
        .set("MQTT_AUTH_SECRET", SECRET)
        .start()
        .await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let mut devices = Vec::new();
    for key in ["lamp", "fan", "door", "new"] {
        devices.push(app.device(&owner, &home, key).await);
    }
    let [lamp, fan, door, new] = devices.try_into().unwrap();
    let logs_in = |device: &Device| json!({"username": device.username, "password": device.password});
    for device in [&lamp, &fan, &door] {
        assert!(allows(addr, "/auth", logs_in(device)).await);
        assert!(allows(addr, "/acl", publishes(device)).await);
    }
    // A deletion or rotation before the outage counts, although the broker has not asked since.
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": fan.id})).await;
    let rotate = "mutation($d: ID!) { rotateDeviceCredentials(input: {deviceId: $d}) { username } }";
    owner.query(rotate, json!({"d": door.id})).await;
    let status = async |path, question: Value| ask(addr, path, JSON, &question.to_string()).await.0;
    for mode in [Mode::Cut, Mode::Stall] {
        proxy.set(mode);
        for n in 0..20 {
            let asked = Instant::now();
            assert!(allows(addr, "/acl", publishes(&lamp)).await, "{mode:?} {n}");
            assert!(asked.elapsed() < BROKER_TIMEOUT, "{mode:?} {n}: after {:?}", asked.elapsed());
        }
        let other = json!({"username": lamp.username, "topic": lamp.topic("commands"), "action": "publish"});
        assert!(!allows(addr, "/acl", other).await, "the topic rules need no database");
        for device in [&fan, &door, &new] {
            assert_eq!(status("/acl", publishes(device)).await, 503, "{mode:?} {}: not cached", device.key);
        }
        assert!(app.app().services().metrics.broker_auth_from_cache.get() >= 20);
        if mode == Mode::Cut {
            assert_eq!(status("/auth", logs_in(&lamp)).await, 503, "passwords are never checked without the database");
        }
        proxy.set(Mode::Pass);
        let back = || async { (status("/acl", publishes(&fan)).await == 200).then_some(()) };
        eventually("the database answers again", back).await;
        assert!(!allows(addr, "/acl", publishes(&fan)).await);
        assert!(allows(addr, "/acl", publishes(&lamp)).await);
    }
    proxy.set(Mode::Cut);
    assert!(allows(addr, "/acl", publishes(&lamp)).await);
    app.clock().advance(TimeDelta::minutes(15));
    assert_eq!(status("/acl", publishes(&lamp)).await, 503, "the cached answer has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_answered_while_the_api_uses_every_connection() {
    let app = TestApp::builder().set("MQTT_AUTH_ADDR", "127.0.0.1:0").set("MQTT_AUTH_SECRET", SECRET).start().await;
    let addr = app.app().broker_auth_addr().unwrap();
    let (home, owner) = app.home().await;
    let lamp = app.device(&owner, &home, "lamp").await;
    let pool = &app.app().services().pool;
    let mut taken = Vec::new();
    while let Ok(conn) = pool.get().await {
        taken.push(conn);
    }
    assert!(!taken.is_empty());
    let login = json!({"username": lamp.username, "password": lamp.password});
    assert!(allows(addr, "/auth", login).await && allows(addr, "/acl", publishes(&lamp)).await);
}
