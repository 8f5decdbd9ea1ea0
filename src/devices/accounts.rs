//! The devices' accounts at a broker that stores accounts itself. Their changes are committed together with the
//! passwords and wait in the table `mqtt_clients` until the broker has confirmed them.
//!
//! A row exists from the registration until the broker has confirmed the account's removal. A foreign key marks the
//! row for removal when its password is deleted, however that happens. The row holds the encrypted password until the
//! broker has confirmed it; after that only digests are stored, as for every password.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::accounts_store::{self as store, LastHomes, Pending};
use super::credentials::{MqttUser, broker_hash, former_client_id, new_password, password_digest};
use super::credentials_store::{self, NewCredential};
use super::password_box::PasswordBox;
use crate::clock::Clock;
use crate::db::{self, Connection};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::settings::{DatabaseSettings, Provisioning, Secret};

/// A new password and the digests that are stored of it.
pub(super) struct GeneratedPassword {
    pub(super) password: Secret,
    digest: Vec<u8>,
    broker_hash: String,
}

impl GeneratedPassword {
    /// Runs on a blocking thread: hashing a thousand passwords takes a tenth of a second.
    pub(super) async fn generate(n: usize) -> Result<Vec<Self>, Error> {
        let one = || {
            let password = new_password();
            let (digest, broker_hash) = (password_digest(password.reveal()), broker_hash(password.reveal()));
            Self { password, digest, broker_hash }
        };
        let all = move || std::iter::repeat_with(one).take(n).collect();
        tokio::task::spawn_blocking(all).await.map_err(Error::internal)
    }
}

/// Stores passwords and, for a broker that stores accounts itself, the changes of its accounts. Cheap to clone.
#[derive(Clone)]
pub(super) struct Accounts {
    /// `None` where the broker asks the server about each login.
    password_box: Option<Arc<PasswordBox>>,
    wake: Arc<Notify>,
}

impl Accounts {
    pub(super) fn new(provisioning: &Provisioning) -> Self {
        let password_box = match provisioning {
            Provisioning::None | Provisioning::Embedded => None,
            Provisioning::Dynsec(account) => Some(Arc::new(PasswordBox::new(&account.password))),
        };
        Self { password_box, wake: Arc::default() }
    }

    /// Whether a user name has one password, so that a second password needs a second user name.
    pub(super) fn has_one_password_per_user(&self) -> bool {
        self.password_box.is_some()
    }

    /// `None` where the broker asks the server about each login.
    pub(super) fn changes(&self, clock: Clock) -> Option<AccountChanges> {
        let Self { password_box, wake } = self.clone();
        Some(AccountChanges { password_box: password_box?, wake, clock })
    }

    /// Call after committing a change of accounts.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Stores the passwords of these users.
    pub(super) async fn insert(
        &self,
        conn: &mut Connection,
        passwords: Vec<((DeviceId, MqttUser<'_>), &GeneratedPassword)>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let rows: Vec<_> = passwords
            .iter()
            .map(|((device, user), password)| NewCredential {
                device: *device,
                slot: user.slot,
                digest: password.digest.clone(),
                broker_hash: password.broker_hash.clone(),
            })
            .collect();
        let ids: HashMap<_, _> = credentials_store::insert(conn, &rows, now).await?.into_iter().collect();
        if let Some(password_box) = &self.password_box {
            let rows: Vec<_> = passwords
                .iter()
                .filter_map(|((device, user), password)| {
                    let username = user.to_string();
                    let sealed = password_box.seal(&username, &password.password);
                    ids.get(device).map(|id| (username, *id, sealed))
                })
                .collect();
            store::put(conn, &rows, now).await?;
        }
        Ok(())
    }
}

/// A change of one account that the broker has not confirmed.
pub struct AccountChange {
    pub username: String,
    pub kind: ChangeKind,
    /// The encrypted password as it was read: a confirmation does not apply to a later password.
    sealed: Option<Vec<u8>>,
}

impl AccountChange {
    /// The key of the home, which shares the broker with others.
    fn home(&self) -> &str {
        self.username.split_once('/').map_or("", |(home, _)| home)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Create the account with the device's client id, or change its password.
    SetPassword { password: Secret, client_id: String },
    /// Delete the account and close its connections.
    Remove,
}

/// The pending changes, for the server that provisions the broker.
#[derive(Clone)]
pub struct AccountChanges {
    password_box: Arc<PasswordBox>,
    wake: Arc<Notify>,
    clock: Clock,
}

/// Held by the one server of an installation that provisions the broker, as long as its connection is open.
pub struct AccountLeader {
    conn: Connection,
    password_box: Arc<PasswordBox>,
    clock: Clock,
    last_homes: LastHomes,
}

impl AccountChanges {
    /// Returns after this server has committed a change.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Becomes the leader and adds accounts for devices that have none. `None` while another server leads.
    pub async fn try_lead(&self, database: &DatabaseSettings) -> Result<Option<AccountLeader>, Error> {
        const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
        let mut conn = db::connect(database.url.reveal(), Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        if !store::try_lock(&mut conn).await? {
            return Ok(None);
        }
        let (password_box, clock) = (self.password_box.clone(), self.clock.clone());
        let mut leader = AccountLeader { conn, password_box, clock, last_homes: LastHomes::default() };
        let now = leader.clock.now();
        store::adopt(&mut leader.conn, now).await?;
        Ok(Some(leader))
    }
}

impl AccountLeader {
    /// Deletes passwords whose grace period is over, and returns up to `limit` changes: removals first, and
    /// homes in turn.
    pub async fn pending(&mut self, limit: i64) -> Result<Vec<AccountChange>, Error> {
        let now = self.clock.now();
        store::expire(&mut self.conn, now).await?;
        let mut changes = Vec::new();
        for pending in store::pending(&mut self.conn, &self.last_homes, limit).await? {
            let Pending { username, credential_id, sealed_password: sealed, mqtt_client_id, is_removal } = pending;
            let kind = match (credential_id, &sealed) {
                (Some(_), Some(text)) if !is_removal => match self.password_box.open(&username, text) {
                    Some(password) => {
                        ChangeKind::SetPassword { password, client_id: known_client_id(mqtt_client_id, &username) }
                    }
                    None => {
                        tracing::error!(
                            username,
                            "a password for the broker was encrypted with another MQTT_DYNSEC_PASSWORD: rotate the device's credentials"
                        );
                        store::confirm_password(&mut self.conn, &username, text).await?;
                        continue;
                    }
                },
                _ => ChangeKind::Remove,
            };
            changes.push(AccountChange { username, kind, sealed });
        }
        Ok(changes)
    }

    /// The broker has confirmed the change.
    pub async fn confirm(&mut self, change: &AccountChange) -> Result<(), Error> {
        let last_home = match change.kind {
            ChangeKind::SetPassword { .. } => &mut self.last_homes.password,
            ChangeKind::Remove => &mut self.last_homes.removal,
        };
        change.home().clone_into(last_home);
        match (&change.kind, &change.sealed) {
            (ChangeKind::SetPassword { .. }, Some(sealed)) => {
                store::confirm_password(&mut self.conn, &change.username, sealed).await?;
            }
            _ => store::confirm_removal(&mut self.conn, &change.username).await?,
        }
        Ok(())
    }

    /// The removal of an account that belongs to no device.
    pub fn removal(&self, username: &str) -> AccountChange {
        AccountChange { username: username.to_owned(), kind: ChangeKind::Remove, sealed: None }
    }

    /// Every account that the broker must have, and whether it has confirmed the password.
    pub async fn expected(&mut self) -> Result<HashMap<String, bool>, Error> {
        Ok(store::expected(&mut self.conn).await?.into_iter().collect())
    }
}

/// The client id of a device's account, which for a device of an older release follows from its user name.
fn known_client_id(stored: Option<String>, username: &str) -> String {
    let of_older_release = || MqttUser::parse(username).map(|user| former_client_id(user.home, user.device));
    stored.or_else(of_older_release).unwrap_or_default()
}

/// An account for the password file of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAccount {
    pub username: String,
    /// `$7$rounds$salt$hash`; `None` for a password from before these hashes were stored.
    pub hash: Option<String>,
    pub client_id: String,
}

/// Every device's accounts by name, for the files of a broker.
pub async fn stored_accounts(pool: &db::Pool, now: DateTime<Utc>) -> Result<Vec<StoredAccount>, Error> {
    let mut conn = pool.get().await?;
    let rows = store::stored(&mut conn, now).await?;
    let account = |(username, hash, client_id): (String, _, _)| {
        let client_id = known_client_id(client_id, &username);
        StoredAccount { username, hash, client_id }
    };
    Ok(rows.into_iter().map(account).collect())
}
