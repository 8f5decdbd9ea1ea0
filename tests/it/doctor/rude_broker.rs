//! Brokers that answer wrongly, late or not at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{examine, migrated, variables};
use crate::support::broker::Broker;
use crate::support::installation::SERVER;

/// What a relay does with a connection once the client has sent a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    /// Forwards nothing more from the client.
    Hold,
}

/// A relay to the broker. Returns its address.
async fn relay(broker: &Broker, text: &'static str, then: Then) -> SocketAddr {
    let (listener, port) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), broker.port());
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, port, text, then));
        }
    });
    addr
}

async fn forward(client: TcpStream, port: u16, text: &'static str, then: Then) {
    let broker = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker listens");
    let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) =
        (client.into_split(), broker.into_split());
    let up = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..n].windows(text.len()).any(|part| part == text.as_bytes()) {
                match then {
                    Then::End => return,
                    Then::Hold => std::future::pending().await,
                }
            }
            to_broker.write_all(&bytes[..n]).await.expect("sent");
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
    }
}

async fn variables_with(broker: SocketAddr) -> (crate::support::app::Database, HashMap<String, String>) {
    let database = migrated().await;
    let variables = variables(&database.url(), &format!("mqtt://{broker}"));
    (database, variables)
}

/// A port without TLS refuses every client. What comes to it crosses the network in clear text.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_for_the_transport_of_the_url_alone() {
    const NOT_AUTHORIZED: [u8; 5] = [0x20, 3, 0, 0x87, 0];
    let (listener, received) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(Mutex::new(Vec::new())));
    let (port, record) = (listener.local_addr().unwrap().port(), received.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let record = record.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(n @ 1..) = client.read(&mut bytes).await {
                    record.lock().unwrap().extend_from_slice(&bytes[..n]);
                    let _ = client.write_all(&NOT_AUTHORIZED).await;
                }
            });
        }
    });
    let database = migrated().await;
    let mut variables = variables(&database.url(), &format!("mqtts://localhost:{port}"));
    variables.insert("MQTT_PASSWORD".to_owned(), "canary".to_owned());
    examine(&variables, &[]).await.assert_fault("tls", "without TLS", &format!("mqtt://localhost:{port}"));
    let received = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
    assert!(received.contains("MQTT"), "a client has connected without TLS");
    for secret in [SERVER.0, "canary"] {
        assert!(!received.contains(secret), "{received:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_ends_connections_for_its_own_topics_is_no_fault() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let (_database, variables) = variables_with(relay(&broker, "$SYS/", Then::End).await).await;
    let report = examine(&variables, &[]).await;
    report.assert_well();
    assert_eq!(report.check("load")["status"], "notChecked");
    assert_eq!(report.check("roundTrip")["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_not_the_end_of_the_connection() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    for (then, detail) in [(Then::Hold, "did not answer"), (Then::End, "ended the connection")] {
        let (_database, variables) = variables_with(relay(&broker, "/_doctor/", then).await).await;
        examine(&variables, &[]).await.assert_fault("connection", detail, "the broker's log");
    }
}

/// Each has client ids of its own, also in the check of the session.
#[tokio::test(flavor = "multi_thread")]
async fn several_doctors_at_once() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let (_database, variables) = variables_with(([127, 0, 0, 1], broker.port()).into()).await;
    for report in futures_util::future::join_all((0..8).map(|_| examine(&variables, &[]))).await {
        assert!(report.faults().is_empty(), "{:#?}", report.checks);
    }
}

/// The account exists, but there is no plugin.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_the_plugin_of_provisioning() {
    const ACCOUNT: (&str, &str) = ("administrator", "a password of twenty-four bytes");
    let broker = Broker::with_accounts(&[SERVER, ACCOUNT]).await;
    let (_database, mut variables) = variables_with(([127, 0, 0, 1], broker.port()).into()).await;
    let names = ["MQTT_PROVISIONING", "MQTT_DYNSEC_USERNAME", "MQTT_DYNSEC_PASSWORD"].map(str::to_owned);
    variables.extend(names.into_iter().zip(["dynsec", ACCOUNT.0, ACCOUNT.1].map(str::to_owned)));
    examine(&variables, &[]).await.assert_fault("provisioning", "Dynamic Security", "dynamic-security.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_retains_nothing() {
    let broker = Broker::start_with("allow_anonymous true\nretain_available false").await;
    let (_database, variables) = variables_with(([127, 0, 0, 1], broker.port()).into()).await;
    examine(&variables, &[]).await.assert_fault("config", "retained messages", "retain_available");
}
