//! Versions on their way to devices. Only the newest of a device goes; the broker keeps it for a device
//! that is away, and what it keeps, under which topic, is noted before anything leaves.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel::QueryResult;
use serde_json::json;

use super::key_ring::KeyRing;
use super::outbox_store::{self as store, Candidate};
use super::session_loss_store;
use super::{ConfigHub, ConfigStatus, answers_store, content, publish};
use crate::db;
use crate::downlink::{Channel, Delivery, DeliveryOutcome, Message, Outgoing};
use crate::ids::DeviceId;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Unconfirmed};

/// Devices remembered as those whose newest version has secrets that do not open; of more, each is tried
/// again every time.
const MAX_UNREADABLE: usize = 10_000;

/// A broker that crashed comes back as it was when it last saved: what it confirmed within this time
/// before may be gone. Mosquitto saves every half an hour unless told otherwise.
const BROKER_SAVES_WITHIN: TimeDelta = TimeDelta::hours(1);

/// What a message was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKey {
    /// A version of a device's configuration.
    Version {
        /// Whose.
        device: DeviceId,
        /// Which.
        version: i32,
        /// How often the broker had lost what it kept: an older confirmation is worth nothing.
        session_losses: u64,
    },
    /// A topic whose kept message is taken away, by its row.
    Clearing(i64),
}

/// Configurations that are to be sent.
pub struct ConfigOutbox {
    hub: ConfigHub,
    keys: Option<KeyRing>,
    metrics: Metrics,
    session_losses: u64,
    /// Newest versions that can't be sent with the keys of this server.
    unreadable: HashMap<DeviceId, i32>,
    /// Versions that may have become SENT without being published.
    unconfirmed: Unconfirmed<HashSet<(DeviceId, i32)>>,
}

impl ConfigOutbox {
    /// `hub` hears of every change; `keys` open the secrets.
    pub fn new(hub: ConfigHub, keys: Option<KeyRing>, metrics: Metrics) -> Self {
        Self { hub, keys, metrics, session_losses: 0, unreadable: HashMap::new(), unconfirmed: Unconfirmed::default() }
    }

    /// Publishes versions whose statement got no answer: a subscriber may see a state twice, but misses none.
    /// A version that is still PENDING stays unconfirmed, since the commit may yet come.
    async fn republish_unconfirmed(&mut self, conn: &mut db::Connection) -> QueryResult<()> {
        let versions: Vec<_> = self.unconfirmed.noted().iter().copied().collect();
        if versions.is_empty() {
            return Ok(());
        }
        let found = answers_store::find(conn, &versions).await?;
        let (pending, changed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|config| config.status == ConfigStatus::Pending);
        self.unconfirmed.replace(pending.into_iter().map(|config| (config.device, config.version)).collect());
        publish(&self.hub, changed);
        Ok(())
    }

    fn unreadable(&self) -> Vec<(DeviceId, i32)> {
        self.unreadable.iter().map(|(device, version)| (*device, *version)).collect()
    }

    /// The message, unless its secrets don't open: then the version waits for a newer one, or for a server
    /// that has the key.
    fn message(&mut self, candidate: Candidate) -> Option<Outgoing<ConfigKey>> {
        let Candidate { device, version, config, secrets, created_at, home_segment, device_segment } = candidate;
        let Ok(config) = content::whole(config, secrets.as_deref(), device, self.keys.as_ref()) else {
            let has_room = self.unreadable.len() < MAX_UNREADABLE || self.unreadable.contains_key(&device);
            if has_room && self.unreadable.insert(device, version) != Some(version) {
                self.metrics.configs_unreadable.inc();
                tracing::error!(
                    %device,
                    version,
                    "a configuration can't be sent: its secrets were sealed with a key that is not set; set it as \
                     ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS, or push the secrets anew"
                );
            }
            return None;
        };
        let timestamp = created_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let payload = json!({"timestamp": timestamp, "config": config, "version": version}).to_string().into_bytes();
        let key = ConfigKey::Version { device, version, session_losses: self.session_losses };
        let (home, name) = (home_segment, device_segment);
        let message = Message { home, device: name, channel: Channel::Config, payload, expires_at: None };
        Some(Outgoing { key, device, message })
    }
}

impl Outbox for ConfigOutbox {
    type Key = ConfigKey;
    const LOCK: i32 = db::locks::CONFIG_OUTBOX;
    const NAME: &'static str = "config";

    async fn on_reconnected(&mut self, conn: &mut db::Connection, now: DateTime<Utc>) -> QueryResult<()> {
        session_loss_store::doubt(conn, now - BROKER_SAVES_WITHIN).await
    }

    async fn tick(&mut self, conn: &mut db::Connection, _now: DateTime<Utc>) -> QueryResult<Option<DateTime<Utc>>> {
        self.republish_unconfirmed(conn).await?;
        // A configuration stays right until there is a newer one.
        Ok(None)
    }

    async fn requeue_undelivered(&mut self, _conn: &mut db::Connection, _now: DateTime<Utc>) -> QueryResult<()> {
        // The broker retains a configuration that has no subscriber yet.
        Ok(())
    }

    async fn find_due(
        &self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> QueryResult<Vec<DeviceId>> {
        // Who speaks by other names is noted with the word that shows it, and so among the others.
        store::due(conn, busy, &self.unreadable(), limit).await
    }

    async fn claim(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> QueryResult<Vec<Outgoing<ConfigKey>>> {
        let mut outgoing = store::take_versions(conn, devices, |candidate| self.message(candidate)).await?;
        let has_version = |device: &DeviceId| outgoing.iter().any(|message| message.device == *device);
        let rest: Vec<_> = devices.iter().copied().filter(|device| !has_version(device)).collect();
        let clearings = store::take_clearings(conn, &rest).await?;
        outgoing.extend(clearings.into_iter().map(|clearing| Outgoing {
            key: ConfigKey::Clearing(clearing.id),
            device: clearing.device,
            message: Message {
                home: clearing.home_segment,
                device: clearing.device_segment,
                channel: Channel::Config,
                payload: Vec::new(),
                expires_at: None,
            },
        }));
        Ok(outgoing)
    }

    async fn record_outcomes(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        deliveries: &[(ConfigKey, Delivery)],
    ) -> QueryResult<()> {
        let (mut versions, mut clearings) = (Vec::new(), Vec::new());
        // Whatever was not confirmed stays as it is, and goes again.
        for (key, _) in deliveries.iter().filter(|(_, delivery)| delivery.outcome == DeliveryOutcome::Confirmed) {
            match key {
                ConfigKey::Version { device, version, session_losses: then } => {
                    versions.push((*device, *version, *then == self.session_losses));
                }
                ConfigKey::Clearing(id) => clearings.push(*id),
            }
        }
        let changing = versions.iter().map(|(device, version, _)| (*device, *version));
        let statement = store::settle(conn, now, &versions, &clearings);
        let sent = self.unconfirmed.run(|noted| noted.extend(changing), statement).await?;
        publish(&self.hub, sent);
        Ok(())
    }

    async fn on_broker_session_lost(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        _before: DateTime<Utc>,
    ) -> QueryResult<()> {
        self.session_losses += 1;
        session_loss_store::lose_all(conn).await
    }
}
