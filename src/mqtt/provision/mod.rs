//! Provisions the devices' accounts at Mosquitto's Dynamic Security plugin, over a connection of its own.
//!
//! One server of an installation is the leader and does it. Each command makes the broker write its whole file in its
//! only thread (2 ms at 1,000 accounts, 8 ms at 4,000). So the commands go one by one, each followed by a pause in
//! proportion to its duration.

mod check;
mod command;
mod control;
mod roles;

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::background::{LeaderPauses, single_leader};
use crate::backoff::Backoff;
use crate::devices::{AccountChange, AccountChanges, AccountLeader, ChangeKind, MqttUser};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::settings::{DatabaseSettings, DynsecAccount, MqttSettings};
use command::{Command, List};
use control::Control;

pub use check::check;
pub use control::ControlError;
pub use roles::{
    AclType, account_roles, cleanup_role, cleanup_role_topics, home_of_role, home_role, home_role_topics, role_topics,
};

/// Changes read at once: few, because removals come first and a later removal waits for them.
const CHANGES: i64 = 20;
/// After this time changes are read again, for the same reason: a broker with many accounts needs long for each.
const CHANGES_TIME: Duration = Duration::from_secs(1);
/// How often the leader looks for changes of other servers and for expired passwords.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the broker's accounts are compared with the database's; also after every connect.
const COMPARE_INTERVAL: Duration = Duration::from_secs(600);
/// How often a server that is not the leader tries to become it.
const LEAD_RETRY: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The pause after a command, as a multiple of its duration: the broker's time for other work. A new account can wait
/// longer than a removal.
const PAUSE_AFTER_SET_PASSWORD: u32 = 2;
const PAUSE_AFTER_REMOVAL: u32 = 1;
/// Longest pause after a command.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// User names in a log line.
const LOGGED_NAMES: usize = 5;

#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error(transparent)]
    Broker(#[from] ControlError),
    #[error("the database: {0}")]
    Database(#[from] Error),
}

/// The task that provisions the broker.
pub struct Provisioner {
    pub mqtt: MqttSettings,
    /// The administrator of the plugin.
    pub account: DynsecAccount,
    /// For the connection that holds the leader's lock.
    pub database: DatabaseSettings,
    pub changes: AccountChanges,
    pub metrics: Metrics,
}

impl Provisioner {
    /// Runs until `stop`. After an error of the broker or the database it tries again: an unconfirmed change stays in
    /// the database.
    pub async fn run(self, stop: CancellationToken) {
        let pauses = LeaderPauses {
            not_leader: LEAD_RETRY,
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX),
            stable_after: BACKOFF_MAX,
        };
        single_leader("the provisioning of broker accounts", pauses, stop, || self.lead()).await;
    }

    /// Returns at once where another server is the leader, else only with an error.
    async fn lead(&self) -> Result<(), ProvisionError> {
        let Some(mut leader) = self.changes.try_lead(&self.database).await? else { return Ok(()) };
        let mut control = Control::connect(&self.mqtt, &self.account).await?;
        self.ensure_cleanup_role(&mut control).await?;
        self.compare(&mut leader, &mut control).await?;
        let mut compare_at = Instant::now() + COMPARE_INTERVAL;
        loop {
            let changes = leader.pending(CHANGES).await?;
            let started = Instant::now();
            for change in &changes {
                self.apply(&mut control, change).await?;
                leader.confirm(change).await?;
                if started.elapsed() > CHANGES_TIME {
                    break;
                }
            }
            if changes.is_empty() {
                tokio::select! {
                    () = self.changes.woken() => {}
                    () = sleep(POLL_INTERVAL) => {}
                    error = control.idle() => return Err(error.into()),
                }
            }
            if Instant::now() >= compare_at {
                self.compare(&mut leader, &mut control).await?;
                compare_at = Instant::now() + COMPARE_INTERVAL;
            }
        }
    }

    /// Gives the administrator's account the role of cleanups, which accounts of older releases lack. The plugin then
    /// closes this connection.
    async fn ensure_cleanup_role(&self, control: &mut Control) -> Result<(), ProvisionError> {
        let (prefix, admin) = (&self.mqtt.prefix, &self.account.username);
        let answers = control.request(&[Command::get(admin)]).await?;
        if !answers.iter().any(|answer| answer.has_role(&cleanup_role(prefix))) {
            tracing::info!(%admin, "the administrator of Dynamic Security gets the role to clean up after deleted devices");
            control.request(&Command::give_cleanup_role(prefix, admin)).await?;
        }
        Ok(())
    }

    async fn apply(&self, control: &mut Control, change: &AccountChange) -> Result<(), ProvisionError> {
        let name = &change.username;
        let started = Instant::now();
        let answers = match &change.kind {
            ChangeKind::Remove => control.request(&Command::remove(name)).await?,
            ChangeKind::SetPassword { password, client_id } => {
                let Some(user) = MqttUser::parse(name) else { return Ok(()) };
                let create = Command::create(&self.mqtt.prefix, user, client_id, password);
                let created = control.request(&create).await?;
                if created.last().is_some_and(|answer| answer.is("Client already exists")) {
                    control.request(&[Command::set_password(user, client_id, password)]).await?
                } else {
                    created
                }
            }
        };
        self.metrics.broker_account_changes.inc();
        for answer in answers.iter().filter(|answer| !answer.is_done()) {
            // The broker would refuse it again, so the change is confirmed and does not block later ones.
            self.metrics.broker_account_refusals.inc();
            tracing::error!(%name, answer = answer.error(), "the broker refused a change of a device's account");
        }
        let factor = match change.kind {
            ChangeKind::SetPassword { .. } => PAUSE_AFTER_SET_PASSWORD,
            ChangeKind::Remove => PAUSE_AFTER_REMOVAL,
        };
        sleep((started.elapsed() * factor).min(PAUSE_MAX)).await;
        Ok(())
    }

    /// Removes accounts that belong to no device, and logs those that the broker has lost.
    async fn compare(&self, leader: &mut AccountLeader, control: &mut Control) -> Result<(), ProvisionError> {
        // In this order: a change that is committed in between is still pending.
        let present = control.names(List::Clients).await?;
        let roles = control.names(List::Roles).await?;
        let expected = leader.expected().await?;
        let unknown: Vec<_> = present
            .iter()
            .filter(|name| MqttUser::parse(name).is_some() && !expected.contains_key(name.as_str()))
            .collect();
        if unknown.len() > expected.len() {
            // So many left-over accounts are unlikely: probably the broker of another installation, or an empty database.
            let names = &unknown[..unknown.len().min(LOGGED_NAMES)];
            tracing::error!(
                n = unknown.len(),
                ?names,
                "the broker has more accounts of unknown devices than of known ones: not removing them"
            );
        } else {
            for name in unknown {
                let change = leader.removal(name);
                self.apply(control, &change).await?;
            }
            self.remove_unused_roles(control, &roles, expected.keys()).await?;
        }
        let missing: Vec<_> = expected
            .iter()
            .filter(|(name, confirmed)| **confirmed && !present.contains(*name))
            .map(|(name, _)| name)
            .collect();
        self.metrics.broker_accounts_missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        if !missing.is_empty() {
            let names = &missing[..missing.len().min(LOGGED_NAMES)];
            tracing::error!(
                n = missing.len(),
                ?names,
                "the broker has lost accounts of devices, and the server stores no passwords: stop the broker and give it the files of `smarthome mqtt export`, or rotate these devices' credentials"
            );
        }
        Ok(())
    }

    /// Removes the roles of homes that have no accounts.
    async fn remove_unused_roles(
        &self,
        control: &mut Control,
        roles: &HashSet<String>,
        accounts: impl Iterator<Item = &String>,
    ) -> Result<(), ProvisionError> {
        let homes: HashSet<_> = accounts.filter_map(|name| MqttUser::parse(name)).map(|user| user.home).collect();
        let is_unused = |name: &&String| home_of_role(name).is_some_and(|home| !homes.contains(home));
        for name in roles.iter().filter(is_unused) {
            let started = Instant::now();
            control.request(&[Command::remove_role(name)]).await?;
            sleep((started.elapsed() * PAUSE_AFTER_REMOVAL).min(PAUSE_MAX)).await;
        }
        Ok(())
    }
}
