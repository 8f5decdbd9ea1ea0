//! A Mosquitto of a test's own, for tests that stop, kill or freeze it, or that need its accounts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::unique;

/// The broker's process and its folder, both gone when dropped.
pub struct Broker {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    /// With the production limits, open to everybody on this machine.
    pub async fn start() -> Self {
        Self::start_with("allow_anonymous true").await
    }

    /// With the production limits, access rules and these accounts.
    pub async fn with_accounts(accounts: &[(&str, &str)]) -> Self {
        let folder = folder();
        let passwd = folder.join("passwd");
        std::fs::write(&passwd, "").expect("the password file");
        for (user, password) in accounts {
            let status = Command::new("mosquitto_passwd").arg("-b").arg(&passwd).args([user, password]).status();
            assert!(status.expect("mosquitto_passwd runs").success());
        }
        let acl = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/acl");
        std::fs::copy(acl, folder.join("acl")).expect("the access rules");
        let auth = format!("allow_anonymous false\npassword_file {0}/passwd\nacl_file {0}/acl", folder.display());
        Self::start_in(folder, &auth).await
    }

    /// With Dynamic Security as `smarthome mqtt export` prepared it in this folder, which it takes over.
    pub async fn with_dynamic_security(folder: PathBuf) -> Self {
        Self::start_in(folder.clone(), &dynsec_conf(&folder)).await
    }

    /// With the password file and the rules that `smarthome mqtt export` wrote into this folder.
    pub async fn with_files(folder: PathBuf) -> Self {
        let auth = format!("allow_anonymous false\npassword_file {0}/passwd\nacl_file {0}/acl", folder.display());
        Self::start_in(folder, &auth).await
    }

    /// With the shipped TLS listeners over the certificates in the folder's `tls`, and Dynamic Security
    /// as `smarthome mqtt export` prepared it. Gives the ports of 8883, 8884 and 9001 too.
    pub async fn with_tls(folder: PathBuf) -> (Self, [u16; 3]) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/tls.conf");
        let mut text = std::fs::read_to_string(shipped).expect("the shipped configuration");
        text = text.replace("/mosquitto/config/", &format!("{}/", folder.display()));
        let ports = [8883, 8884, 9001].map(|port| {
            let free = free_port();
            text = text.replace(&format!("listener {port}\n"), &format!("listener {free} 127.0.0.1\n"));
            free
        });
        let configuration = format!("{}\n{text}", dynsec_conf(&folder));
        (Self::start_in(folder, &configuration).await, ports)
    }

    /// With lines of configuration of the test's own.
    pub async fn start_with(configuration: &str) -> Self {
        Self::start_in(folder(), configuration).await
    }

    async fn start_in(folder: PathBuf, configuration: &str) -> Self {
        let port = free_port();
        let limits = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/conf.d/limits.conf");
        let limits = std::fs::read_to_string(limits).expect("the production limits");
        // `user`: as root Mosquitto would leave for an account that can't read the folder.
        let place = format!("user root\nlistener {port} 127.0.0.1\npersistence_location {}/", folder.display());
        let text = format!("{limits}\n{place}\nlog_dest stderr\n{configuration}\n");
        std::fs::write(folder.join("mosquitto.conf"), text).expect("the configuration");
        let mut broker = Self { folder, port, child: None };
        broker.restart().await;
        broker
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port, with what it saved.
    pub async fn restart(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).expect("the log");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.join("mosquitto.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(log).spawn().expect("mosquitto runs");
        super::eventually("Mosquitto listens", || {
            let gone = child.try_wait().expect("our child");
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(gone.is_none(), "Mosquitto ended: {log}");
            std::future::ready(log.contains("running").then_some(()))
        })
        .await;
        self.child = Some(child);
    }

    /// SIGTERM: it saves what it holds.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().expect("it runs").wait().expect("our child");
    }

    /// SIGKILL: what it had not saved is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Sends any signal, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Free a moment ago; nobody else looks for ports of the kernel's choice.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

/// docker/mosquitto/dynsec.conf, with the places of this machine.
fn dynsec_conf(folder: &Path) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/dynsec.conf");
    let text = std::fs::read_to_string(shipped).expect("the shipped configuration");
    const PLUGIN: &str = "mosquitto_dynamic_security.so";
    let lib = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"]
        .map(|lib| Path::new(lib).join(PLUGIN))
        .into_iter()
        .find(|path| path.exists())
        .expect("Mosquitto's Dynamic Security plugin");
    text.replace(&format!("/usr/lib/{PLUGIN}"), &lib.display().to_string())
        .replace("/mosquitto/config/", &format!("{}/", folder.display()))
}

/// A folder for a broker to come.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(unique("smarthome-broker"));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
