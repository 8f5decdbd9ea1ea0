//! Configurations of devices: every push is a version, the newest is what the device is to have, and a
//! version's status says what was seen of it and no more. Secrets go in and are never read again.

mod answers_store;
mod content;
mod cursor;
mod feed;
mod key_ring;
mod outbox;
mod outbox_store;
mod schema;
mod secrets;
mod session_loss_store;
mod store;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use answers_store::{find as find_for_ingest, record as record_answers};
pub use key_ring::KeyRing;
pub use outbox::{ConfigKey, ConfigOutbox};

use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::clock::Clock;
use crate::db::{self, JsonText, MemoryBudget, MemorySize, Pool};
use crate::devices::{Device, DeviceAccess, audited, lock_device};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::hub::Hub;
use crate::ids::{DeviceId, HomeId, UserId};
use crate::metrics::Metrics;
use crate::outbox::Wake;
use content::Content;

/// Versions kept of a device; a push deletes older ones.
const MAX_VERSIONS: i32 = 100;

/// One version of a device's configuration. Holds no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceConfig {
    /// Whose.
    pub device: DeviceId,
    /// Its home.
    pub home: HomeId,
    /// From 1, one more with every push.
    pub version: i32,
    /// The public part: where a secret belongs stands a fixed text.
    pub config: JsonText,
    /// What was seen of it.
    pub status: ConfigStatus,
    /// Why the device refused it, by key.
    pub errors: Option<JsonText>,
    /// Who pushed it; the account may be gone.
    pub created_by: Option<UserId>,
    /// When it was pushed.
    pub created_at: DateTime<Utc>,
    /// When the broker had it for certain.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device said that it has applied it.
    pub applied_at: Option<DateTime<Utc>>,
    /// Its last change, by the database's clock.
    pub updated_at: DateTime<Utc>,
}

impl MemorySize for DeviceConfig {
    fn text_bytes(&self) -> usize {
        self.config.text_bytes() + self.errors.as_ref().map_or(0, JsonText::text_bytes)
    }
}

/// What was seen of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigStatus {
    /// Stored; the broker does not have it for certain.
    Pending,
    /// The broker has it and keeps it for the device.
    Sent,
    /// The device said that it has applied it.
    Applied,
    /// The device said that it won't.
    Rejected,
    /// A newer version came before the device answered.
    Superseded,
}

/// The text is no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a status of a configuration")]
pub struct ConfigStatusError;

/// How what is pushed relates to the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigMode {
    /// A merge patch (RFC 7396): null deletes, what is absent stays.
    Merge,
    /// The whole.
    Replace,
}

/// What somebody pushes. May hold secrets, and so has no `Debug`.
pub struct NewConfig {
    /// An object: a patch or the whole.
    pub config: Value,
    /// Which of the two.
    pub mode: ConfigMode,
    /// The newest version the caller knows, 0 for none: another one is a conflict.
    pub expected_version: Option<i32>,
}

/// What a device said to a version.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigAnswer {
    /// Who.
    pub device: DeviceId,
    /// To which version.
    pub version: i32,
    /// What.
    pub verdict: ConfigVerdict,
    /// When it was received.
    pub at: DateTime<Utc>,
}

/// Whether the device took it.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigVerdict {
    /// It did.
    Applied,
    /// It did not.
    Rejected {
        /// Why, by key.
        errors: Option<Value>,
    },
}

/// Committed versions and changes of them, live by home.
pub type ConfigHub = Hub<DeviceConfig>;

/// Hands committed changes to whoever follows the homes.
pub fn publish(hub: &ConfigHub, configs: impl IntoIterator<Item = DeviceConfig>) {
    for config in configs {
        hub.publish(config.home, Arc::new(config));
    }
}

/// Configurations of devices. Cheap to clone.
#[derive(Clone)]
pub struct DeviceConfigs {
    pool: Pool,
    clock: Clock,
    hub: ConfigHub,
    keys: Option<KeyRing>,
    wake: Wake,
    metrics: Metrics,
}

impl ConfigStatus {
    const ALL: [Self; 5] = [Self::Pending, Self::Sent, Self::Applied, Self::Rejected, Self::Superseded];

    /// As the database and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Applied => "APPLIED",
            Self::Rejected => "REJECTED",
            Self::Superseded => "SUPERSEDED",
        }
    }
}

impl FromStr for ConfigStatus {
    type Err = ConfigStatusError;

    fn from_str(text: &str) -> Result<Self, ConfigStatusError> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(ConfigStatusError)
    }
}

impl DeviceConfigs {
    /// The service over its pool. `hub` hears of every change, `wake` of every new version; without `keys`
    /// no secret is taken.
    pub fn new(pool: Pool, clock: Clock, hub: ConfigHub, keys: Option<KeyRing>, wake: Wake, metrics: Metrics) -> Self {
        Self { pool, clock, hub, keys, wake, metrics }
    }

    /// The hub that carries every committed change.
    pub fn hub(&self) -> &ConfigHub {
        &self.hub
    }

    /// Makes the next version; versions that nobody answered are superseded by it. Needs
    /// [`Permission::PushConfig`].
    pub async fn push(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        new: NewConfig,
    ) -> Result<DeviceConfig, Error> {
        let (id, keys) = (device.id, self.keys.clone());
        let NewConfig { config, mode, expected_version } = new;
        let add = self.add(access, by, device, None, move |newest, _| {
            let newest_version = newest.as_ref().map_or(0, |(version, _)| *version);
            if expected_version.is_some_and(|expected| expected != newest_version) {
                let expected = expected_version.unwrap_or_default();
                return Err(Error::Conflict(format!(
                    "expectedVersion is {expected}, but the newest version is {newest_version}: read it and push again"
                )));
            }
            content::next(newest.as_ref().map(|(_, content)| content), config, mode, id, keys.as_ref())
        });
        add.await
    }

    /// Makes a new version with the content of an old one, secrets included. Needs
    /// [`Permission::PushConfig`].
    pub async fn rollback(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        to_version: i32,
    ) -> Result<DeviceConfig, Error> {
        let (id, keys) = (device.id, self.keys.clone());
        let add = self.add(access, by, device, Some(to_version), move |newest, wanted| {
            let wanted = wanted.ok_or(Error::NotFound("version"))?;
            let whole = |of: &Content| content::whole(of.public.clone(), of.secrets.as_deref(), id, keys.as_ref());
            let Ok(next) = whole(&wanted) else {
                let message = "the secrets of that version were sealed with a key that is not set: push them anew, \
                               or have the operator set that key as ENCRYPTION_KEY_PREVIOUS";
                return Err(Error::bad_input("toVersion", message));
            };
            // Where the newest can't be opened its public part is compared: which secrets differ is unknown.
            let newest = newest.map(|(_, newest)| whole(&newest).unwrap_or(newest.public));
            Ok((wanted, content::changed(newest.as_ref(), &next)))
        });
        add.await
    }

    /// Adds the version that `make` makes of the newest one and the one that was asked for; `make` also
    /// tells which of the topmost keys it changes.
    async fn add(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        wanted: Option<i32>,
        make: impl FnOnce(Option<(i32, Content)>, Option<Content>) -> Result<(Content, BTreeSet<String>), Error>
        + Send
        + Sync
        + 'static,
    ) -> Result<DeviceConfig, Error> {
        let access = access.require(Permission::PushConfig)?;
        let (device, name, by) = (device.id, audited(device.id, &device.key), by.clone());
        let to_version = wanted;
        let (hub, wake, now) = (self.hub.clone(), self.wake.clone(), self.clock.now());
        let pool = self.pool.clone();
        // To the end with the news too: a caller that goes must not take them along.
        db::run_to_completion(async move {
            let changed = db::transaction(&pool, move |conn| {
                Box::pin(async move {
                    if !lock_device(conn, access.home(), device).await? {
                        return Err(Error::NotFound("device"));
                    }
                    let newest = store::content(conn, device, None).await?;
                    let version = newest.as_ref().map_or(0, |(version, _)| *version).saturating_add(1);
                    let wanted = match wanted {
                        Some(version) => store::content(conn, device, Some(version)).await?.map(|(_, content)| content),
                        None => None,
                    };
                    let (content, keys) = make(newest, wanted)?;
                    let mut changed = store::supersede(conn, device).await?;
                    changed.push(store::insert(conn, access, device, version, &content, now).await?);
                    let action = to_version.map_or(Action::ConfigPush, |_| Action::ConfigRollback);
                    // The keys alone: a value may be what its device is locked with.
                    let details = Details::of(&device).with("version", version).with("toVersion", to_version);
                    let entry = Entry::new(action, name, details.with("keys", keys));
                    audit::record(conn, &by, access.home(), &[entry]).await?;
                    store::prune(conn, device, version.saturating_sub(MAX_VERSIONS)).await?;
                    Ok(changed)
                })
            })
            .await?;
            let added = changed.last().cloned().ok_or_else(|| Error::internal("a version that was added is missing"));
            publish(&hub, changed);
            wake.wake();
            added
        })
        .await
    }

    /// The newest version of each device that has one.
    pub async fn newest(&self, devices: &[DeviceAccess], budget: &MemoryBudget) -> Result<Vec<DeviceConfig>, Error> {
        self.history(devices, None, 1, budget).await
    }

    /// Up to `limit` versions of each device, newest first, those before a version if one is given.
    pub async fn history(
        &self,
        devices: &[DeviceAccess],
        before: Option<i32>,
        limit: i64,
        budget: &MemoryBudget,
    ) -> Result<Vec<DeviceConfig>, Error> {
        let ids: Vec<DeviceId> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        store::history(&mut conn, &ids, before, limit, budget).await
    }
}
