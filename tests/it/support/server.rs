//! The real binary as a process, for tests that kill it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use tokio::net::TcpStream;

use super::app::variables;
use super::binary::binary;
use super::{eventually, http, unique};

/// `smarthome serve` with the test's environment only.
pub struct Server {
    variables: HashMap<String, String>,
    addr: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts it and waits until `/readyz` answers 200.
    pub async fn start(database_url: &str, mqtt_port: u16, overrides: &[(&str, &str)]) -> Self {
        let mut server = Self::prepare(database_url, mqtt_port, overrides);
        server.restart().await;
        server
    }

    /// Chooses a port and an environment; [`Server::spawn`] starts it.
    pub fn prepare(database_url: &str, mqtt_port: u16, overrides: &[(&str, &str)]) -> Self {
        // A port that was free a moment ago. It stays the same over restarts.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        drop(listener);
        let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut variables = variables(&overrides, database_url, mqtt_port);
        variables.insert("HTTP_ADDR".to_owned(), addr.to_string());
        let log = std::env::temp_dir().join(unique("smarthome-server"));
        Self { variables, addr, log, child: None }
    }

    /// Starts it again with the same environment.
    pub async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Starts it again and doesn't wait.
    pub fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("the log");
        let mut command = binary(&["serve"]);
        command.envs(&self.variables);
        // Standard output should be empty; if it is not, the test sees it in the log.
        let output = log.try_clone().expect("the log");
        command.stdin(Stdio::null()).stdout(output).stderr(log);
        self.child = Some(command.spawn().expect("the binary runs"));
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self) {
        let addr = self.addr;
        eventually("the server is ready", || {
            let child = self.child.as_mut().expect("it was started");
            let gone = child.try_wait().expect("our child");
            assert!(gone.is_none(), "the server ended: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
            async move {
                TcpStream::connect(addr).await.ok()?;
                http::is_ready(addr).await.then_some(())
            }
        })
        .await;
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The first segment of its topics.
    pub fn prefix(&self) -> &str {
        &self.variables["MQTT_TOPIC_PREFIX"]
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("our child").is_some())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// SIGTERM; returns the exit status.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        eventually("the server stops", || std::future::ready(child.try_wait().expect("our child"))).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.log);
    }
}
