//! The devices' accounts at a broker that keeps accounts itself: what it is to know, committed with the
//! passwords themselves, and what it has not been told yet.
//!
//! A row lives from the registration to the moment the broker has confirmed its removal, and takes note
//! by itself when its password goes, whichever way it goes. A password stands in it, sealed, until the
//! broker has it; afterwards only digests are left, as everywhere.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::credentials::{MqttUser, broker_hash, new_password, password_digest};
use super::credentials_store::{self, NewCredential};
use super::password_box::PasswordBox;
use super::{Devices, accounts_store as store};
use crate::clock::Clock;
use crate::db::{self, Connection};
use crate::error::Error;
use crate::ids::DeviceId;
use crate::settings::{DatabaseSettings, Provisioning, Secret};

/// A password that was just made, and what is kept of it.
pub(super) struct Fresh {
    pub(super) password: Secret,
    digest: Vec<u8>,
    broker_hash: String,
}

impl Fresh {
    /// A thousand of them are a tenth of a second of hashing: not on the async threads.
    pub(super) async fn make(n: usize) -> Result<Vec<Self>, Error> {
        let one = || {
            let password = new_password();
            let (digest, broker_hash) = (password_digest(password.reveal()), broker_hash(password.reveal()));
            Self { password, digest, broker_hash }
        };
        let make = move || std::iter::repeat_with(one).take(n).collect();
        tokio::task::spawn_blocking(make).await.map_err(Error::internal)
    }
}

/// Keeps passwords and, where the broker must be told, what it must be told. Cheap to clone.
#[derive(Clone)]
pub(super) struct Accounts {
    /// None where the broker asks instead of being told.
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

    /// Whether two passwords of a device need two user names.
    pub(super) fn is_one_password_a_name(&self) -> bool {
        self.password_box.is_some()
    }

    /// Something that the broker must be told has been committed.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Keeps fresh passwords of these devices, each under this name.
    pub(super) async fn insert(
        &self,
        conn: &mut Connection,
        fresh: Vec<((DeviceId, MqttUser<'_>), &Fresh)>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let rows: Vec<_> = fresh
            .iter()
            .map(|((device, user), fresh)| NewCredential {
                device: *device,
                slot: user.slot,
                digest: fresh.digest.clone(),
                broker_hash: fresh.broker_hash.clone(),
            })
            .collect();
        let ids: HashMap<_, _> = credentials_store::insert(conn, &rows, now).await?.into_iter().collect();
        if let Some(password_box) = &self.password_box {
            let rows: Vec<_> = fresh
                .iter()
                .filter_map(|((device, user), fresh)| {
                    let username = user.to_string();
                    let sealed = password_box.seal(&username, &fresh.password);
                    ids.get(device).map(|id| (username, *id, sealed))
                })
                .collect();
            store::put(conn, &rows, now).await?;
        }
        Ok(())
    }
}

/// What the broker is to be told about one account.
pub struct AccountChange {
    /// The account's name.
    pub username: String,
    /// What to do with it.
    pub kind: ChangeKind,
    /// As it was read: a row that has changed since is not settled.
    sealed: Option<Vec<u8>>,
}

/// What to do with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Make it, or give it this password.
    Put(Secret),
    /// Take it away and cut its connections.
    Remove,
}

/// Where a server that tells the broker begins.
#[derive(Clone)]
pub struct AccountChanges {
    password_box: Arc<PasswordBox>,
    wake: Arc<Notify>,
    clock: Clock,
}

/// The one server of the installation that tells the broker, for as long as its connection is open.
pub struct AccountLeader {
    conn: Connection,
    password_box: Arc<PasswordBox>,
    clock: Clock,
}

impl Devices {
    /// The accounts a broker must be told of; none where it asks.
    pub fn account_changes(&self) -> Option<AccountChanges> {
        let Accounts { password_box, wake } = self.accounts.clone();
        Some(AccountChanges { password_box: password_box?, wake, clock: self.clock.clone() })
    }
}

impl AccountChanges {
    /// Returns after this server has committed a change.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The lead; `None` while another server has it. It knows of every device from then on.
    pub async fn lead(&self, database: &DatabaseSettings) -> Result<Option<AccountLeader>, Error> {
        const STATEMENT: std::time::Duration = std::time::Duration::from_secs(10);
        let mut conn = db::connect(database.url.reveal(), Some(STATEMENT)).await.map_err(Error::unavailable)?;
        if !store::lease(&mut conn).await? {
            return Ok(None);
        }
        let mut leader = AccountLeader { conn, password_box: self.password_box.clone(), clock: self.clock.clone() };
        let now = leader.clock.now();
        store::adopt(&mut leader.conn, now).await?;
        Ok(Some(leader))
    }
}

impl AccountLeader {
    /// Ends passwords whose grace period is over, and returns up to `limit` changes, removals first.
    pub async fn pending(&mut self, limit: i64) -> Result<Vec<AccountChange>, Error> {
        let now = self.clock.now();
        store::expire(&mut self.conn, now).await?;
        let mut changes = Vec::new();
        for (username, credential, sealed) in store::pending(&mut self.conn, limit).await? {
            let kind = match (credential, &sealed) {
                (Some(_), Some(text)) => match self.password_box.open(&username, text) {
                    Some(password) => ChangeKind::Put(password),
                    None => {
                        tracing::error!(
                            username,
                            "a password on its way to the broker was sealed under another MQTT_DYNSEC_PASSWORD: rotate the device's credentials"
                        );
                        store::settle_put(&mut self.conn, &username, text).await?;
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
    pub async fn settle(&mut self, change: &AccountChange) -> Result<(), Error> {
        match (&change.kind, &change.sealed) {
            (ChangeKind::Put(_), Some(sealed)) => store::settle_put(&mut self.conn, &change.username, sealed).await?,
            _ => store::settle_removal(&mut self.conn, &change.username).await?,
        }
        Ok(())
    }

    /// The removal of an account that no device has.
    pub fn stray(&self, username: &str) -> AccountChange {
        AccountChange { username: username.to_owned(), kind: ChangeKind::Remove, sealed: None }
    }

    /// Every account the broker is to have, with whether it was told.
    pub async fn wanted(&mut self) -> Result<HashMap<String, bool>, Error> {
        Ok(store::wanted(&mut self.conn).await?.into_iter().collect())
    }
}

/// An account with what a broker's file needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAccount {
    /// Its name.
    pub username: String,
    /// `$7$rounds$salt$hash`; none for a password that was given out before it was kept.
    pub hash: Option<String>,
}

/// Every device's accounts, by name, for the files of a broker.
pub async fn stored_accounts(pool: &db::Pool, now: DateTime<Utc>) -> Result<Vec<StoredAccount>, Error> {
    let mut conn = pool.get().await?;
    let rows = store::stored(&mut conn, now).await?;
    Ok(rows.into_iter().map(|(username, hash)| StoredAccount { username, hash }).collect())
}
