//! The PostgreSQL and the Mosquitto that all tests of a run share. The first test that needs them starts them.
//!
//! nextest runs each test in its own process, `cargo test` all tests in one. So a script (tests/services.sh) owns the
//! servers, and each test process holds a shared lock on `users.lock`. When no process has held it for 15 s, the
//! script stops the servers and ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where the shared servers listen.
pub struct Services {
    socket_dir: PathBuf,
    database_port: u16,
    database_authority: PathBuf,
    mqtt_port: u16,
    _user: File,
}

/// The running servers; starts them if necessary.
pub fn services() -> &'static Services {
    static SERVICES: OnceLock<Services> = OnceLock::new();
    SERVICES.get_or_init(Services::join)
}

impl Services {
    /// The superuser's URL of one database.
    pub fn database_url(&self, database: &str) -> String {
        let host = self.socket_dir.to_string_lossy();
        let host = percent_encoding::utf8_percent_encode(&host, percent_encoding::NON_ALPHANUMERIC);
        format!("postgres://smarthome@{host}:{}/{database}", self.database_port)
    }

    /// The socket, as a proxy's target.
    pub fn database_socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.database_port))
    }

    /// The URL over TCP, where PostgreSQL accepts TLS.
    pub fn database_url_by_tcp(&self, host: &str, database: &str) -> String {
        format!("postgres://smarthome@{host}:{}/{database}", self.database_port)
    }

    /// PEM of the authority that signed PostgreSQL's certificate, for `localhost` and 127.0.0.1.
    pub fn database_authority(&self) -> &Path {
        &self.database_authority
    }

    /// Mosquitto's port on the loopback.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    fn join() -> Self {
        let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("services");
        fs::create_dir_all(&state).expect("a folder for the locks");
        let start = File::create(state.join("start.lock")).expect("start.lock");
        start.lock().expect("start.lock");
        let user = File::create(state.join("users.lock")).expect("users.lock");
        user.lock_shared().expect("users.lock");
        if !is_running(&state) {
            start_supervisor(&state);
        }
        let ready = fs::read_to_string(state.join("ready")).expect("the servers are ready");
        let mut lines = ready.lines();
        let socket_dir = PathBuf::from(lines.next().expect("the socket's folder"));
        let database_port = lines.next().and_then(|port| port.parse().ok()).expect("PostgreSQL's port");
        let database_authority = PathBuf::from(lines.next().expect("the authority's certificate"));
        let mqtt_port = lines.next().and_then(|port| port.parse().ok()).expect("Mosquitto's port");
        Self { socket_dir, database_port, database_authority, mqtt_port, _user: user }
    }
}

/// A running supervisor holds its lock; the file `ready` alone may remain after a crash.
fn is_running(state: &Path) -> bool {
    let lock = File::create(state.join("supervisor.lock")).expect("supervisor.lock");
    lock.try_lock_shared().is_err() && state.join("ready").exists()
}

#[expect(clippy::zombie_processes, reason = "the supervisor outlives us on purpose")]
fn start_supervisor(state: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let log = File::create(state.join("log")).expect("the supervisor's log");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut supervisor = Command::new("bash")
            .arg(root.join("tests/services.sh"))
            .args([state, &root.join("docker/mosquitto")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log.try_clone().expect("the log"))
            // Neither a Ctrl-C nor the end of the first test ends it.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        // An earlier supervisor may be ending and still hold the lock: then the new one ends at once.
        while !state.join("ready").exists() {
            if let Some(status) = supervisor.try_wait().expect("our child") {
                let why = fs::read_to_string(state.join("failed")).unwrap_or_default();
                assert!(status.success() && why.is_empty(), "the tests' servers can't start: {why}");
                break;
            }
            assert!(Instant::now() < deadline, "the tests' servers are not ready after a minute");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        if is_running(state) {
            return;
        }
        assert!(Instant::now() < deadline, "the tests' servers are not ready after a minute");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
