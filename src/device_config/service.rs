//! The service of configurations: pushes, rollbacks and reads, with the caller's permission.

use chrono::{DateTime, Utc};

use super::content::{self, DeviceKeys};
use super::{ConfigHub, DeviceConfig, KeyRing, NewConfig, notify, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::clock::Clock;
use crate::db::{self, MemoryBudget, Pool};
use crate::devices::{Device, DeviceAccess, audited, lock_device};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::DeviceId;
use crate::metrics::Metrics;
use crate::outbox::Wake;

/// Versions kept of each device; a push deletes older ones.
const MAX_VERSIONS: i32 = 100;

/// Configurations of devices. Cheap to clone.
#[derive(Clone)]
pub struct DeviceConfigs {
    pub(super) pool: Pool,
    clock: Clock,
    pub(super) hub: ConfigHub,
    key_ring: Option<KeyRing>,
    wake: Wake,
    pub(super) metrics: Metrics,
}

/// What makes the next version.
enum Change {
    Push(NewConfig),
    RollBack { to_version: i32 },
}

/// What [`DeviceConfigs`] works with.
pub struct DeviceConfigsDependencies {
    pub pool: Pool,
    pub clock: Clock,
    /// Receives every change.
    pub hub: ConfigHub,
    /// Without keys, pushed secrets are refused.
    pub key_ring: Option<KeyRing>,
    /// Wakes the dispatcher of configurations.
    pub wake: Wake,
    pub metrics: Metrics,
}

impl DeviceConfigs {
    pub fn new(dependencies: DeviceConfigsDependencies) -> Self {
        let DeviceConfigsDependencies { pool, clock, hub, key_ring, wake, metrics } = dependencies;
        Self { pool, clock, hub, key_ring, wake, metrics }
    }

    /// The hub that carries every committed change.
    pub fn hub(&self) -> &ConfigHub {
        &self.hub
    }

    /// Makes the next version; it supersedes unanswered ones. Needs [`Permission::PushConfig`].
    pub async fn push(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        new: NewConfig,
    ) -> Result<DeviceConfig, Error> {
        self.add(access, by, device, Change::Push(new)).await
    }

    /// Makes a new version with the content of an old one, secrets included. Needs [`Permission::PushConfig`].
    pub async fn rollback(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        to_version: i32,
    ) -> Result<DeviceConfig, Error> {
        self.add(access, by, device, Change::RollBack { to_version }).await
    }

    async fn add(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        change: Change,
    ) -> Result<DeviceConfig, Error> {
        let access = access.require(Permission::PushConfig)?;
        let new = NewVersion {
            access,
            by: by.clone(),
            device: device.id,
            audit_target: audited(device.id, &device.key),
            change,
            key_ring: self.key_ring.clone(),
            now: self.clock.now(),
        };
        let (hub, wake) = (self.hub.clone(), self.wake.clone());
        let announce = move |changed: Vec<DeviceConfig>| {
            let added = changed.last().cloned();
            notify(&hub, changed);
            wake.wake();
            added
        };
        let added = db::transaction(&self.pool, move |conn| Box::pin(new.store(conn))).after_commit(announce).await?;
        added.ok_or_else(|| Error::internal("an added version is missing"))
    }

    /// The newest version of each device that has one.
    pub async fn newest(&self, devices: &[DeviceAccess], budget: &MemoryBudget) -> Result<Vec<DeviceConfig>, Error> {
        self.history(devices, None, 1, budget).await
    }

    /// Up to `limit` versions of each device, newest first; with `before`, those below that version.
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

/// The next version of a device, before it is stored.
struct NewVersion {
    access: Access,
    by: RequestContext,
    device: DeviceId,
    audit_target: String,
    change: Change,
    key_ring: Option<KeyRing>,
    now: DateTime<Utc>,
}

impl NewVersion {
    /// Stores the version and returns the versions that changed, the new one last.
    async fn store(self, conn: &mut db::Connection) -> Result<Vec<DeviceConfig>, Error> {
        let Self { access, by, device, audit_target, change, key_ring, now } = self;
        if !lock_device(conn, access.home(), device).await? {
            return Err(Error::NotFound("device"));
        }
        let newest = store::content(conn, device, None).await?;
        let (newest_version, newest) = newest.map_or((0, None), |(version, content)| (version, Some(content)));
        let keys = DeviceKeys { device, key_ring: key_ring.as_ref() };
        let (action, to_version, (content, changed_keys)) = match change {
            Change::Push(NewConfig { config, mode, expected_version }) => {
                expect_version(expected_version, newest_version)?;
                (Action::ConfigPush, None, content::push(newest, config, mode, keys)?)
            }
            Change::RollBack { to_version } => {
                let old = store::content(conn, device, Some(to_version)).await?;
                let (_, old) = old.ok_or(Error::NotFound("version"))?;
                (Action::ConfigRollback, Some(to_version), content::roll_back(newest, old, keys)?)
            }
        };
        let version = newest_version.saturating_add(1);
        let mut changed = store::supersede(conn, device).await?;
        changed.push(store::insert(conn, access, (device, version), &content, now).await?);
        // The keys alone: a value may be the device's password.
        let details = Details::of(&device).with("version", version).with("toVersion", to_version);
        let entry = Entry::new(action, audit_target, details.with("keys", changed_keys));
        audit::record(conn, &by, access.home(), &[entry]).await?;
        store::prune(conn, device, version.saturating_sub(MAX_VERSIONS)).await?;
        Ok(changed)
    }
}

fn expect_version(expected: Option<i32>, newest: i32) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != newest => Err(Error::Conflict(format!(
            "expectedVersion is {expected}, but the newest version is {newest}: read it and push again"
        ))),
        _ => Ok(()),
    }
}
