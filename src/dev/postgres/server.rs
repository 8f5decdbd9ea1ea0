//! One server process, spawned by a thread of its own.
//!
//! The kernel sends the death signal when the *thread* ends that spawned the child, and tokio's blocking threads
//! end when they are idle. So the spawning thread does nothing else and runs as long as the [`Server`] exists.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::PostgresError;
use super::cluster::{Cluster, at, last_lines, run};

/// Crash recovery of a large write-ahead log takes long.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// A longer log is removed at the start.
const MAX_LOG_BYTES: u64 = 16 << 20;

pub(super) struct Server {
    child: Child,
    /// Dropping it ends the thread, and with it the server.
    _keep_alive: mpsc::Sender<()>,
}

impl Server {
    pub(super) fn start(cluster: &Cluster, settings: &[String]) -> Result<Self, PostgresError> {
        let log_file = cluster.log_file();
        let log = open_log(cluster).map_err(at(&log_file))?;
        let log_start = log.metadata().map_err(at(&log_file))?.len();
        let mut command = cluster.install().server();
        command.arg("-D").arg(cluster.data());
        let sockets = format!("unix_socket_directories={}", cluster.socket_dir().display());
        for setting in ["listen_addresses=", "unix_socket_permissions=0700", &sockets] {
            command.args(["-c", setting]);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.stdout(log.try_clone().map_err(at(&log_file))?).stderr(log);

        let (keep_alive, dropped) = mpsc::channel::<()>();
        let (spawned, child) = mpsc::channel();
        let spawner = thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            if spawned.send(command.spawn()).is_ok() {
                // Returns an error when the sender is dropped.
                let _ = dropped.recv();
            }
        });
        spawner.map_err(at(&cluster.data()))?;
        let child = child.recv().expect("the thread sends before it ends").map_err(at(&cluster.data()))?;
        let mut server = Self { child, _keep_alive: keep_alive };
        server.wait_until_ready(cluster, log_start)?;
        Ok(server)
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the server only; its backends end when they notice.
    #[cfg(test)]
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("it is our child");
    }

    /// Stops with one of pg_ctl's modes and reaps the process.
    pub(super) fn stop(mut self, cluster: &Cluster, mode: &str) -> Result<(), PostgresError> {
        if !self.is_running() {
            return Ok(());
        }
        let stop = |mode: &str, seconds: &str| {
            let mut command = cluster.install().tool("pg_ctl");
            command.args(["stop", "-w", "-m", mode, "-t", seconds, "-D"]).arg(cluster.data());
            run("pg_ctl stop", &mut command)
        };
        // If a backend blocks a fast stop, stop immediately: the next start recovers.
        stop(mode, "8").or_else(|_| stop("immediate", "5"))?;
        self.child.wait().map_err(at(&cluster.data()))?;
        Ok(())
    }

    /// Line 1 of the pid file is the server's pid, line 8 its state.
    fn wait_until_ready(&mut self, cluster: &Cluster, log_start: u64) -> Result<(), PostgresError> {
        let pid_file = cluster.data().join("postmaster.pid");
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = text.lines();
            let pid = lines.next().and_then(|line| line.trim().parse().ok());
            if pid == Some(self.child.id()) && lines.nth(6).is_some_and(|state| state.trim() == "ready") {
                return Ok(());
            }
            if !self.is_running() || Instant::now() > deadline {
                let log = fs::read(cluster.log_file()).unwrap_or_default();
                let new = log.get(usize::try_from(log_start).unwrap_or(0)..).unwrap_or_default();
                let output = last_lines(&String::from_utf8_lossy(new));
                return Err(PostgresError::Program { program: "postgres", output });
            }
            thread::park_timeout(POLL);
        }
    }
}

fn open_log(cluster: &Cluster) -> io::Result<File> {
    let path = cluster.log_file();
    let is_long = fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_LOG_BYTES);
    if is_long {
        fs::remove_file(&path)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
