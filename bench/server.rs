//! The real server, `smarthome serve` as it is released, and a home with a thousand devices in it,
//! made through its own API.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client::{Http, ask};
use crate::messages::{DEVICES, key};
use crate::process::Process;
use crate::stage::{Stage, free_port};

pub(crate) const DATABASE: &str = "smarthome_bench";
/// First and second segment of the server's topics.
pub(crate) const PREFIX: &str = "smarthome";
pub(crate) const HOME: &str = "bench";
pub(crate) const EMAIL: &str = "bench@example.com";
const PASSWORD: &str = "a password for the benchmark alone";
/// Well below any limit of a request's size.
const DEVICES_A_REQUEST: usize = 200;
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    /// Ids of the home and, in the order of their numbers, of its devices.
    pub(crate) home: String,
    pub(crate) devices: Vec<String>,
}

/// Where a GraphQL server listens, whichever program it is.
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) token: String,
    /// First segment of its topics.
    pub(crate) prefix: &'static str,
}

/// Starts `smarthome serve`; the time is from the start of the process to the first 200 of /readyz.
pub(crate) fn start(stage: &Stage, database_url: &str) -> Result<(Process, SocketAddr, Duration)> {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let (process, time) = start_at(stage, database_url, addr, "off")?;
    Ok((process, addr, time))
}

/// The same at this address, with rate limits or without.
pub(crate) fn start_at(
    stage: &Stage,
    database_url: &str,
    addr: SocketAddr,
    rate_limits: &str,
) -> Result<(Process, Duration)> {
    let mut command = Command::new(&stage.program);
    command
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("MQTT_BROKER_URL", format!("mqtt://127.0.0.1:{}", stage.mqtt_port))
        .env("MQTT_CLIENT_ID", "bench-server")
        .env("HTTP_ADDR", addr.to_string())
        .env("RATE_LIMITS", rate_limits)
        .env("JWT_SECRET", "a secret for the benchmark alone, long enough")
        .env("REGISTRATION", "open")
        // What is measured is ingest, not its refusals.
        .env("DEVICE_RATE_LIMIT", "0")
        .env("LOG", "warn");
    launch(command, addr, &stage.folder().join("server.log"))
}

/// Starts a server and waits until /readyz answers 200: the process, and how long that took.
pub(crate) fn launch(mut command: Command, addr: SocketAddr, log: &Path) -> Result<(Process, Duration)> {
    let output = File::create(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let begun = Instant::now();
    let mut process = Process(command.spawn().context("start the server")?);
    loop {
        if ready(addr) {
            return Ok((process, begun.elapsed()));
        }
        if let Some(status) = process.0.try_wait()? {
            bail!("the server ended with {status}: {}", fs::read_to_string(log)?);
        }
        if begun.elapsed() > PATIENCE {
            bail!("the server was not ready within {} s: {}", PATIENCE.as_secs(), fs::read_to_string(log)?);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn ready(addr: SocketAddr) -> bool {
    let answer = Http::connect(addr).and_then(|mut http| {
        let request = b"GET /readyz HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n\r\n";
        http.exchange(request).map(|(status, _)| status)
    });
    answer.is_ok_and(|status| status == 200)
}

impl Server {
    /// Makes the account, the home and its devices.
    pub(crate) fn furnish(process: Process, addr: SocketAddr) -> Result<Self> {
        let input = json!({"email": EMAIL, "password": PASSWORD, "name": "Benchmark"});
        let query = "mutation($input: RegisterInput!) { register(input: $input) { accessToken } }";
        let token = text(&ask(addr, None, query, &json!({ "input": input }))?["register"]["accessToken"])?;
        let query = "mutation($input: CreateHomeInput!) { createHome(input: $input) { id } }";
        let input = json!({"name": "Benchmark", "key": HOME});
        let home = text(&ask(addr, Some(&token), query, &json!({ "input": input }))?["createHome"]["id"])?;
        let query = "mutation($input: RegisterDevicesInput!) { registerDevices(input: $input) { device { id key } } }";
        let mut devices = Vec::new();
        let numbers: Vec<usize> = (0..DEVICES).collect();
        for some in numbers.chunks(DEVICES_A_REQUEST) {
            let new: Vec<_> = some.iter().map(|n| json!({"key": key(*n), "name": format!("Device {n}")})).collect();
            let input = json!({"homeId": home, "devices": new});
            let made = ask(addr, Some(&token), query, &json!({ "input": input }))?["registerDevices"].take();
            for (number, made) in some.iter().zip(made.as_array().context("a list of devices")?) {
                ensure!(made["device"]["key"] == key(*number).as_str(), "the devices came in another order");
                devices.push(text(&made["device"]["id"])?);
            }
        }
        Ok(Self { process, addr, home, devices })
    }

    /// With a fresh access token.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint { addr: self.addr, pid: self.process.id(), token: self.token()?, prefix: PREFIX })
    }

    /// A fresh access token: a long run outlives one.
    pub(crate) fn token(&self) -> Result<String> {
        let query = "mutation($input: LoginInput!) { login(input: $input) { accessToken } }";
        let input = json!({"email": EMAIL, "password": PASSWORD});
        text(&ask(self.addr, None, query, &json!({ "input": input }))?["login"]["accessToken"])
    }
}

/// A value that is text.
pub(crate) fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("expected text, got {value}"))
}
