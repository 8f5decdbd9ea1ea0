//! What every measurement stands on: a folder, a broker and a database of the run's own, started
//! here and gone with it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use smarthome::clock::Clock;
use smarthome::dev::postgres::Postgres;
use smarthome::settings::{DatabaseSettings, Secret};
use tokio::runtime::Runtime;

use crate::messages::Numbers;
use crate::process::{self, Process};

/// How many messages, rounds and seconds.
pub(crate) struct Size {
    pub(crate) messages: u64,
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
}

/// The database of the run's own questions: none of the measured programs uses it.
pub(crate) const ADMIN: &str = "postgres";

/// See the module.
pub(crate) struct Stage {
    pub(crate) size: Size,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) mqtt_port: u16,
    /// The server's program.
    pub(crate) program: PathBuf,
    /// One thread: measurements share two cores with what they measure.
    pub(crate) runtime: Runtime,
    pub(crate) broker: Process,
    postgres: Option<Postgres>,
    counts_statements: bool,
    folder: PathBuf,
}

/// The module that counts statements, from PostgreSQL's contrib modules.
const COUNTER: &str = "pg_stat_statements";

impl Stage {
    pub(crate) fn start(size: Size, program: PathBuf) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("smarthome-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mqtt_port = free_port()?;
        let broker = start_broker(&folder, mqtt_port)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (postgres, counts_statements) = start_database(&folder.join("postgres"))?;
        let numbers = Arc::new(Numbers::new(Clock::system().now()));
        let postgres = Some(postgres);
        let stage = Self { size, numbers, mqtt_port, program, runtime, broker, postgres, counts_statements, folder };
        if counts_statements {
            let admin = stage.connect(ADMIN)?;
            stage.runtime.block_on(admin.batch_execute(&format!("create extension {COUNTER}")))?;
        }
        Ok(stage)
    }

    /// Whether PostgreSQL counts statements.
    pub(crate) fn counts_statements(&self) -> bool {
        self.counts_statements
    }

    /// How to connect to one of the run's databases.
    pub(crate) fn database(&self, name: &str) -> Result<tokio_postgres::Config> {
        Ok(self.url(name)?.parse()?)
    }

    /// A connection to one of the run's databases.
    pub(crate) fn connect(&self, database: &str) -> Result<tokio_postgres::Client> {
        self.connect_to(&self.database(database)?)
    }

    /// A connection to a database, which need not be the run's.
    pub(crate) fn connect_to(&self, config: &tokio_postgres::Config) -> Result<tokio_postgres::Client> {
        self.runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.context("connect to PostgreSQL")?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("a database connection of the benchmark failed: {error}");
                }
            });
            Ok(client)
        })
    }

    /// Makes an empty database, with the server's schema where `migrated`, and tells its URL.
    pub(crate) fn create_database(&self, name: &str, migrated: bool) -> Result<String> {
        let admin = self.connect(ADMIN)?;
        self.runtime.block_on(admin.batch_execute(&format!("create database {name}")))?;
        let url = self.url(name)?;
        if migrated {
            let settings = DatabaseSettings { url: Secret::new(url.clone()), pool_size: 1 };
            // Migrations block a thread, which the runtime of the measurements has not to spare.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(smarthome::db::migrate(&settings)).context("migrate")?;
        }
        Ok(url)
    }

    /// Writes out what earlier measurements left in memory, so that each starts alike.
    pub(crate) fn settle(&self) -> Result<()> {
        let admin = self.connect(ADMIN)?;
        Ok(self.runtime.block_on(admin.batch_execute("checkpoint"))?)
    }

    /// Processor time of PostgreSQL so far, all its processes together.
    pub(crate) fn database_cpu(&self) -> Result<Duration> {
        Ok(process::family_cpu(self.postmaster()?))
    }

    /// The process that PostgreSQL's others are children of.
    pub(crate) fn postmaster(&self) -> Result<u32> {
        let admin = self.connect(ADMIN)?;
        let backend: i32 = self.runtime.block_on(admin.query_one("select pg_backend_pid()", &[]))?.get(0);
        process::parent(u32::try_from(backend)?).context("find the postmaster")
    }

    /// The folder of the run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of one of the run's databases.
    pub(crate) fn url(&self, database: &str) -> Result<String> {
        let url = self.postgres.as_ref().context("PostgreSQL runs")?.url();
        let mut config = url::Url::parse(&url).context("the database's URL")?;
        config.set_path(database);
        Ok(config.into())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(postgres) = self.postgres.take()
            && let Err(error) = postgres.remove()
        {
            eprintln!("the benchmark's database could not be removed: {error}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// PostgreSQL, which counts statements where that module is installed.
fn start_database(folder: &Path) -> Result<(Postgres, bool)> {
    let preload = format!("shared_preload_libraries={COUNTER}");
    match Postgres::start_with(folder, &[&preload]) {
        Ok(postgres) => Ok((postgres, true)),
        Err(error) => {
            let postgres = Postgres::start(folder).context("start PostgreSQL")?;
            eprintln!("{COUNTER} can't be loaded, statements are not counted: {error}");
            Ok((postgres, false))
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Mosquitto with the limits of docker/mosquitto, on the loopback, nothing written to disk.
fn start_broker(folder: &Path, port: u16) -> Result<Process> {
    let limits = include_str!("../docker/mosquitto/conf.d/limits.conf");
    let limits = limits.replace("persistence true", "persistence false");
    let config = folder.join("mosquitto.conf");
    fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n{limits}\n"))?;
    run_broker(&config, port, Stdio::null())
}

/// Mosquitto with this file, which listens on this port.
pub(crate) fn run_broker(config: &Path, port: u16, log: Stdio) -> Result<Process> {
    let program = ["/usr/sbin/mosquitto", "mosquitto"];
    let program = program.into_iter().find(|p| fs::exists(p).unwrap_or(false)).unwrap_or(program[1]);
    let child = Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(log).spawn();
    let broker = Process(child.context("start mosquitto (Debian: apt-get install mosquitto)")?);
    await_port(port, "mosquitto")?;
    Ok(broker)
}

/// Until something listens there.
pub(crate) fn await_port(port: u16, who: &str) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > PATIENCE {
            bail!("{who} did not open its port within {} s", PATIENCE.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}
