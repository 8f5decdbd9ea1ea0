//! The device examples as processes: the sketch for the ESP32, compiled for this machine, and the script for MicroPython.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::node::{python_program, run};
use super::user::Device;
use super::{unique, until};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
/// Arduino's functions and espMqttClient on this machine.
const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/esp32");
/// Debian's package arduino-core-avr.
const CORE: &str = "/usr/share/arduino/hardware/arduino/avr/cores/arduino";
/// The compiler's time on a busy machine.
const COMPILED_WITHIN: Duration = Duration::from_secs(120);

/// Which example runs.
#[derive(Debug, Clone, Copy)]
pub enum Example {
    MicroPython,
    Esp32,
}

/// A board with its own folder, which is its flash memory. Both end with the value.
pub struct Board {
    folder: PathBuf,
    command: PathBuf,
    arguments: Vec<PathBuf>,
    search_path: String,
    child: Option<Child>,
    /// The number of the current log: each start has its own.
    starts: usize,
}

impl Board {
    /// A board with the example and the credentials of a device. It asks for the time at `ntp_port` on the loopback.
    pub async fn prepare(example: Example, device: &Device, mqtt_port: u16, ntp_port: u16) -> Self {
        let folder = std::env::temp_dir().join(unique("smarthome-board"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let topic = device.topic("");
        let topic = topic.trim_end_matches('/');
        let mut board = Self {
            command: folder.join("sketch"),
            folder,
            arguments: Vec::new(),
            search_path: String::new(),
            child: None,
            starts: 0,
        };
        match example {
            Example::MicroPython => board.set_up_script(device, topic, mqtt_port, ntp_port).await,
            Example::Esp32 => board.compile(device, topic, mqtt_port).await,
        }
        board
    }

    async fn set_up_script(&mut self, device: &Device, topic: &str, mqtt_port: u16, ntp_port: u16) {
        let settings = json!({
            "wifi": ["", ""], "host": "127.0.0.1", "port": mqtt_port, "username": device.username,
            "password": device.password, "clientId": device.client_id, "topic": topic, "ntp": "127.0.0.1",
            "ntpPort": ntp_port,
        });
        std::fs::write(self.folder.join("settings.json"), settings.to_string()).expect("the settings");
        self.command = python_program("micropython").await;
        self.arguments = vec![Path::new(EXAMPLES).join("micropython/main.py")];
        let versions = self.command.with_file_name("../lib").read_dir().expect("a virtual environment");
        let packages = versions.map(|version| version.expect("a folder").path().join("site-packages"));
        self.search_path = packages.map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":");
    }

    async fn compile(&self, device: &Device, topic: &str, mqtt_port: u16) {
        let port = mqtt_port.to_string();
        let texts = [
            ("WIFI_SSID", ""),
            ("WIFI_PASSWORD", ""),
            ("MQTT_HOST", "127.0.0.1"),
            ("MQTT_USERNAME", &device.username),
            ("MQTT_PASSWORD", &device.password),
            ("MQTT_CLIENT_ID", &device.client_id),
            ("DEVICE_TOPIC", topic),
            ("NTP_SERVER", ""),
        ];
        let define = |(name, text): (&str, &str)| format!("#define {name} {}\n", json!(text));
        let settings: String = texts.map(define).concat() + &format!("#define MQTT_PORT {port}\n");
        std::fs::write(self.folder.join("settings.h"), settings).expect("the settings");
        let folder = self.folder.to_str().expect("UTF-8");
        let core = ["WString.cpp", "Print.cpp", "Stream.cpp"].map(|file| format!("{CORE}/{file}"));
        assert!(Path::new(&core[0]).exists(), "apt-get install arduino-core-avr libmosquitto-dev");
        let mut compiler = tokio::process::Command::new("g++");
        compiler.args(["-std=gnu++17", "-Wall", "-iquote", folder, "-iquote", HOST, "-I", HOST, "-iquote", CORE]);
        compiler.args(["-include", "Arduino.h", "-x", "c++", &format!("{EXAMPLES}/esp32-arduino/esp32-arduino.ino")]);
        compiler
            .arg(format!("{HOST}/host.cpp"))
            .args(core)
            .args(["-x", "none", "-lmosquitto", "-o"])
            .arg(&self.command);
        let output = run(&mut compiler, COMPILED_WITHIN).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        let warnings = errors.lines().filter(|line| line.contains("warning:") && !line.starts_with(CORE));
        assert!(output.status.success() && warnings.count() == 0, "{errors}");
    }

    /// Switches it on.
    pub fn start(&mut self) {
        self.starts += 1;
        let log = std::fs::File::create(self.log_file(self.starts)).expect("the log");
        let mut command = Command::new(&self.command);
        command.args(&self.arguments).env("MICROPYPATH", &self.search_path).current_dir(&self.folder);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("the log")).stdout(log);
        self.child = Some(command.spawn().expect("the board starts"));
    }

    /// Takes its power away.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Sets the clock of the ESP32, as its SNTP client would.
    pub fn set_clock(&self) {
        std::fs::write(self.folder.join("clock"), "").expect("a file");
    }

    fn log_file(&self, start: usize) -> PathBuf {
        self.folder.join(format!("log{start}"))
    }

    /// What it has printed since it was last switched on.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file(self.starts)).unwrap_or_default()
    }

    /// How often it has printed a text since it was last switched on.
    pub fn count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until it has printed a text a number of times since it was last switched on.
    pub async fn printed(&mut self, text: &str, times: usize) {
        let log = self.log_file(self.starts);
        let child = self.child.as_mut().expect("it runs");
        until(&format!("the board prints `{text}` {times} times"), || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().expect("our child").is_none(), "the board has ended: {log}");
            log.matches(text).count() >= times
        })
        .await;
    }

    /// Every message of which the broker has confirmed the receipt, over all starts.
    pub fn delivered(&self) -> Vec<Value> {
        let logs = (1..=self.starts).map(|start| std::fs::read_to_string(self.log_file(start)).unwrap_or_default());
        let lines: Vec<String> = logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        // A board that is switched off may have printed half a line.
        let messages = lines.iter().filter_map(|line| line.strip_prefix("delivered "));
        messages.filter_map(|message| serde_json::from_str(message).ok()).collect()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
