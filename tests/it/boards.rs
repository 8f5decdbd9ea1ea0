//! The device examples at a server and a Mosquitto with accounts: the sketch for the ESP32 compiled for this machine,
//! and the script on MicroPython. Whatever fails, each reading whose receipt the broker confirmed is stored, commands are
//! executed once, and configurations are applied or rejected with reasons.

use std::net::UdpSocket;

use serde_json::{Value, json};
use smarthome::clock::Clock;

use super::support::app::{Database, TestApp};
use super::support::board::{Board, Example};
use super::support::broker::Broker;
use super::support::installation::{self, SERVER};
use super::support::mqtt::Mqtt;
use super::support::user::{Device, User};
use super::support::{eventually, until};

/// Seconds between 1900, where NTP's time begins, and 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_micropython_example_lives_through_outages() {
    live_through_outages(Example::MicroPython).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_esp32_sketch_lives_through_outages() {
    live_through_outages(Example::Esp32).await;
}

async fn live_through_outages(example: Example) {
    let (mut broker, app) = installation::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "board").await;
    let time_server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let ntp_port = time_server.local_addr().expect("bound").port();
    let mut board = Board::prepare(example, &device, broker.port(), ntp_port).await;
    let rig = Rig { app, owner, device };

    board.start();
    rig.until_latest("a reading without a clock is stored", |reading| reading["timeSource"] == "SERVER").await;
    rig.is_online(true).await;
    rig.until_state(json!({"power": false})).await;
    configure(&rig).await;
    match example {
        Example::MicroPython => answer_time_requests(time_server, rig.app.clock().clone()),
        Example::Esp32 => board.set_clock(),
    }
    rig.until_latest("the board has the time", |reading| reading["timeSource"] == "DEVICE").await;
    let first = command(&rig, &mut board, &broker).await;

    restart_broker(&mut board, &mut broker, Broker::stop).await;
    // The broker saves its state every minute, and a crash loses the sessions that began after that.
    save(&broker).await;
    restart_broker(&mut board, &mut broker, Broker::kill).await;

    board.kill();
    rig.is_online(false).await;
    let second = rig.send("SET_POWER", json!({"power": false})).await;
    board.start();
    rig.until_command(&second, "SUCCEEDED").await;
    again(&rig, &mut board, &broker, &first).await;
    assert_eq!(n_executed(&board), 1, "only the second: {}", board.log());
    let delivered = board.count("delivered");
    board.printed("delivered", delivered + 10).await;
    until("the board has delivered many readings, most of them with a time", || {
        let readings = delivered_readings(&board);
        readings.len() > 30 && readings.iter().filter(|reading| reading["timestamp"].is_i64()).count() > 20
    })
    .await;

    board.kill();
    every_delivered_reading_is_stored(&board, rig.app.database()).await;
    rig.app.stop().await;
}

/// A server, the device that the board is, and its owner.
struct Rig {
    app: TestApp,
    owner: User,
    device: Device,
}

impl Rig {
    async fn device(&self, fields: &str) -> Value {
        let query = format!("query($d: ID!) {{ device(id: $d) {{ {fields} }} }}");
        self.owner.query(&query, json!({"d": self.device.id})).await["device"].take()
    }

    async fn until_latest(&self, what: &str, matches: impl Fn(&Value) -> bool) {
        eventually(what, async || {
            let device = self.device("latestTelemetry { timeSource sensors { temperature } }").await;
            matches(&device["latestTelemetry"]).then_some(())
        })
        .await;
    }

    /// Waits until the board reports itself to be so.
    async fn until_state(&self, state: Value) {
        eventually(&format!("the board reports {state}"), async || {
            let device = self.device("state { reported }").await;
            (device["state"]["reported"] == state).then_some(())
        })
        .await;
    }

    async fn is_online(&self, online: bool) {
        let what = format!("online is {online}");
        eventually(&what, async || (self.device("online").await["online"] == online).then_some(())).await;
    }

    /// Pushes a whole configuration and returns the device's answer to it.
    async fn push(&self, config: Value) -> Value {
        let push =
            "mutation($d: ID!, $c: JSON!) { pushConfig(input: {deviceId: $d, config: $c, mode: REPLACE}) { version } }";
        let pushed = self.owner.query(push, json!({"d": self.device.id, "c": config})).await;
        let version = &pushed["pushConfig"]["version"];
        eventually("the board answers the configuration", async || {
            let config = self.device("config { version status errors }").await["config"].take();
            let is_answered = config["status"] == "APPLIED" || config["status"] == "REJECTED";
            (&config["version"] == version && is_answered).then_some(config)
        })
        .await
    }

    async fn send(&self, kind: &str, payload: Value) -> String {
        let send = "mutation($d: ID!, $t: String!, $p: JSON) \
                    { sendCommand(input: {deviceId: $d, type: $t, payload: $p}) { id } }";
        let sent = self.owner.query(send, json!({"d": self.device.id, "t": kind, "p": payload})).await;
        sent["sendCommand"]["id"].as_str().expect("an id").to_owned()
    }

    async fn until_command(&self, id: &str, status: &str) -> Value {
        eventually(&format!("the command is {status}"), async || {
            let query = "query($id: ID!) { command(id: $id) { status error result } }";
            let command = self.owner.query(query, json!({ "id": id })).await["command"].take();
            (command["status"] == status).then_some(command)
        })
        .await
    }
}

/// A wrong configuration is rejected with a reason for each key and changes nothing; a right one is applied.
async fn configure(rig: &Rig) {
    let applied = rig.push(json!({"sampleRate": 0.2})).await;
    assert_eq!(applied["status"], "APPLIED", "{applied}");
    let rejected = rig.push(json!({"sampleRate": 1000, "colour": "red"})).await;
    assert_eq!(rejected["status"], "REJECTED", "{rejected}");
    let mut keys: Vec<_> = rejected["errors"].as_object().expect("reasons by key").keys().collect();
    keys.sort();
    assert_eq!(keys, ["colour", "sampleRate"], "{rejected}");
}

/// A command is executed, one of an unknown type fails with a reason, and one that arrives again is not executed again.
/// Returns the id of the first.
async fn command(rig: &Rig, board: &mut Board, broker: &Broker) -> String {
    let id = rig.send("SET_POWER", json!({"power": true})).await;
    rig.until_command(&id, "SUCCEEDED").await;
    rig.until_state(json!({"power": true})).await;
    let unknown = rig.send("BLINK", json!({})).await;
    let failed = rig.until_command(&unknown, "FAILED").await;
    assert_eq!(failed["error"], "unknown type BLINK");
    again(rig, board, broker, &id).await;
    assert_eq!(n_executed(board), 1, "{}", board.log());
    id
}

/// Sends a command again, as the server may, and waits for the board's answer.
async fn again(rig: &Rig, board: &mut Board, broker: &Broker, id: &str) {
    let answered = board.count(id);
    let server = Mqtt::connect_as(broker.port(), Some(SERVER)).await.expect("the server's account");
    let message = json!({"commandId": id, "type": "SET_POWER", "payload": {"power": true}});
    server.publish(&rig.device.topic("commands"), message.to_string()).await.expect("sent");
    board.printed(id, answered + 1).await;
}

/// How many commands the board has executed since it was switched on.
fn n_executed(board: &Board) -> usize {
    board.log().lines().filter(|line| line.starts_with("power ")).count()
}

/// Ends the broker and starts it again; the board then delivers what it measured meanwhile.
async fn restart_broker(board: &mut Board, broker: &mut Broker, end: impl FnOnce(&mut Broker)) {
    let (lost, connected) = (board.count("not connected"), board.count("\nconnected"));
    end(broker);
    board.printed("not connected", lost + 2).await;
    broker.restart().await;
    board.printed("\nconnected", connected + 1).await;
    let delivered = board.count("delivered");
    board.printed("delivered", delivered + 10).await;
}

/// Makes the broker save its state.
async fn save(broker: &Broker) {
    let file = broker.folder().join("mosquitto.db");
    let modified = || file.metadata().and_then(|file| file.modified()).ok();
    let before = modified();
    broker.signal("USR1");
    until("the broker has saved its state", || modified() > before).await;
}

/// Answers each request with the time, as an NTP server does.
fn answer_time_requests(socket: UdpSocket, clock: Clock) {
    std::thread::spawn(move || {
        let mut request = [0; 48];
        while let Ok((_, peer)) = socket.recv_from(&mut request) {
            let now = clock.now();
            let seconds = u64::try_from(now.timestamp()).expect("after 1970") + NTP_EPOCH;
            let fraction = (u64::from(now.timestamp_subsec_micros()) << 32) / 1_000_000;
            let mut answer = [0; 48];
            (answer[0], answer[1]) = (0x1c, 1); // Version 3, a server; stratum 1.
            answer[40..44].copy_from_slice(&u32::try_from(seconds).expect("before 2036").to_be_bytes());
            answer[44..].copy_from_slice(&u32::try_from(fraction).expect("less than a second").to_be_bytes());
            let _ = socket.send_to(&answer, peer);
        }
    });
}

/// The readings of which the broker has confirmed the receipt.
fn delivered_readings(board: &Board) -> Vec<Value> {
    board.delivered().into_iter().filter(|message| !message["sensors"].is_null()).collect()
}

/// Readings with a time are stored exactly once, others at least once.
async fn every_delivered_reading_is_stored(board: &Board, database: &Database) {
    let readings = delivered_readings(board);
    let rows = database.client().await;
    let query = "select count(*) from telemetry where metadata->>'uptime' = $1 \
                 and ($2::bigint is null or recorded_at = 'epoch'::timestamptz + $2::bigint::float8 * interval '1 ms')";
    let mut n_timed = 0;
    for reading in &readings {
        let uptime = reading["metadata"]["uptime"].to_string();
        let time = reading["timestamp"].as_i64();
        n_timed += usize::from(time.is_some());
        let count = || async {
            let row = rows.query_one(query, &[&uptime, &time]).await.expect("a count");
            let n: i64 = row.get(0);
            (n >= 1).then_some(n)
        };
        let n = eventually(&format!("it is stored: {reading}"), count).await;
        assert!(n == 1 || time.is_none(), "{n} times: {reading}");
    }
    assert!(readings.len() > 30 && n_timed > 20, "{} readings, {n_timed} with a time", readings.len());
}
