//! The order in which the statements of a batch reach PostgreSQL. They are sent without waiting for each other, so
//! only this order keeps the inserts behind the lock and the commit behind the inserts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::support::app::{Database, TestApp};
use super::support::services::services;
use super::support::user::Device;
use super::support::{ingest_lock, until};

/// The statements of a batch in their order: a name, a part of the text, and whether each batch of the test needs it.
const ORDER: [(&str, &str, bool); 15] = [
    ("begin", "begin", true),
    ("ingest lock", "pg_advisory_xact_lock(7002", true),
    ("readings", "insert into telemetry", true),
    ("states", "insert into device_states", true),
    ("answers to commands", "update commands", true),
    ("answers to configurations", "update device_configs", true),
    ("rejected messages", "insert into rejected_messages", true),
    ("pruning of rejected messages", "delete from rejected_messages", false),
    ("packets of the lost session", "delete from committed_packets where (committed_packets.client_id = )", false),
    ("new session", "insert into broker_sessions", false),
    ("new session is not stale", "update ingest_sessions set is_stale", false),
    ("losses", "insert into broker_losses", false),
    ("obsolete packets", "delete from committed_packets where client_id", false),
    ("packets", "insert into committed_packets", true),
    ("commit", "commit", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statements_of_a_batch_arrive_in_their_order_prepared_or_not() {
    let database = Database::create().await;
    let recorder = Recorder::start().await;
    let url = format!("postgres://smarthome@{}/{}", recorder.addr, database.name());
    let app = TestApp::builder().set("DATABASE_URL", url).start_on(database).await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    until("the server is subscribed", || app.app().services().metrics.mqtt_connected.get() == 1).await;
    // The first round prepares most of the statements, the second one finds them prepared.
    for _ in 0..2 {
        in_one_batch(&app, &device).await;
    }
    let transactions = recorder.transactions();
    println!("{transactions:#?}");
    assert_eq!(transactions.iter().filter(|names| has_every_statement(names)).count(), 2);
    for names in &transactions {
        let order: Vec<_> = ORDER.iter().map(|(name, ..)| *name).filter(|name| names.contains(name)).collect();
        assert_eq!(*names, order);
    }
    for name in ["pruning of rejected messages", "packets of the lost session", "new session"] {
        assert!(transactions.iter().any(|names| names.contains(&name)), "{name}");
    }
    app.stop().await;
}

fn has_every_statement(names: &[&str]) -> bool {
    ORDER.iter().all(|(name, _, is_needed)| !is_needed || names.contains(name))
}

/// Publishes a message of each kind while the writer waits for the ingest lock with an earlier one: they form the next
/// batch together.
async fn in_one_batch(app: &TestApp, device: &Device) {
    let metrics = &app.app().services().metrics;
    let received = metrics.mqtt_received.get();
    let holder = app.database().client().await;
    ingest_lock::take(&holder).await;
    app.publish(device, "telemetry", json!({"sensors": {"temperature": 20}}).to_string()).await;
    ingest_lock::awaited(&holder).await;
    let command = "cmd_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    for (kind, payload) in [
        ("telemetry", json!({"sensors": {"temperature": 21}})),
        ("status", json!({"online": true})),
        ("ack", json!({"commandId": command, "status": "SUCCEEDED"})),
        ("ack", json!({"configVersion": 1, "status": "APPLIED"})),
        ("telemetry", json!([])),
    ] {
        app.publish(device, kind, payload.to_string()).await;
    }
    until("all are received", || metrics.mqtt_received.get() == received + 6).await;
    ingest_lock::release(&holder).await;
    app.all_messages_are_done().await;
}

/// A proxy in front of PostgreSQL that records the statements of each connection in the order of their arrival.
struct Recorder {
    addr: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let recorder = Self { addr: listener.local_addr().expect("bound"), connections: Arc::default() };
        let connections = recorder.connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let index = {
                    let mut connections = connections.lock().expect("connections lock");
                    connections.push(Vec::new());
                    connections.len() - 1
                };
                tokio::spawn(relay(client, index, connections.clone()));
            }
        });
        recorder
    }

    /// The transactions of the writer's connections, each as the names of its statements.
    fn transactions(&self) -> Vec<Vec<&'static str>> {
        let mut transactions = Vec::new();
        for statements in self.connections.lock().expect("connections lock").iter() {
            if !statements.iter().any(|statement| statement.contains("insert into committed_packets")) {
                continue;
            }
            // The first transaction begins the term.
            let term = statements.iter().position(|statement| statement.contains("insert into ingest_sessions"));
            let of_batches =
                statements.iter().skip(term.expect("a term")).skip_while(|statement| *statement != "commit").skip(1);
            let mut names: Option<Vec<_>> = None;
            for statement in of_batches {
                match (name_of(statement), &mut names) {
                    (Some("begin"), _) => names = Some(vec!["begin"]),
                    (Some("commit"), Some(open)) => {
                        open.push("commit");
                        transactions.extend(names.take());
                    }
                    (name, Some(open)) => open.push(name.unwrap_or_else(|| panic!("not of a batch: {statement}"))),
                    (Some(name), None) => panic!("{name} outside of a transaction"),
                    (None, None) => {}
                }
            }
        }
        transactions
    }
}

/// `None` for a statement that is no part of a batch's transaction. A batch of one reading is a statement that needs none.
fn name_of(statement: &str) -> Option<&'static str> {
    if statement.starts_with("with locked as materialized") {
        return None;
    }
    let is_whole = |part: &str| ["begin", "commit"].contains(&part);
    let known = ORDER.iter().find(|(_, part, _)| statement == *part || !is_whole(part) && statement.contains(part));
    known.map(|(name, ..)| *name)
}

async fn relay(client: TcpStream, index: usize, connections: Arc<Mutex<Vec<Vec<String>>>>) {
    let Ok(server) = UnixStream::connect(services().database_socket()).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut frames = Frames::default();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            let started = frames.push(&buffer[..n]);
            connections.lock().expect("connections lock")[index].extend(started);
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

/// Reads the frontend's messages (PostgreSQL's protocol 3.0, "Message Formats").
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// After the start-up message each message begins with its type.
    is_started: bool,
    /// Text by the name of the prepared statement.
    prepared: std::collections::HashMap<String, String>,
}

impl Frames {
    /// The statements that begin to run with these bytes.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        const PROTOCOL_3: [u8; 4] = [0, 3, 0, 0];
        self.bytes.extend(bytes);
        let mut statements = Vec::new();
        loop {
            let type_len = usize::from(self.is_started);
            let Some(len) = self.bytes.get(type_len..type_len + 4) else { return statements };
            let len = u32::from_be_bytes(len.try_into().expect("4 bytes")) as usize;
            if self.bytes.len() < type_len + len {
                return statements;
            }
            let frame: Vec<u8> = self.bytes.drain(..type_len + len).collect();
            let body = &frame[type_len + 4..];
            if !self.is_started {
                self.is_started = body.starts_with(&PROTOCOL_3);
                continue;
            }
            let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
            let mut text = || texts.next().expect("a text");
            match frame[0] {
                // Parse: statement, query.
                b'P' => _ = self.prepared.insert(text(), normalize(&text())),
                // Bind: portal, statement.
                b'B' => statements.push((text(), self.prepared[&text()].clone()).1),
                // Query.
                b'Q' => statements.push(normalize(&text())),
                _ => {}
            }
        }
    }
}

/// The text in lower case, without comments, quotes and parameters, with single spaces.
fn normalize(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase().replace('"', "");
    let text: String = text.split('$').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
