//! The Node server in `yardstick/`: what an ordinary GraphQL server reaches on the same tables in the same run.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio_postgres::config::Host;

use crate::process::Process;
use crate::server::{DATABASE, Endpoint, HOME};
use crate::stage::{Stage, await_port, free_port};

/// First segment of its topics: it does not receive what the server receives.
const PREFIX: &str = "yardstick";

/// A running Node server.
pub(crate) struct Node {
    process: Process,
    addr: SocketAddr,
}

impl Node {
    /// Starts it on the server's database; `None` where Node is missing.
    pub(crate) fn start(stage: &Stage) -> Result<Option<Self>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/yardstick");
        let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !has_node || !fs::exists(folder.join("node_modules"))? {
            eprintln!("Node or its packages are missing (bench/run installs them): no rows of the Node server");
            return Ok(None);
        }
        let database = stage.database(DATABASE)?;
        let Some(Host::Unix(socket)) = database.get_hosts().first() else { bail!("expected a Unix socket") };
        let port = free_port()?;
        let log = File::create(stage.folder().join("node.log"))?;
        let child = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder)
            .env("NODE_ENV", "production")
            .env("PORT", port.to_string())
            .env("MQTT_URL", format!("mqtt://127.0.0.1:{}", stage.mqtt_port))
            .env("MQTT_TOPIC", format!("{PREFIX}/{HOME}/+/telemetry"))
            .env("PGHOST", socket)
            .env("PGUSER", database.get_user().context("a user")?)
            .env("PGDATABASE", DATABASE)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start Node")?;
        let process = Process(child);
        let listens = await_port(port, "the Node server");
        listens.with_context(|| fs::read_to_string(stage.folder().join("node.log")).unwrap_or_default())?;
        Ok(Some(Self { process, addr: SocketAddr::from(([127, 0, 0, 1], port)) }))
    }

    /// It asks for no token.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { addr: self.addr, pid: self.process.id(), token: "none".to_owned(), prefix: PREFIX }
    }
}
