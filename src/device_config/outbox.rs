//! Configurations on their way to devices. Only the newest version of a device is sent, or the last that it applied if it
//! rejected the newest. The broker retains it for a device that is away; what it retains, and under which topic, is
//! recorded before a message leaves.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel::QueryResult;
use serde_json::json;

use super::content::{self, DeviceKeys};
use super::key_ring::KeyRing;
use super::outbox_store::{self as store, Clearing, ConfirmedVersions, UnsentVersion};
use super::republish_store::{Republishing, repeat_recent_clearings};
use super::{ConfigHub, ConfigStatus, answers_store, notify};
use crate::db;
use crate::downlink::{DownlinkKind, Message, OutboxMessage, PublishOutcome, PublishReport};
use crate::ids::{DeviceId, HomeId};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Recovery, Unanswered, last_turn};

/// Devices whose newest version does not open and is therefore skipped. Beyond this number a version is tried again
/// every time.
const MAX_UNREADABLE: usize = 10_000;

/// A broker that crashed restarts from its last snapshot: it may have lost what it confirmed within this time.
/// Mosquitto saves every half an hour by default (`autosave_interval`).
const BROKER_SAVES_WITHIN: TimeDelta = TimeDelta::hours(1);

/// The work that a message does, and the row that it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKey {
    /// Publishes a version: a new one, or one that the broker lost.
    Version {
        device: DeviceId,
        version: i32,
        /// Sessions that the broker had lost when the message was made. It retains nothing that it confirmed before
        /// the last loss.
        session_losses: u64,
    },
    /// Clears the message that the broker retains under a topic, by the row of `retained_clearings`.
    Clearing(i64),
}

/// Versions to send and topics to clear.
pub struct ConfigOutbox {
    hub: ConfigHub,
    key_ring: Option<KeyRing>,
    metrics: Metrics,
    session_losses: u64,
    /// The recovery from a lost session, by the time of the loss.
    lost_session: Option<Republishing<DateTime<Utc>>>,
    /// The recovery after a reconnect, by the epoch of the connection.
    reconnected: Option<Republishing<u64>>,
    /// The home that had the last turn.
    last_home: HomeId,
    /// Newest versions that this server's keys do not open.
    unreadable: HashMap<DeviceId, i32>,
    /// Versions that may have become SENT without a notice to subscribers.
    unanswered: Unanswered<HashSet<(DeviceId, i32)>>,
}

impl ConfigOutbox {
    /// `hub` gets every change; `key_ring` opens the secrets.
    pub fn new(hub: ConfigHub, key_ring: Option<KeyRing>, metrics: Metrics) -> Self {
        Self {
            hub,
            key_ring,
            metrics,
            session_losses: 0,
            lost_session: None,
            reconnected: None,
            last_home: HomeId::from_database(0),
            unreadable: HashMap::new(),
            unanswered: Unanswered::default(),
        }
    }

    /// Notifies of versions whose statement got no answer: a subscriber may see a state twice, but misses none.
    /// A version that is still PENDING stays noted, since the commit may yet come.
    async fn renotify_unanswered(&mut self, conn: &mut db::Connection) -> QueryResult<()> {
        let versions: Vec<_> = self.unanswered.noted().iter().copied().collect();
        if versions.is_empty() {
            return Ok(());
        }
        let found = answers_store::find(conn, &versions).await?;
        let (pending, changed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|config| config.status == ConfigStatus::Pending);
        self.unanswered.replace(pending.into_iter().map(|config| (config.device, config.version)).collect());
        notify(&self.hub, changed);
        Ok(())
    }

    /// `None` if the secrets do not open: the version waits for a newer one, or for a server that has the key.
    fn make_message(&mut self, unsent: UnsentVersion) -> Option<OutboxMessage<ConfigKey>> {
        let UnsentVersion { device, version, config, secrets, created_at, home_segment, device_segment } = unsent;
        let keys = DeviceKeys { device, key_ring: self.key_ring.as_ref() };
        let Ok(config) = content::with_secrets(config, secrets.as_deref(), keys) else {
            self.skip_unreadable(device, version);
            return None;
        };
        let timestamp = created_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let payload = json!({"timestamp": timestamp, "config": config, "version": version}).to_string().into_bytes();
        let key = ConfigKey::Version { device, version, session_losses: self.session_losses };
        Some(OutboxMessage { key, device, message: message(home_segment, device_segment, payload) })
    }

    fn skip_unreadable(&mut self, device: DeviceId, version: i32) {
        let has_room = self.unreadable.len() < MAX_UNREADABLE || self.unreadable.contains_key(&device);
        if has_room && self.unreadable.insert(device, version) != Some(version) {
            self.metrics.configs_unreadable.inc();
            tracing::error!(
                %device,
                version,
                "a configuration can't be sent: its secrets were sealed with a key that is not set; set it as \
                 ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS, or push the secrets again"
            );
        }
    }
}

fn message(home: String, device: String, payload: Vec<u8>) -> Message {
    Message { home, device, kind: DownlinkKind::Config, payload, expires_at: None }
}

/// An empty retained message deletes the one that the broker keeps (MQTT 5, section 3.3.1.3).
fn clearing_message(clearing: Clearing) -> OutboxMessage<ConfigKey> {
    let Clearing { id, device, home_segment, device_segment } = clearing;
    OutboxMessage { key: ConfigKey::Clearing(id), device, message: message(home_segment, device_segment, Vec::new()) }
}

impl Outbox for ConfigOutbox {
    type Key = ConfigKey;

    const LOCK: i32 = db::locks::CONFIG_OUTBOX;
    const NAME: &'static str = "config";

    async fn on_reconnected(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        link_epoch: u64,
    ) -> QueryResult<Recovery> {
        if self.reconnected.as_ref().is_none_or(|republishing| republishing.cause != link_epoch) {
            let since = now - BROKER_SAVES_WITHIN;
            repeat_recent_clearings(conn, since).await?;
            self.reconnected = Some(Republishing::new(link_epoch, Some(since)));
        }
        step(&mut self.reconnected, conn).await
    }

    async fn handle_deadlines(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
    ) -> QueryResult<Option<DateTime<Utc>>> {
        self.renotify_unanswered(conn).await?;
        // A configuration has no deadline: it is desired until there is a newer one.
        Ok(None)
    }

    async fn requeue(&mut self, _conn: &mut db::Connection, _now: DateTime<Utc>) -> QueryResult<()> {
        // The broker retains a configuration that has no subscriber yet.
        Ok(())
    }

    async fn find_due(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        busy: &[DeviceId],
        limit: i64,
    ) -> QueryResult<Vec<DeviceId>> {
        let unreadable = self.unreadable.iter().map(|(device, version)| (*device, *version));
        let due = store::find_due(conn, self.last_home, busy, unreadable, limit).await?;
        self.last_home = last_turn(due.iter().filter_map(|(_, home)| *home), self.last_home);
        Ok(due.into_iter().map(|(device, _)| device).collect())
    }

    async fn claim(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        devices: &[DeviceId],
    ) -> QueryResult<Vec<OutboxMessage<ConfigKey>>> {
        let mut outgoing = store::claim_versions(conn, devices, |unsent| self.make_message(unsent)).await?;
        let has_version = |device: &DeviceId| outgoing.iter().any(|message| message.device == *device);
        let rest: Vec<_> = devices.iter().copied().filter(|device| !has_version(device)).collect();
        let clearings = store::claim_clearings(conn, &rest).await?;
        outgoing.extend(clearings.into_iter().map(clearing_message));
        Ok(outgoing)
    }

    async fn record_outcomes(
        &mut self,
        conn: &mut db::Connection,
        now: DateTime<Utc>,
        reports: &[(ConfigKey, PublishReport)],
    ) -> QueryResult<()> {
        let (mut confirmed, mut clearings) = (ConfirmedVersions::default(), Vec::new());
        // A message that was not confirmed stays due and is sent again.
        for (key, _) in reports.iter().filter(|(_, report)| report.outcome == PublishOutcome::Confirmed) {
            match *key {
                ConfigKey::Version { device, version, session_losses } => {
                    confirmed.push(device, version, session_losses == self.session_losses);
                }
                ConfigKey::Clearing(id) => clearings.push(id),
            }
        }
        let statement = store::record_confirmed(conn, now, &confirmed, &clearings);
        let sent = self.unanswered.run(|noted| noted.extend(confirmed.iter()), statement).await?;
        notify(&self.hub, sent);
        Ok(())
    }

    async fn on_broker_session_lost(
        &mut self,
        conn: &mut db::Connection,
        _now: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> QueryResult<Recovery> {
        if self.lost_session.as_ref().is_none_or(|republishing| republishing.cause != before) {
            self.session_losses += 1;
            self.lost_session = Some(Republishing::new(before, None));
        }
        step(&mut self.lost_session, conn).await
    }
}

/// One step; the last one ends the recovery.
async fn step<Id>(recovery: &mut Option<Republishing<Id>>, conn: &mut db::Connection) -> QueryResult<Recovery> {
    let Some(republishing) = recovery else { return Ok(Recovery::Finished) };
    let progress = republishing.step(conn).await?;
    if progress == Recovery::Finished {
        *recovery = None;
    }
    Ok(progress)
}
