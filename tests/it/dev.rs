//! `smarthome dev`: the real binary in a folder of its own, used as by a person and by a script.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::binary::binary;
use crate::support::mqtt::Mqtt;
use crate::support::user::User;
use crate::support::{eventually, http, soon, unique, until};

/// A folder in which `dev` runs; both end with the value.
struct Dev {
    folder: PathBuf,
    child: Option<Child>,
}

impl Dev {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("smarthome-dev"));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, child: None }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smarthome"));
        command.arg("dev").args(arguments).current_dir(&self.folder).stdin(Stdio::null()).env_remove("MQTT_BROKER_URL");
        command
    }

    /// Starts it on free ports and returns `.smarthome/dev.json` when it is ready.
    async fn start(&mut self, arguments: &[&str]) -> Value {
        let free = ["--http-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtt-ws-addr", "127.0.0.1:0"];
        let log = File::create(self.folder.join("log")).unwrap();
        let output = File::create(self.folder.join("output")).unwrap();
        let mut command = self.command(&[&free, arguments].concat());
        let path = self.folder.join(".smarthome/dev.json");
        // A killed process leaves its file behind.
        let _ = std::fs::remove_file(&path);
        let mut child = command.stdout(output).stderr(log).spawn().unwrap();
        let connection = eventually("`dev` is ready", || {
            let gone = child.try_wait().unwrap();
            assert!(gone.is_none(), "`dev` ended: {}", read(&self.folder.join("log")));
            std::future::ready(std::fs::read(&path).ok())
        })
        .await;
        self.child = Some(child);
        serde_json::from_slice(&connection).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Stops it with a signal and checks that no process is left.
    async fn stop(&mut self, signal: &str) {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        let status = eventually("`dev` stops", || std::future::ready(child.try_wait().unwrap())).await;
        assert_eq!(status.code(), Some(0), "{}", read(&self.folder.join("log")));
        assert!(!self.folder.join(".smarthome/dev.json").exists());
        assert!(!is_used(&self.folder), "a process is left behind");
    }

    async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        until("the database stops too", || !is_used(&self.folder)).await;
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).unwrap();
    text
}

/// Whether a process has its working directory below this folder, as PostgreSQL's processes do.
fn is_used(folder: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let folders = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    folders.into_iter().any(|cwd| cwd.starts_with(folder.join(".smarthome")))
}

fn port(url: &Value) -> u16 {
    url.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

fn demo(connection: &Value) -> User {
    User::with_token(connection_addr(connection), connection["accessToken"].as_str().unwrap())
}

fn connection_addr(connection: &Value) -> SocketAddr {
    connection["httpUrl"].as_str().unwrap().trim_start_matches("http://").parse().unwrap()
}

fn device(connection: &Value, key: &str) -> Value {
    let devices = connection["devices"].as_array().unwrap();
    devices.iter().find(|device| device["key"] == key).unwrap()["id"].clone()
}

/// The newest temperature of a device, once it has one.
async fn temperature(user: &User, device: &Value) -> Option<f64> {
    let query = "query($id: ID!) { device(id: $id) { latestTelemetry { sensors { temperature } } } }";
    let data = user.query(query, json!({ "id": device })).await;
    data["device"]["latestTelemetry"]["sensors"]["temperature"].as_f64()
}

/// Whether a device reports to be on.
async fn is_on(user: &User, device: &Value) -> Option<()> {
    let query = "query($id: ID!) { device(id: $id) { state { reported } } }";
    let data = user.query(query, json!({ "id": device })).await;
    (data["device"]["state"]["reported"]["power"] == true).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_arrives_and_survives_a_crash() {
    let mut dev = Dev::new();
    let connection = dev.start(&["--simulate", "2"]).await;
    let mut names: Vec<_> = connection.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut contract = [
        "httpUrl",
        "graphqlUrl",
        "mqttUrl",
        "databaseUrl",
        "email",
        "password",
        "accessToken",
        "homeId",
        "homeKey",
        "devices",
    ];
    contract.sort_unstable();
    assert_eq!(names, contract);
    assert_eq!(connection["homeId"], "1");

    // The examples of the device protocol use any account and publish as ESP32_001 of home 1.
    let (user, board) = (demo(&connection), device(&connection, "ESP32_001"));
    let query = "subscription($id: ID!) { telemetry(deviceId: $id) { sensors { temperature } } }";
    let mut live = user.subscribe(query, json!({ "id": board })).await;
    let login = Some(("smarthome_backend", "password"));
    let mqtt = Mqtt::connect_as(port(&connection["mqttUrl"]), login).await.unwrap();
    let topic = "smarthome/1/ESP32_001/telemetry";
    mqtt.publish(topic, r#"{"deviceId": "ESP32_001", "sensors": {"temperature": 23.5}}"#).await.unwrap();
    assert_eq!(live.next().await["telemetry"]["sensors"]["temperature"], 23.5);
    let simulated = device(&connection, "THERMO_001");
    eventually("a simulated device publishes", || temperature(&user, &simulated)).await;
    let lamp = device(&connection, "LAMP_001");
    eventually("a lamp is on, as its first status says", || is_on(&user, &lamp)).await;
    let preflight = ["origin", "access-control-request-method", "access-control-request-headers"];
    for (origin, is_allowed) in
        [("http://localhost:5173", true), ("http://127.0.0.1:3000", true), ("https://a.example.com", false)]
    {
        let headers: Vec<_> = preflight.into_iter().zip([origin, "POST", "authorization,content-type"]).collect();
        let answer = http::request(connection_addr(&connection), "OPTIONS", "/graphql", &headers, b"").await;
        assert_eq!(answer.header("access-control-allow-origin"), is_allowed.then_some(origin), "{:?}", answer.headers);
    }
    let output = read(&dev.folder.join("output"));
    for text in ["mosquitto_pub", "curl", "/graphiql", "demo@smarthome.local", "up to 0.25 s late"] {
        assert!(output.contains(text), "the banner has no {text}: {output}");
    }
    websocket_at_any_path(&output).await;

    let second = dev.run(&["--http-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0"]);
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && message.contains("already runs"), "{message}");

    dev.kill().await;
    let connection = dev.start(&["--simulate", "0"]).await;
    assert_eq!(temperature(&demo(&connection), &board).await, Some(23.5), "it survives kill -9");
    dev.stop("INT").await;
    let connection = dev.start(&["--simulate", "0", "--reset"]).await;
    assert_eq!(temperature(&demo(&connection), &device(&connection, "ESP32_001")).await, None, "deleted by --reset");
    dev.stop("TERM").await;
}

/// Clients connect to `ws://host:9001` without a path, as to Mosquitto.
async fn websocket_at_any_path(banner: &str) {
    let address = banner.split("ws://").nth(1).and_then(|rest| rest.split('/').next()).expect("its address");
    for path in ["/", "/mqtt", "/ws"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: mqtt\r\n\r\n"
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101", "{path}");
    }
}

/// What a camera reads in the banner: each character is two modules, one above the other, and dark ones are the background.
fn qr_code(output: &str) -> String {
    let is_row = |line: &&str| !line.is_empty() && line.chars().all(|c| " ▀▄█".contains(c)) && line.contains('█');
    let rows: Vec<Vec<char>> = output.lines().filter(is_row).map(|line| line.chars().skip(2).collect()).collect();
    let width = rows.iter().map(Vec::len).max().expect("a code");
    let is_dark = |x: usize, y: usize| {
        let shown = rows[y / 2].get(x).copied().unwrap_or(' ');
        !(shown == '█' || shown == if y.is_multiple_of(2) { '▀' } else { '▄' })
    };
    // Larger, as a camera sees it.
    const SCALE: usize = 4;
    let dark = |x: usize, y: usize| if is_dark(x / SCALE, y / SCALE) { 0 } else { 255 };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(SCALE * width, SCALE * 2 * rows.len(), dark);
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "one code in {output}");
    grids[0].decode().expect("a readable code").1
}

#[tokio::test(flavor = "multi_thread")]
async fn lan_serves_a_board_with_its_credentials_and_hides_the_token() {
    let mut dev = Dev::new();
    // Another address of the loopback stands for one in the network.
    let connection = dev.start(&["--simulate", "1", "--lan", "127.0.0.2"]).await;
    let port = port(&connection["mqttUrl"]).to_string();
    assert!(connection["mqttUrl"].as_str().unwrap().starts_with("mqtt://127.0.0.2:"), "{connection}");
    // The connection file is written before the banner.
    let settings = eventually("the banner has the settings of a board", || async {
        let output = read(&dev.folder.join("output"));
        output.lines().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok())
    })
    .await;
    let output = read(&dev.folder.join("output"));
    for text in ["requires the", "Nothing is encrypted", "REGISTRATION", "http://127.0.0.2:"] {
        assert!(output.contains(text), "the banner has no {text}: {output}");
    }
    assert_eq!(qr_code(&output), format!("{}/graphiql", connection["httpUrl"].as_str().unwrap()));
    let text = |name: &str| settings[name].as_str().unwrap().to_owned();
    assert_eq!((text("host").as_str(), settings["port"].to_string()), ("127.0.0.2", port.clone()));
    let publish = |login: &[&str]| {
        let topic = format!("{}/telemetry", text("topic"));
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.2", "-p", &port, "-q", "1", "-t", &topic]).args(login);
        command.args(["-m", r#"{"sensors": {"temperature": 20.5}}"#]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(!publish(&[]), "no client without credentials");
    assert!(publish(&["-i", &text("clientId"), "-u", &text("username"), "-P", &text("password")]));
    let (user, board) = (demo(&connection), device(&connection, "ESP32_001"));
    eventually("the reading is stored", || temperature(&user, &board)).await;
    let simulated = device(&connection, "THERMO_001");
    eventually("a simulated device publishes", || temperature(&user, &simulated)).await;

    let addr = connection["httpUrl"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    let page = http::get(addr, "/graphiql").await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!page.contains(connection["accessToken"].as_str().unwrap()), "GraphiQL is signed in for the whole network");
    dev.stop("INT").await;

    for (address, message) in
        [("0.0.0.0", "hostname -I"), ("203.0.113.7", "does not have this address"), ("lan", "not an IP")]
    {
        let output = dev.run(&["--lan", address]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(message), "{address}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_auth_requires_the_credentials_of_a_device() {
    let mut dev = Dev::new();
    let connection = dev.start(&["--simulate", "1", "--mqtt-auth"]).await;
    let (user, port) = (demo(&connection), port(&connection["mqttUrl"]));
    assert!(Mqtt::connect_as(port, None).await.is_err());
    assert!(Mqtt::connect_as(port, Some(("smarthome_backend", "password"))).await.is_err());
    let credentials: Value = serde_json::from_str(&read(&dev.folder.join(".smarthome/devices.json"))).unwrap();
    let board = credentials.as_array().unwrap().iter().find(|login| login["key"] == "ESP32_001").unwrap();
    let login = (board["username"].as_str().unwrap(), board["password"].as_str().unwrap());
    for foreign in ["smarthome-dev", "THERMO_001@1"] {
        assert!(Mqtt::connect_with(port, foreign, Some(login)).await.is_err(), "{foreign}");
    }
    let log = read(&dev.folder.join("log"));
    assert!(log.contains("the client id is not the clientId of its credentials"), "the log says why: {log}");
    let mqtt = Mqtt::connect_with(port, board["clientId"].as_str().unwrap(), Some(login)).await.unwrap();
    mqtt.publish("smarthome/1/ESP32_001/telemetry", r#"{"sensors": {"temperature": 20.5}}"#).await.unwrap();
    assert!(mqtt.publish("smarthome/1/TEST_DEVICE/telemetry", "{}").await.is_err());
    let id = device(&connection, "ESP32_001");
    eventually("the reading is stored", || temperature(&user, &id)).await;
    let simulated = device(&connection, "THERMO_001");
    eventually("the simulated device has its own account", || temperature(&user, &simulated)).await;
    dev.stop("INT").await;
}

/// More than are read at once, so that the simulated ones of the second start are on the second page.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_with_more_than_five_hundred_devices_is_listed_whole() {
    let mut dev = Dev::new();
    let connection = dev.start(&["--simulate", "0"]).await;
    let new: Vec<_> = (0..500).map(|n| json!({"key": format!("own{n}"), "name": "Own"})).collect();
    let register = "mutation($i: RegisterDevicesInput!) { registerDevices(input: $i) { device { id } } }";
    demo(&connection).query(register, json!({"i": {"homeId": connection["homeId"], "devices": new}})).await;
    dev.stop("INT").await;
    for _ in 0..2 {
        let connection = dev.start(&["--simulate", "3"]).await;
        assert_eq!(connection["devices"].as_array().map(Vec::len), Some(505));
        assert!(device(&connection, "METER_001").is_string());
        until("the banner is there", || read(&dev.folder.join("output")).contains("505 devices, 3 of them")).await;
        dev.stop("INT").await;
    }
}

#[test]
fn the_error_for_a_taken_address_names_the_option() {
    let dev = Dev::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--http-addr", "--mqtt-addr"), ("--mqtt-addr", "--http-addr")] {
        let output = dev.run(&[option, &addr, other, "127.0.0.1:0"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(&addr) && message.contains(option), "{message}");
    }
    let http = ["--http-addr", "127.0.0.1:0"];
    let refused = [
        &["--http-addr", "0.0.0.0:0"][..],
        &[&http[..], &["--mqtt-auth", "--mqtt-addr", "0.0.0.0:0"]].concat(),
        &[&http[..], &["--mqtt-auth", "--mqtt-addr", "127.0.0.1:0", "--mqtt-ws-addr", "0.0.0.0:0"]].concat(),
    ];
    for arguments in refused {
        let output = dev.run(arguments);
        assert!(
            !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("loopback"),
            "{arguments:?}"
        );
    }
}

/// Only the broker of `dev` knows the accounts of devices.
#[test]
fn lan_and_another_broker_are_refused_together() {
    let dev = Dev::new();
    let mut command = dev.command(&["--lan", "127.0.0.2"]);
    let output = command.env("MQTT_BROKER_URL", "mqtt://127.0.0.1:1").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("--lan") && message.contains("MQTT_BROKER_URL"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn the_error_for_each_missing_setting_is_one_line() {
    let run = |command: &str| binary(&[command]).output().unwrap();
    for (command, n_lines) in [("serve", 3), ("migrate", 1)] {
        let output = run(command);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(
            message.starts_with("error: DATABASE_URL: missing") && message.trim_end().lines().count() == n_lines,
            "{message}"
        );
    }
    let output = run("schema");
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, schema, "regenerate it: cargo run -- schema > schema.graphql");
}
