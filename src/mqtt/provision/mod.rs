//! Tells Mosquitto's Dynamic Security plugin of the devices' accounts, over a connection of its own.
//!
//! One server of an installation does, while it holds the lead. Each command makes the broker write its
//! whole file in its only thread (2 ms at 1,000 accounts, 8 ms at 4,000), so they go one by one, with a
//! pause of a multiple of what the last one took.

mod command;
mod control;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::devices::{AccountChange, AccountChanges, AccountLeader, ChangeKind, MqttUser};
use crate::error::{Chain, Error};
use crate::metrics::Metrics;
use crate::settings::{DatabaseSettings, DynsecAccount, MqttSettings};
use command::Command;
use control::{Control, ControlError};

pub use command::role_topics;

/// Changes read at once: so few that a removal committed meanwhile does not wait long for its turn.
const CHANGES: i64 = 20;
/// How often the database is asked for what other servers committed, and for passwords whose time is over.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the broker's accounts are compared with the database's, beside every new connection.
const COMPARE: Duration = Duration::from_secs(600);
/// How often a server without the lead asks for it.
const LEAD_RETRY: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The broker's other work gets this many times what a command took: a device that waits for its account
/// can wait longer than one that is to be put out.
const PAUSE_AFTER_PUT: u32 = 2;
const PAUSE_AFTER_REMOVAL: u32 = 1;
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Names quoted in a log line.
const QUOTED: usize = 5;

/// What can go wrong between two attempts.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Broker(#[from] ControlError),
    #[error("the database: {0}")]
    Database(#[from] Error),
}

/// The teller.
pub struct Provisioner {
    /// The broker.
    pub mqtt: MqttSettings,
    /// Whose accounts these are.
    pub account: DynsecAccount,
    /// For the connection that holds the lead.
    pub database: DatabaseSettings,
    /// What is to be told.
    pub changes: AccountChanges,
    /// The server's counters.
    pub metrics: Metrics,
}

impl Provisioner {
    /// Tells until `stop`. Trouble with broker or database is waited out: what is not confirmed stays.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = BACKOFF_FIRST;
        let mut last_error = None;
        stop.run_until_cancelled(async {
            loop {
                let started = Instant::now();
                let pause = match self.lead().await {
                    Ok(()) => LEAD_RETRY,
                    Err(error) => {
                        if started.elapsed() > BACKOFF_MAX {
                            (backoff, last_error) = (BACKOFF_FIRST, None);
                        }
                        let text = Chain(&error).to_string();
                        if last_error.as_ref() != Some(&text) {
                            tracing::warn!(error = %text, "can't tell the broker of the devices' accounts; trying again");
                            last_error = Some(text);
                        }
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                        backoff.mul_f64(0.5 + fastrand::f64() / 2.0)
                    }
                };
                sleep(pause).await;
            }
        })
        .await;
    }

    /// Returns at once where another server has the lead, else only with an error.
    async fn lead(&self) -> Result<(), Trouble> {
        let Some(mut leader) = self.changes.lead(&self.database).await? else { return Ok(()) };
        let mut control = Control::connect(&self.mqtt, &self.account).await?;
        self.compare(&mut leader, &mut control).await?;
        let mut compare_at = Instant::now() + COMPARE;
        loop {
            let changes = leader.pending(CHANGES).await?;
            for change in &changes {
                self.tell(&mut control, change).await?;
                leader.settle(change).await?;
            }
            if changes.is_empty() {
                tokio::select! {
                    () = self.changes.woken() => {}
                    () = sleep(SWEEP) => {}
                    error = control.idle() => return Err(error.into()),
                }
            }
            if Instant::now() >= compare_at {
                self.compare(&mut leader, &mut control).await?;
                compare_at = Instant::now() + COMPARE;
            }
        }
    }

    async fn tell(&self, control: &mut Control, change: &AccountChange) -> Result<(), Trouble> {
        let name = &change.username;
        let started = Instant::now();
        let answers = match &change.kind {
            ChangeKind::Remove => control.ask(&Command::remove(name)).await?,
            ChangeKind::Put(password) => {
                let made = control.ask(&Command::create(&self.mqtt.prefix, name, password)).await?;
                if made.last().is_some_and(|answer| answer.is("Client already exists")) {
                    control.ask(&[Command::set_password(name, password)]).await?
                } else {
                    made
                }
            }
        };
        self.metrics.broker_account_changes.inc();
        for answer in answers.iter().filter(|answer| !answer.is_done()) {
            // It would be refused again: let it not stand in the others' way.
            self.metrics.broker_account_refusals.inc();
            tracing::error!(%name, answer = answer.error(), "the broker refused a change of a device's account");
        }
        let factor = match change.kind {
            ChangeKind::Put(_) => PAUSE_AFTER_PUT,
            ChangeKind::Remove => PAUSE_AFTER_REMOVAL,
        };
        sleep((started.elapsed() * factor).min(PAUSE_MAX)).await;
        Ok(())
    }

    /// Removes devices' accounts that the database does not know, and says which the broker has lost.
    async fn compare(&self, leader: &mut AccountLeader, control: &mut Control) -> Result<(), Trouble> {
        // In this order: what is committed in between is pending still.
        let there = control.clients().await?;
        let wanted = leader.wanted().await?;
        let strays: Vec<_> = there
            .iter()
            .filter(|name| MqttUser::parse(name).is_some() && !wanted.contains_key(name.as_str()))
            .collect();
        if strays.len() > wanted.len() {
            // Rather another installation's broker, or an empty database, than that many leftovers.
            let quoted = &strays[..strays.len().min(QUOTED)];
            tracing::error!(
                n = strays.len(),
                ?quoted,
                "the broker has more accounts of devices that this database does not know than of those it knows: they are left alone"
            );
        } else {
            for name in strays {
                let change = leader.stray(name);
                self.tell(control, &change).await?;
            }
        }
        let missing: Vec<_> =
            wanted.iter().filter(|(name, told)| **told && !there.contains(*name)).map(|(name, _)| name).collect();
        self.metrics.broker_accounts_missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        if !missing.is_empty() {
            let quoted = &missing[..missing.len().min(QUOTED)];
            tracing::error!(
                n = missing.len(),
                ?quoted,
                "the broker lacks accounts of devices, whose passwords nobody has any more: stop it and give it the files of `smarthome mqtt export`, or rotate their credentials"
            );
        }
        Ok(())
    }
}
