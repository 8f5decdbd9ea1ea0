//! One attack's own installation: PostgreSQL's next database, a broker with the shipped files and Dynamic Security, and a
//! server with its limits on. Nothing that an attack leaves behind meets the next one.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Process, cpu, family_cpu, memory_kib};
use crate::server::{PREFIX, launch};
use crate::stage::{ADMIN, Stage, free_port, run_broker};

/// The migrated database that each attack gets a copy of.
const TEMPLATE: &str = "tenants";
const PLUGIN: &str = "mosquitto_dynamic_security.so";

/// See the module.
pub(super) struct World {
    pub(super) addr: SocketAddr,
    pub(super) mqtt_port: u16,
    /// The database's name.
    pub(super) database: String,
    program: PathBuf,
    url: String,
    folder: PathBuf,
    /// Runs the server below this control group, if given.
    cgroup: Option<PathBuf>,
    server: Mutex<Option<Process>>,
    broker: Process,
    /// PostgreSQL's first process.
    postmaster: u32,
}

/// Makes the database that the others are copies of.
pub(super) fn prepare(stage: &Stage) -> Result<()> {
    let url = stage.create_database(TEMPLATE, false)?;
    let migrated = Command::new(&stage.program).arg("migrate").env_clear().env("DATABASE_URL", url).output()?;
    ensure!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
    Ok(())
}

impl World {
    /// `files`: the folder of the broker's shipped files.
    pub(super) fn start(stage: &Stage, files: &Path, name: &str, cgroup: Option<PathBuf>) -> Result<Self> {
        let database = format!("tenants_{}", name.to_ascii_lowercase());
        let admin = stage.connect(ADMIN)?;
        let copy = format!("create database {database} template {TEMPLATE}");
        stage.runtime.block_on(admin.batch_execute(&copy)).context("copy the database")?;
        let folder = stage.folder().join(&database);
        fs::create_dir_all(&folder)?;
        let mqtt_port = free_port()?;
        let url = stage.url(&database)?;
        export(&stage.program, &url, &folder)?;
        let broker = start_broker(files, &folder, mqtt_port)?;
        let world = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            mqtt_port,
            database,
            program: stage.program.clone(),
            url,
            folder,
            cgroup,
            server: Mutex::new(None),
            broker,
            postmaster: stage.postmaster()?,
        };
        world.start_server()?;
        Ok(world)
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().expect("nobody panics with it")
    }

    /// Starts the server, also again.
    pub(super) fn start_server(&self) -> Result<()> {
        let mut command = match &self.cgroup {
            None => Command::new(&self.program),
            Some(group) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(group).arg(&self.program);
                shell
            }
        };
        command.arg("serve").env_clear().envs(broker_settings(self.mqtt_port));
        command
            .env("PATH", "/usr/bin:/bin")
            .env("DATABASE_URL", &self.url)
            .env("MQTT_CLIENT_ID", "bench-server")
            .env("HTTP_ADDR", self.addr.to_string())
            .env("RATE_LIMITS", "on")
            .env("JWT_SECRET", "a secret for the benchmark alone, long enough")
            .env("REGISTRATION", "open")
            .env("LOG", "warn");
        let (process, _) = launch(command, self.addr, &self.folder.join("server.log"))?;
        *self.server() = Some(process);
        Ok(())
    }

    pub(super) fn stop_server(&self) -> Result<()> {
        self.server().take().map_or(Ok(()), |mut process| process.terminate())
    }

    /// Whether the server still runs.
    pub(super) fn server_lives(&self) -> bool {
        self.server().as_mut().is_some_and(|process| matches!(process.0.try_wait(), Ok(None)))
    }

    /// Resident memory of the server in MiB, now and at its highest.
    pub(super) fn server_memory(&self) -> (u64, u64) {
        self.server().as_ref().map_or((0, 0), |process| mib(process.id()))
    }

    /// Processor time so far of server, database, broker and this program.
    pub(super) fn processor(&self) -> [Duration; 4] {
        let server = self.server().as_ref().map_or(Duration::ZERO, |process| cpu(process.id(), false));
        [server, family_cpu(self.postmaster), cpu(self.broker.id(), false), cpu("self", false)]
    }

    /// Resident memory of the broker, likewise.
    pub(super) fn broker_memory(&self) -> (u64, u64) {
        mib(self.broker.id())
    }
}

fn mib(pid: u32) -> (u64, u64) {
    memory_kib(pid).map_or((0, 0), |(now, most)| (now >> 10, most >> 10))
}

fn broker_settings(port: u16) -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    vec![
        ("MQTT_BROKER_URL", format!("mqtt://127.0.0.1:{port}")),
        ("MQTT_TOPIC_PREFIX", text(PREFIX)),
        ("MQTT_USERNAME", text("smarthome_backend")),
        ("MQTT_PASSWORD", text("the password of the server itself")),
        ("MQTT_PROVISIONING", text("dynsec")),
        ("MQTT_DYNSEC_USERNAME", text("smarthome_admin")),
        ("MQTT_DYNSEC_PASSWORD", text("the password of the administrator")),
    ]
}

/// The accounts and access rules of an installation without devices.
fn export(program: &Path, url: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["mqtt", "export", "--dir"]).arg(folder).env_clear().env("DATABASE_URL", url);
    let output = command.envs(broker_settings(1)).output()?;
    ensure!(output.status.success(), "mqtt export: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Mosquitto with the limits and Dynamic Security of these files.
fn start_broker(files: &Path, folder: &Path, port: u16) -> Result<Process> {
    let read = |name: &str| fs::read_to_string(files.join(name)).with_context(|| format!("read {name}"));
    let libraries = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"];
    let plugin = libraries.map(|library| Path::new(library).join(PLUGIN)).into_iter().find(|path| path.exists());
    let plugin = plugin.context("Mosquitto's Dynamic Security plugin is not installed")?;
    let rules = read("dynsec.conf")?
        .replace(&format!("/usr/lib/{PLUGIN}"), &plugin.display().to_string())
        .replace("/mosquitto/config/", &format!("{}/", folder.display()));
    // `user`: under root Mosquitto would switch to an account that can't read the folder.
    let place = format!("user root\nlistener {port} 127.0.0.1\npersistence_location {}/", folder.display());
    let config = folder.join("mosquitto.conf");
    fs::write(&config, format!("{}\n{place}\nlog_dest stderr\n{rules}\n", read("conf.d/limits.conf")?))?;
    let log = File::create(folder.join("mosquitto.log"))?;
    run_broker(&config, port, Stdio::from(log))
}
