//! The programs of `examples/clients`, as they are: on the command line with Node and Python, and as a page in a browser.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::app::TestApp;
use crate::support::browser::Browser;
use crate::support::mqtt::Mqtt;
use crate::support::node::{install_examples, node_command, python_command};
use crate::support::user::{Device, Home, User};
use crate::support::{soon, unique, until};

/// A server with a lamp, and a folder for the files of a program.
struct Fixture {
    app: TestApp,
    home: Home,
    owner: User,
    lamp: Device,
    folder: PathBuf,
}

impl Fixture {
    async fn start(cors_origins: &str) -> Self {
        let builder = TestApp::builder();
        let builder = if cors_origins.is_empty() { builder } else { builder.set("CORS_ORIGINS", cors_origins) };
        let app = builder.start().await;
        let (home, owner) = app.home().await;
        let register = "mutation($h: ID!) { registerDevice(input: {homeId: $h, key: \"LAMP_001\", name: \"Lamp\", \
                        type: LIGHT}) { device { id } } }";
        let registered = owner.query(register, json!({"h": home.id})).await;
        // A device of the kit is no lamp; this one needs only its topics.
        let mut lamp = app.device(&owner, &home, "ESP32_001").await;
        registered["registerDevice"]["device"]["id"].as_str().expect("an id").clone_into(&mut lamp.id);
        "LAMP_001".clone_into(&mut lamp.key);
        let folder = std::env::temp_dir().join(unique("smarthome-example"));
        std::fs::create_dir(&folder).expect("a new folder");
        Self { app, home, owner, lamp, folder }
    }

    /// The environment of a program.
    fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("SMARTHOME_URL", format!("http://{}/graphql", self.app.addr()))
            .env("SMARTHOME_EMAIL", &self.owner.email)
            .env("SMARTHOME_PASSWORD", &self.owner.password)
            .env("SMARTHOME_STATE", &self.folder)
            .kill_on_drop(true)
    }

    async fn report(&self, temperature: u32) {
        let payload = json!({"sensors": {"temperature": temperature}}).to_string();
        self.app.publish(&self.lamp, "telemetry", payload).await;
    }

    /// Reports a temperature, and waits until it is stored. The reading's id.
    async fn stored_report(&self, temperature: u32) -> String {
        self.report(temperature).await;
        self.owner.latest_reading(&self.lamp).await
    }

    /// The file with the last reading that was printed.
    fn position(&self) -> PathBuf {
        self.folder.join(format!(".last-reading-{}.json", self.home.id))
    }

    /// Answers one command as the lamp.
    async fn obey(&self, mqtt: &mut Mqtt) {
        let (_, message) = mqtt.next().await;
        let command: Value = serde_json::from_slice(&message).expect("JSON");
        let answer = json!({"commandId": command["commandId"], "status": "SUCCEEDED"});
        self.app.publish(&self.lamp, "ack", answer.to_string()).await;
    }

    async fn lamp(&self) -> Mqtt {
        let mqtt = self.app.another_mqtt().await;
        mqtt.subscribe(&self.lamp.topic("commands")).await.expect("subscribed");
        mqtt
    }

    async fn end(self) {
        std::fs::remove_dir_all(&self.folder).expect("removed");
        self.app.stop().await;
    }
}

/// Runs a program to its end and returns what it printed.
async fn output(fixture: &Fixture, command: &mut Command) -> String {
    let output = soon("the program ends", fixture.configure(command).output()).await.expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The temperatures that `follow` prints, as many as are given. Then it is killed.
async fn follow(fixture: &Fixture, command: &mut Command, publish: &[u32], expected: &[u32]) {
    let position = fixture.position();
    let command = fixture.configure(command).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (mut seen, mut last) = (Vec::new(), Value::Null);
    for temperature in publish {
        fixture.report(*temperature).await;
    }
    while seen.len() < expected.len() {
        let line = soon("a reading", lines.next_line()).await.expect("its output").expect("the program runs");
        let reading: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(reading["device"]["key"], "LAMP_001");
        seen.push(reading["sensors"]["temperature"].as_f64().expect("a number"));
        last = reading["id"].clone();
    }
    assert_eq!(seen, expected.iter().copied().map(f64::from).collect::<Vec<_>>());
    let last = last.to_string();
    let is_kept = || std::fs::read_to_string(&position).is_ok_and(|kept| kept == last);
    until("the position is kept", is_kept).await;
    child.kill().await.expect("killed");
}

/// Lists devices, switches a lamp, and follows readings over an interruption of the program.
async fn check_command_line(program: impl AsyncFn(&[&str]) -> Command) {
    let fixture = Fixture::start("").await;
    let stored = fixture.stored_report(20).await;
    let listed = output(&fixture, &mut program(&["devices"]).await).await;
    assert!(listed.contains("(OWNER)") && listed.contains("LAMP_001 online"), "{listed}");

    let mut lamp = fixture.lamp().await;
    let mut switch = program(&["switch", &fixture.lamp.id, "on"]).await;
    let (printed, ()) = tokio::join!(output(&fixture, &mut switch), fixture.obey(&mut lamp));
    assert!(printed.trim_end().ends_with("SUCCEEDED"), "{printed}");

    let mut first = program(&["follow", &fixture.home.id]).await;
    // Without a position it would begin with the reading after its start.
    std::fs::write(fixture.position(), json!(stored).to_string()).expect("written");
    follow(&fixture, &mut first, &[21, 22], &[21, 22]).await;
    fixture.report(23).await;
    let mut second = program(&["follow", &fixture.home.id]).await;
    follow(&fixture, &mut second, &[24], &[23, 24]).await;
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example_works() {
    let program = install_examples().await.join("node/app.mjs");
    check_command_line(async |arguments| node_command(&program, arguments).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_works() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/python/app.py");
    check_command_line(async |arguments| python_command(&program, arguments).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_example_works() {
    let fixture = Fixture::start("").await;
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/curl.sh"));
    let command = fixture.configure(command.arg(&fixture.home.id)).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().expect("curl is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut printed = String::new();
    // The program does not tell when it has subscribed.
    let reading = async {
        while !printed.contains("\"temperature\":21") {
            fixture.report(21).await;
            if let Ok(line) = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await {
                printed += &(line.unwrap().expect("the program runs") + "\n");
            }
        }
    };
    soon("a reading by curl", reading).await;
    assert!(printed.contains("\"homes\":[{") && printed.contains("event: next"), "{printed}");
    // curl is a child of the script.
    let group = format!("-{}", child.id().expect("it runs"));
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status().await;
    fixture.end().await;
}

/// The files of `examples/clients`, as any web server would serve them.
async fn file(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
    let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("mjs" | "js") => "text/javascript",
        Some("html") => "text/html",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(path)) {
        Ok(content) => ([(header::CONTENT_TYPE, kind)], content).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_example_works() {
    install_examples().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, axum::Router::new().fallback(file)).await });
    let fixture = Fixture::start(&origin).await;
    // The page begins after the newest reading of its list.
    fixture.stored_report(20).await;
    let mut lamp = fixture.lamp().await;
    let address = format!("{origin}/web/?server=http://{}", fixture.app.addr());
    let mut page = Browser::open(&address).await;
    page.until("document.getElementById('sign-in')?.hidden === false").await;
    let sign_in = format!(
        "(() => {{ const form = document.getElementById('sign-in'); form.email.value = {}; form.password.value = {}; \
         form.requestSubmit(); }})()",
        json!(fixture.owner.email),
        json!(fixture.owner.password)
    );
    page.eval(&sign_in).await;
    let line = format!("document.querySelector('[data-device=\"{}\"]')", fixture.lamp.id);
    page.until(&format!("!!{line}")).await;

    fixture.report(21).await;
    page.until(&format!("{line}.textContent.includes('online') && {line}.textContent.includes('21 °C')")).await;
    page.eval(&format!("{line}.querySelector('button').click()")).await;
    fixture.obey(&mut lamp).await;
    page.until(&format!("{line}.querySelector('.command').textContent.includes('on: SUCCEEDED')")).await;

    // The tokens are kept, so a reload is no sign-in.
    page.eval("window.old = 1; location.reload()").await;
    page.until(&format!("!window.old && ({line}?.textContent.includes('21 °C') ?? false)")).await;
    assert!(page.complaints().is_empty(), "{:?}", page.complaints());
    drop(page);
    fixture.end().await;
}
