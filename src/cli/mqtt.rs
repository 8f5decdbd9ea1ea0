//! Commands of operators for the MQTT broker.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{database, output};
use crate::clock::Clock;
use crate::devices;
use crate::mqtt::export::Export;
use crate::settings::{DatabaseSettings, Environment, MqttSettings, Provisioning};
use anyhow::{Context, bail};
use clap::Subcommand;

/// Most device names in a warning.
const MAX_NAMES: usize = 5;

#[derive(Subcommand)]
pub(crate) enum Mqtt {
    /// Write the accounts of all devices to Mosquitto's files: dynamic-security.json, acl, passwd. Needs DATABASE_URL and
    /// the MQTT_* variables of the server. Stop the broker before you replace its dynamic-security.json.
    Export {
        /// The folder to write to. An existing dynamic-security.json keeps accounts that are not ours.
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Mqtt {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::Export { dir } = self;
        let mqtt = MqttSettings::read(&Environment)?;
        let pool = database::open(&DatabaseSettings::read(&Environment)?).await?;
        let devices = devices::stored_accounts(&pool, Clock::system().now()).await.context("read the accounts")?;
        let to_clean_up = devices::topics_to_clean_up(&pool).await.context("read the deleted devices")?;
        let admin = match &mqtt.provisioning {
            Provisioning::Dynsec(account) => Some(account),
            Provisioning::None | Provisioning::Embedded => None,
        };
        let server = mqtt.username.as_deref().zip(mqtt.password.as_ref());
        let export = Export { prefix: &mqtt.prefix, server, admin, devices: &devices, to_clean_up: &to_clean_up };
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let path = dir.join("dynamic-security.json");
        let existing = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => bail!("{}: {error}", path.display()),
        };
        let (text, written) = export.dynamic_security(existing.as_deref())?;
        write(&path, &text)?;
        write(&dir.join("acl"), &export.rules())?;
        write(&dir.join("passwd"), &export.passwords())?;
        let unknown: Vec<_> = export.without_hash().collect();
        let accounts = if written.total() == 1 { "account" } else { "accounts" };
        let whose = if written.total() == 0 { String::new() } else { format!(": {written}") };
        output::print(&format!("{} {accounts} in {}{whose}\n", written.total(), dir.display()))?;
        if server.is_none() {
            eprintln!(
                "warning: the server's own account is missing: set MQTT_USERNAME and MQTT_PASSWORD to include it"
            );
        }
        if !unknown.is_empty() {
            let quoted = unknown[..unknown.len().min(MAX_NAMES)].join(", ");
            eprintln!(
                "warning: {} devices are missing, because an older release issued their passwords ({quoted}): \
                 rotate their credentials",
                unknown.len()
            );
        }
        Ok(())
    }
}

/// Replaces a file atomically; only its owner may read it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let result = (|| {
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    result.with_context(|| format!("write {}", path.display()))
}
