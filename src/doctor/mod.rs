//! `smarthome doctor`: checks an installation from the outside, in the order in which one looks for a fault, and says what
//! to do. It changes nothing, and a running server does not notice it.

mod broker;
mod broker_config;
mod database;
mod disk;
mod mail;
mod report;
mod topics;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::clock::Clock;
use crate::settings::{DatabaseSettings, Environment, MailSettings, MqttSettings, SettingsErrors, is_loopback};
use disk::Place;
use report::Check;

/// Check the broker, the database, the mail server, the clock and the disk as this server would use them, and say what is wrong and what to do.
/// Reads the variables of `serve`. The exit status is 0 if all is well and 1 if there are faults.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Also check the free space of the disk with this folder; may be repeated. Needed where PostgreSQL or Mosquitto runs on this
    /// machine and does not tell its folder.
    #[arg(long, value_name = "DIR")]
    disk: Vec<PathBuf>,
    /// Also check Mosquitto's configuration file, on its machine: from outside nobody sees whether its messages survive a restart.
    #[arg(long, value_name = "FILE")]
    mosquitto_conf: Option<PathBuf>,
}

/// What the doctor has found.
pub(crate) struct Findings {
    /// To be printed.
    pub(crate) text: String,
    n_checks: usize,
    n_faults: usize,
}

impl Findings {
    /// Fails where there is a fault.
    pub(crate) fn result(&self) -> anyhow::Result<()> {
        match self.n_faults {
            0 => Ok(()),
            n => bail!("{n} of {} checks found a fault", self.n_checks),
        }
    }
}

impl Doctor {
    /// `errors` are those for which `serve` does not start.
    pub(crate) async fn run(self, errors: Option<SettingsErrors>) -> Findings {
        let checks = self.checks(errors).await;
        let text = if self.json { format!("{:#}\n", report::json(&checks)) } else { report::text(&checks) };
        Findings { text, n_checks: report::count_made(&checks), n_faults: report::count_faults(&checks) }
    }

    async fn checks(&self, errors: Option<SettingsErrors>) -> Vec<Check> {
        let (mqtt, database) = (MqttSettings::read(&Environment), DatabaseSettings::read(&Environment));
        let of_broker = async {
            match &mqtt {
                Ok(mqtt) => broker::check(mqtt).await,
                Err(_) => vec![Check::not_checked("broker", "the settings of the broker are not usable")],
            }
        };
        let of_database = async {
            match &database {
                Ok(database) => database::check(database, &Clock::system()).await,
                Err(_) => {
                    let check = Check::not_checked("database", "the settings of the database are not usable");
                    (vec![check], Place::Elsewhere)
                }
            }
        };
        let of_mail = async {
            match MailSettings::read(&Environment) {
                Ok(mail) => mail::check(mail.as_ref()).await,
                Err(_) => Some(Check::not_checked("mail", "the settings of mail are not usable")),
            }
        };
        let (of_broker, (of_database, postgresql), of_mail) =
            tokio::join!(Box::pin(of_broker), Box::pin(of_database), Box::pin(of_mail));
        let (persistence, folder) = broker_config::check(self.mosquitto_conf.as_deref());
        let mosquitto = match (folder, &mqtt) {
            (Some(folder), _) => Place::Folder(folder),
            (None, Ok(mqtt)) if is_loopback(&mqtt.broker.host) => Place::ThisMachine,
            (None, _) => Place::Elsewhere,
        };
        let mut checks = vec![settings(errors)];
        checks.extend(of_broker);
        checks.push(persistence);
        checks.extend(of_database.into_iter().chain(of_mail));
        checks.extend(disk::check(&self.disk, &postgresql, &mosquitto));
        checks
    }
}

fn settings(errors: Option<SettingsErrors>) -> Check {
    match errors {
        None => Check::ok("settings", "complete"),
        Some(errors) => Check::fault(
            "settings",
            errors.to_string().replace('\n', "; "),
            "set these variables, as `smarthome serve --help` describes them",
        ),
    }
}
