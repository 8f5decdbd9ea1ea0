//! TLS by the server's own listener: requests, sockets, renewal without a restart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use smarthome::http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, HOST};
use crate::mosquitto_tls::made;
use crate::support::app::{Builder, Database, TestApp};
use crate::support::binary::binary;
use crate::support::broker::folder;
use crate::support::server::Server;
use crate::support::services::services;
use crate::support::{eventually, http, soon, until};

/// A folder with an authority and a certificate for HOST.
fn certificate() -> PathBuf {
    let folder = folder();
    made(&folder, &["ca"]);
    made(&folder, &["broker", HOST]);
    folder.join("tls")
}

fn builder(tls: &Path) -> Builder {
    let file = |name: &str| tls.join(name).display().to_string();
    let builder = TestApp::builder().set("HTTP_TLS_CERT_FILE", file("server.crt"));
    builder.set("HTTP_TLS_KEY_FILE", file("server.key"))
}

fn handshakes(app: &TestApp, status: &str) -> f64 {
    app.metric(&format!("tls_handshakes_total{{status=\"{status}\"}}"))
}

fn expiry(app: &TestApp) -> f64 {
    app.metric("tls_certificate_expiry_timestamp_seconds")
}

/// When the certificate in this folder expires, as openssl says it.
fn not_after(tls: &Path) -> f64 {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"]).arg(tls.join("server.crt"));
    let output = String::from_utf8(command.output().expect("openssl runs").stdout).expect("text");
    let date = output.trim().strip_prefix("notAfter=").expect("a date").replace(' ', "T");
    chrono::DateTime::parse_from_rfc3339(&date).expect("a date").timestamp() as f64
}

/// The data of an operation that must succeed.
async fn ask(client: &Client, token: &str, query: &str) -> Value {
    let mut answer = client.query("127.0.0.7", token, query).await;
    assert!(answer["errors"].is_null(), "{query}: {answer}");
    answer["data"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let tls = certificate();
    let app = builder(&tls).start().await;
    let (port, authority) = (app.addr().port(), tls.join("ca.crt"));
    let client = Client::new(&authority, port);
    let register = "mutation { register(input: {email: \"ann@test.example\", password: \"a long enough password\", name: \"Ann\"}) { accessToken } }";
    let token = ask(&client, "", register).await["register"]["accessToken"].as_str().expect("a token").to_owned();
    let home =
        ask(&client, &token, "mutation { createHome(input: {name: \"Test\"}) { id key } }").await["createHome"].take();
    let (id, key) = (home["id"].as_str().expect("an id"), home["key"].as_str().expect("a key"));
    let device = format!(
        "mutation {{ registerDevice(input: {{homeId: \"{id}\", key: \"lamp\", name: \"Lamp\"}}) {{ device {{ id }} }} }}"
    );
    ask(&client, &token, &device).await;
    let subscription = format!("subscription {{ telemetry(homeId: \"{id}\") {{ sensors {{ temperature }} }} }}");
    let mut events = client.subscribe("127.0.0.7", &token, &subscription).await;
    let before = client.certificate().await.expect("TLS");
    assert_eq!(expiry(&app), not_after(&tls));

    // Half of the new pair: the one before stays in use, and nothing is refused.
    let next = certificate();
    std::fs::copy(next.join("server.key"), tls.join("server.key")).expect("copied");
    ask(&client, &token, "{ me { id } }").await;
    std::fs::copy(next.join("server.crt"), tls.join("server.crt")).expect("copied");
    let renewed = Client::new(&next.join("ca.crt"), port);
    let after = eventually("new connections get the new certificate", || async { renewed.certificate().await }).await;
    assert_ne!(before, after);
    assert_eq!(expiry(&app), not_after(&next));
    assert!(client.certificate().await.is_none(), "the certificate is of another authority");

    // The socket of before.
    let topic = format!("{}/{key}/lamp/telemetry", app.prefix());
    app.mqtt().await.publish(&topic, r#"{"sensors": {"temperature": 21.5}}"#).await.expect("the broker accepts it");
    let event = events.next().await;
    assert_eq!(event["payload"]["data"]["telemetry"]["sensors"]["temperature"], 21.5, "{event}");
    ask(&renewed, &token, "{ me { id } }").await;
    app.stop().await;
    for folder in [tls, next] {
        std::fs::remove_dir_all(folder.parent().expect("a folder")).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_is_answered_and_only_in_time() {
    let tls = certificate();
    let limits = Limits { header_timeout: Duration::from_millis(300), ..Limits::default() };
    let app = builder(&tls).limits(limits).start().await;
    let client = Client::new(&tls.join("ca.crt"), app.addr().port());
    let text = client.request("127.0.0.1", "GET /livez HTTP/1.1", "", None).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("strict-transport-security"), "{text}");
    assert_eq!((handshakes(&app, "ok"), handshakes(&app, "failed")), (1.0, 0.0));
    // A client that sends nothing, and one without TLS.
    for sent in ["", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut tcp = TcpStream::connect(app.addr()).await.expect("it listens");
        tcp.write_all(sent.as_bytes()).await.expect("sent");
        let mut received = Vec::new();
        let _ = soon("the connection ends", tcp.read_to_end(&mut received)).await;
        assert!(!String::from_utf8_lossy(&received).contains("HTTP"), "{received:?}");
    }
    until("no connection is left", || app.metric("http_connections") == 0.0).await;
    assert_eq!((handshakes(&app, "ok"), handshakes(&app, "failed")), (1.0, 2.0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_knows_the_certificate() {
    let (tls, other) = (certificate(), certificate());
    let app = builder(&tls).start().await;
    let health = |tls: &Path| {
        let mut command = binary(&["health"]);
        command.env("HTTP_ADDR", app.addr().to_string());
        let (cert, key) = (tls.join("server.crt"), tls.join("server.key"));
        command.env("HTTP_TLS_CERT_FILE", cert).env("HTTP_TLS_KEY_FILE", key).output().expect("it runs")
    };
    assert!(health(&tls).status.success());
    let output = health(&other);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("https://") && text.contains("certificate"), "{text}");
    app.stop().await;
}

/// A broker on another machine asks with the passwords of devices: it is answered with TLS. One on this machine is not.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_other_machines_are_answered_with_tls() {
    const QUESTION: &str = r#"{"username": "home/lamp", "password": "a password"}"#;
    const HEAD: &str =
        "POST /auth HTTP/1.1\r\nContent-Type: application/json\r\nX-Auth-Secret: a secret of broker and server";
    let tls = certificate();
    let start = async |addr: &str| {
        let builder = builder(&tls).set("MQTT_AUTH_ADDR", addr);
        builder.set("MQTT_AUTH_SECRET", "a secret of broker and server").start().await
    };
    let app = start("0.0.0.0:0").await;
    let port = app.app().broker_auth_addr().expect("it is on").port();
    let client = Client::new(&tls.join("ca.crt"), port);
    let answer = client.request("127.0.0.1", HEAD, QUESTION, None).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    plain.write_all(format!("{HEAD}\r\nHost: a\r\n\r\n").as_bytes()).await.expect("sent");
    let mut received = Vec::new();
    let _ = soon("the connection ends", plain.read_to_end(&mut received)).await;
    assert!(!String::from_utf8_lossy(&received).contains("HTTP"), "{received:?}");
    app.stop().await;

    let app = start("127.0.0.1:0").await;
    let addr = app.app().broker_auth_addr().expect("it is on");
    let headers = [("content-type", "application/json"), ("x-auth-secret", "a secret of broker and server")];
    assert_eq!(http::request(addr, "POST", "/auth", &headers, QUESTION.as_bytes()).await.status, 403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_cross_the_network_in_clear_text_are_warned_of() {
    const WARNING: &str = "the passwords of devices cross the network unencrypted";
    for (addr, is_warned) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let database = Database::create().await;
        let overrides = [("MQTT_AUTH_ADDR", addr), ("MQTT_AUTH_SECRET", "a secret of broker and server")];
        let server = Server::start(&database.url(), services().mqtt_port(), &overrides).await;
        assert_eq!(server.log().contains(WARNING), is_warned, "{addr}: {}", server.log());
    }
}
