//! Clients through what happens to apps: tokens expire, the answer of a refresh is lost, two refreshes run at once, the
//! server restarts, the user gets a lower role, the user is removed from the home. No client may sign in again, miss a reading or receive one twice.
//! The programs set up the clients as `docs/clients.md` says; they ask this test for each event.

use std::process::Stdio;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use smarthome::app::{App, Options};
use smarthome::clock::Clock;
use smarthome::settings::Settings;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::app::{Database, TestApp};
use crate::support::mqtt::Mqtt;
use crate::support::node::{install_examples, node_command, python_command};
use crate::support::ports::free_port;
use crate::support::user::{Device, Home, User};
use crate::support::{eventually, soon};

/// How long one step of the clients may take, on a busy machine.
const STEP: Duration = Duration::from_secs(90);
/// Longer than an access token lives.
const EXPIRY: TimeDelta = TimeDelta::minutes(16);

/// A server that restarts on its port, with a home and the users of the clients.
struct Stage {
    app: Option<App>,
    clock: Clock,
    settings: Settings,
    home: Home,
    device: Device,
    owner: User,
    members: Vec<User>,
    /// A reading before those that the clients must receive.
    first_reading: String,
    mqtt: Mqtt,
    _database: Database,
}

impl Stage {
    async fn start(n_members: usize) -> Self {
        // A first server creates the accounts: the second one has a fixed port and can start again.
        let first = TestApp::builder().set("HTTP_ADDR", format!("127.0.0.1:{}", free_port())).start().await;
        let (home, owner) = first.home().await;
        let device = first.device(&owner, &home, "ESP32_001").await;
        let mut members = Vec::new();
        for _ in 0..n_members {
            members.push(first.member(&home, &owner).await);
        }
        first.publish(&device, "telemetry", r#"{"sensors": {"temperature": 0}}"#).await;
        let first_reading = owner.latest_reading(&device).await;
        let mqtt = Mqtt::connect(first.mqtt_port()).await;
        let (clock, settings) = (first.clock().clone(), first.settings().clone());
        let database = first.stop().await;
        let mut stage =
            Self { app: None, clock, settings, home, device, owner, members, first_reading, mqtt, _database: database };
        stage.run_server().await;
        stage
    }

    async fn run_server(&mut self) {
        let options = Options { clock: self.clock.clone(), ..Options::default() };
        let app = App::start(self.settings.clone(), options).await.expect("the server starts");
        let connected = &app.services().metrics.mqtt_connected;
        eventually("the server is subscribed", || std::future::ready((connected.get() == 1).then_some(()))).await;
        self.app = Some(app);
    }

    async fn stop_server(&mut self) {
        self.app.take().expect("it runs").stop().await;
    }

    fn setup(&self) -> String {
        let user = |user: &User| json!({"email": user.email, "password": user.password});
        let addr = self.app.as_ref().expect("it runs").http_addr();
        let users: Vec<_> = self.members.iter().map(user).collect();
        let url = format!("http://{addr}/graphql");
        json!({"url": url, "homeId": self.home.id, "after": self.first_reading, "users": users}).to_string()
    }

    async fn publish(&self, request: &Value) {
        for n in request["from"].as_u64().expect("a number")..=request["to"].as_u64().expect("a number") {
            let payload = json!({"sensors": {"temperature": n}}).to_string();
            self.mqtt.publish(&self.device.topic("telemetry"), payload).await.expect("published");
        }
    }

    /// A mutation of the owner on each member.
    async fn change_members(&self, mutation: &str) {
        // The owner has no client: its token has expired with the others.
        let addr = self.app.as_ref().expect("it runs").http_addr();
        let owner = self.owner.at(addr).signed_in_again().await;
        for member in &self.members {
            owner.query(mutation, json!({"h": self.home.id, "u": member.id})).await;
        }
    }

    /// What a program asks for.
    async fn perform(&mut self, request: &Value) {
        match request["do"].as_str() {
            Some("publish") => self.publish(request).await,
            Some("expire") => self.clock.advance(EXPIRY),
            Some("advance") => self.clock.advance(TimeDelta::minutes(request["minutes"].as_i64().expect("a number"))),
            Some("restart") => {
                self.stop_server().await;
                self.publish(request).await;
                self.run_server().await;
            }
            Some("demote") => {
                let demote = "mutation($h: ID!, $u: ID!) { setMemberRole(input: {homeId: $h, userId: $u, role: GUEST}) { role } }";
                self.change_members(demote).await;
            }
            Some("remove") => {
                self.change_members("mutation($h: ID!, $u: ID!) { removeMember(input: {homeId: $h, userId: $u}) }")
                    .await;
            }
            _ => panic!("unknown request: {request}"),
        }
    }
}

/// A program of clients, and its lines.
struct Program {
    child: Child,
    requests: Lines<BufReader<ChildStdout>>,
    answers: ChildStdin,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("the program is installed");
        let requests = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let answers = child.stdin.take().expect("a pipe");
        Self { child, requests, answers }
    }

    /// Performs what it asks for, until it ends with status 0.
    async fn run(mut self, stage: &mut Stage) {
        let mut stderr = self.child.stderr.take().expect("a pipe");
        let complaints = tokio::spawn(async move {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text).await;
            text
        });
        loop {
            let Ok(Ok(Some(line))) = tokio::time::timeout(STEP, self.requests.next_line()).await else { break };
            let request: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no request: {line}"));
            stage.perform(&request).await;
            if self.answers.write_all(b"done\n").await.is_err() {
                break;
            }
        }
        let ended = tokio::time::timeout(STEP, self.child.wait()).await;
        drop(self.child);
        let complaints = soon("the end of the log", complaints).await.expect("the log");
        assert!(ended.is_ok_and(|status| status.is_ok_and(|status| status.success())), "{complaints}");
    }
}

/// Runs a program of this many clients. `program` makes its command from the setup.
async fn run(n_clients: usize, program: impl AsyncFnOnce(&str) -> Command) {
    let mut stage = Stage::start(n_clients).await;
    let mut command = program(&stage.setup()).await;
    Program::start(&mut command).run(&mut stage).await;
    stage.stop_server().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_clients_survive_what_happens_to_apps() {
    install_examples().await;
    run(9, async |setup| node_command("clients/outages/run.mjs", &[setup]).await).await;
}

/// graphql-ws sends the next token in a `ping`: the socket outlives the token with which it was opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_ping_with_a_new_token_keeps_a_socket_open() {
    install_examples().await;
    run(1, async |setup| node_command("clients/outages/reauthenticate.mjs", &[setup]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_survives_what_happens_to_apps() {
    run(1, async |setup| python_command("outages.py", &[setup]).await).await;
}
