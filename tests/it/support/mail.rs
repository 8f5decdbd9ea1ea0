//! A real mail server with STARTTLS and a password: `tests/python/smtp_server.py`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::app::{Builder, TestApp};
use super::node::python_program;
use super::{soon, unique};
use crate::mosquitto_tls::made;

pub const USER: &str = "sender";
/// Has characters that a URL escapes.
pub const PASSWORD: &str = "p/w:%@";
pub const PASSWORD_IN_URL: &str = "p%2Fw%3A%25%40";

/// The mail server's process.
pub struct MailServer {
    folder: PathBuf,
    pub port: u16,
    mails: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl MailServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// One that has no TLS.
    pub async fn start_plain() -> Self {
        Self::start_with(&["plain"]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::env::temp_dir().join(unique("smarthome-mail"));
        std::fs::create_dir_all(&folder).expect("a folder");
        for arguments in [&["ca"][..], &["broker", "127.0.0.1"]] {
            made(&folder, arguments);
        }
        let mut child = Command::new(python_program("python").await)
            .arg(root.join("tests/python/smtp_server.py"))
            .args([folder.join("tls/server.crt"), folder.join("tls/server.key")])
            .args([USER, PASSWORD])
            .args(more)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the mail server");
        let mut mails = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = soon("the port", mails.next_line()).await.expect("text").expect("a port").parse().expect("a number");
        Self { folder, port, mails, _child: child }
    }

    /// A server that sends through this one.
    pub fn app(&self) -> Builder {
        let url = format!("smtp://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}", self.port);
        let from = "Smart home <home@test.example>";
        TestApp::builder().set("SMTP_URL", url).set("SMTP_FROM", from).set("SMTP_CA_FILE", self.ca_file())
    }

    /// The authority that signed the server's certificate.
    pub fn ca_file(&self) -> String {
        self.folder.join("tls/ca.crt").display().to_string()
    }

    /// Whether no mail has come. The server prints a mail before it answers.
    pub async fn has_no_mail(&mut self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.mails.next_line()).await.is_err()
    }

    /// The next mail.
    pub async fn mail(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(20), self.mails.next_line()).await;
        serde_json::from_str(&line.expect("a mail").expect("text").expect("a mail")).expect("JSON")
    }

    /// The token of the next mail, which is to this address. `prefix` is that of tokens of its kind.
    pub async fn token(&mut self, email: &str, prefix: &str) -> String {
        let mail = self.mail().await;
        assert_eq!(mail["to"], json!([email]), "{mail}");
        let text = mail["text"].as_str().expect("text");
        let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        words.rfind(|word| word.starts_with(prefix)).expect("a token").to_owned()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
