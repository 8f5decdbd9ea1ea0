//! A test's own Mosquitto, for tests that stop, kill or freeze it or need accounts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::ports::free_port;
use super::unique;

/// The broker's process and its folder; both end with the value.
pub struct Broker {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    /// With the production limits, for anonymous clients on this machine.
    pub async fn start() -> Self {
        Self::start_with("allow_anonymous true").await
    }

    /// With the production limits, access rules and these accounts.
    pub async fn with_accounts(accounts: &[(&str, &str)]) -> Self {
        Self::with_rules(accounts, str::to_owned).await
    }

    /// As [`Broker::with_accounts`], with the access rules changed.
    pub async fn with_rules(accounts: &[(&str, &str)], rules: impl Fn(&str) -> String) -> Self {
        let folder = folder();
        let passwd = folder.join("passwd");
        std::fs::write(&passwd, "").expect("the password file");
        for (user, password) in accounts {
            write_password(&passwd, user, password);
        }
        std::fs::write(folder.join("acl"), rules(&shipped("acl", &folder))).expect("the access rules");
        let configuration = shipped("passwords.conf", &folder);
        Self::start_in(folder, &configuration).await
    }

    /// With Dynamic Security as `smarthome mqtt export` prepared it in this folder.
    pub async fn with_dynamic_security(folder: PathBuf) -> Self {
        Self::start_in(folder.clone(), &dynsec_conf(&folder)).await
    }

    /// With the password file and the rules that `smarthome mqtt export` wrote into this folder.
    pub async fn with_files(folder: PathBuf) -> Self {
        let configuration = shipped("passwords.conf", &folder);
        Self::start_in(folder, &configuration).await
    }

    /// With Dynamic Security as `smarthome mqtt export` prepared it and the listeners of a shipped file, given by their
    /// ports there. Returns their actual ports.
    pub async fn with_listeners<const N: usize>(folder: PathBuf, file: &str, ports: [u16; N]) -> (Self, [u16; N]) {
        let mut text = shipped(file, &folder);
        let ports = ports.map(|port| {
            let free = free_port();
            text = text.replace(&format!("listener {port}\n"), &format!("listener {free} 127.0.0.1\n"));
            free
        });
        let configuration = format!("{}\n{text}", dynsec_conf(&folder));
        (Self::start_in(folder, &configuration).await, ports)
    }

    /// With additional lines of configuration.
    pub async fn start_with(configuration: &str) -> Self {
        Self::start_in(folder(), configuration).await
    }

    async fn start_in(folder: PathBuf, configuration: &str) -> Self {
        let port = free_port();
        let limits = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto/conf.d/limits.conf");
        let limits = std::fs::read_to_string(limits).expect("the production limits");
        // `user`: under root Mosquitto would switch to an account that can't read the folder.
        let place = format!("user root\nlistener {port} 127.0.0.1\npersistence_location {}/", folder.display());
        let text = format!("{limits}\n{place}\nlog_dest stderr\n{configuration}\n");
        std::fs::write(folder.join("mosquitto.conf"), text).expect("the configuration");
        let mut broker = Self { folder, port, child: None };
        broker.restart().await;
        broker
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the password of an account of [`Broker::with_rules`].
    pub fn set_password(&self, user: &str, password: &str) {
        write_password(&self.folder.join("passwd"), user, password);
        self.signal("HUP");
    }

    /// Starts it again on the same port, with its saved state.
    pub async fn restart(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).expect("the log");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.join("mosquitto.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(log).spawn().expect("mosquitto runs");
        super::until("Mosquitto listens", || {
            let gone = child.try_wait().expect("our child");
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(gone.is_none(), "Mosquitto ended: {log}");
            log.contains("running")
        })
        .await;
        self.child = Some(child);
    }

    /// SIGTERM: it saves its state.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().expect("it runs").wait().expect("our child");
    }

    /// SIGKILL: unsaved state is lost.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Removes its saved state while it does not run: sessions and messages.
    pub fn empty(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let _ = std::fs::remove_file(self.folder.join("mosquitto.db"));
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

fn write_password(file: &Path, user: &str, password: &str) {
    let status = Command::new("mosquitto_passwd").arg("-b").arg(file).args([user, password]).status();
    assert!(status.expect("mosquitto_passwd runs").success());
}

/// docker/mosquitto/dynsec.conf, with the paths of this machine.
fn dynsec_conf(folder: &Path) -> String {
    const PLUGIN: &str = "mosquitto_dynamic_security.so";
    let lib = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"]
        .map(|lib| Path::new(lib).join(PLUGIN))
        .into_iter()
        .find(|path| path.exists())
        .expect("Mosquitto's Dynamic Security plugin");
    shipped("dynsec.conf", folder).replace(&format!("/usr/lib/{PLUGIN}"), &lib.display().to_string())
}

/// A file of docker/mosquitto, with this folder instead of the image's.
fn shipped(name: &str, folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/mosquitto").join(name);
    let text = std::fs::read_to_string(path).expect("a shipped file");
    text.replace("/mosquitto/config/", &format!("{}/", folder.display()))
}

/// A new folder for a broker.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(unique("smarthome-broker"));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
