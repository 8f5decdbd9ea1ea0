//! The program under soak, with the thousand devices of the benchmark in a home of their own.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::PATIENCE;
use crate::echo::wait_until;
use crate::server::{self, DATABASE, Server, launch};
use crate::stage::{Stage, free_port};

pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) server: Server,
    pub(super) mqtt_port: u16,
    database_url: String,
}

impl Subject {
    pub(super) fn start(stage: &Stage, dev: bool) -> Result<Self> {
        if dev {
            return Self::start_dev(stage);
        }
        let database_url = stage.create_database(DATABASE, false)?;
        let (process, addr, _) = server::start(stage, &database_url)?;
        let server = Server::furnish(process, addr)?;
        Ok(Self { name: "serve", server, mqtt_port: stage.mqtt_port, database_url })
    }

    /// `smarthome dev` with its own broker and database, and without simulated devices.
    fn start_dev(stage: &Stage) -> Result<Self> {
        let (folder, mqtt_port) = (stage.folder().join("dev"), free_port()?);
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let addr = local(free_port()?);
        let mut command = Command::new(&stage.program);
        command.args(["dev", "--simulate", "0", "--dir"]).arg(&folder);
        command.args(["--http-addr", &addr.to_string(), "--mqtt-addr", &local(mqtt_port).to_string()]);
        command.args(["--mqtt-ws-addr", &local(free_port()?).to_string()]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("RATE_LIMITS", "off").env("LOG", "warn");
        let (process, _) = launch(command, addr, &stage.folder().join("dev.log"))?;
        let facts = facts(&folder.join("dev.json"))?;
        let database_url = server::text(&facts["databaseUrl"])?;
        Ok(Self { name: "dev", server: Server::furnish(process, addr)?, mqtt_port, database_url })
    }

    /// The rows of the readings with these numbers.
    pub(super) fn count_rows(&self, stage: &Stage, numbers: &Range<u64>) -> Result<u64> {
        let client = stage.connect_to(&self.database_url.parse()?)?;
        let query = "select count(*) from telemetry where recorded_at >= $1 and recorded_at < $2";
        let (from, until) = (stage.numbers.time(numbers.start), stage.numbers.time(numbers.end));
        let (from, until): (std::time::SystemTime, std::time::SystemTime) = (from.into(), until.into());
        let rows: i64 = stage.runtime.block_on(client.query_one(query, &[&from, &until]))?.get(0);
        Ok(u64::try_from(rows)?)
    }
}

/// What `dev` tells scripts, shortly after it is ready.
fn facts(file: &Path) -> Result<Value> {
    let begun = Instant::now();
    while !file.exists() {
        ensure!(begun.elapsed() < PATIENCE, "{} was not written", file.display());
        wait_until(Instant::now() + Duration::from_millis(10));
    }
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}
