//! The commands of devices: the service and its reads.

use super::command::{Command, CommandHub, CommandStatus};
use super::{Expectations, notify, store};
use crate::audit::{Action, Details, Entry};
use crate::clock::Clock;
use crate::db::{MemoryBudget, Pool};
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::{CommandId, UserId};
use crate::metrics::Metrics;
use crate::outbox::Wake;

/// The commands of devices. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) hub: CommandHub,
    expectations: Expectations,
    pub(super) wake: Wake,
    pub(super) metrics: Metrics,
}

/// What [`Commands`] needs.
pub struct CommandsDependencies {
    pub pool: Pool,
    pub clock: Clock,
    /// Receives every change.
    pub hub: CommandHub,
    pub expectations: Expectations,
    /// Wakes the dispatcher of commands.
    pub wake: Wake,
    pub metrics: Metrics,
}

/// A page of a device's commands, newest first; the same for all devices of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandPage {
    pub status: Option<CommandStatus>,
    /// Only commands with a smaller [`Command::seq`].
    pub before: Option<i64>,
    /// Commands per device.
    pub limit: i64,
}

impl Commands {
    pub fn new(dependencies: CommandsDependencies) -> Self {
        let CommandsDependencies { pool, clock, hub, expectations, wake, metrics } = dependencies;
        Self { pool, clock, hub, expectations, wake, metrics }
    }

    /// The hub that receives every change.
    pub fn hub(&self) -> &CommandHub {
        &self.hub
    }

    /// The effects that are expected of devices.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// Those of `ids` that `viewer` may see. Needs [`Permission::ReadCommands`].
    pub async fn by_ids(&self, viewer: UserId, ids: &[CommandId]) -> Result<Vec<Command>, Error> {
        let mut conn = self.pool.get().await?;
        let found = store::find_visible(&mut conn, viewer, ids).await?;
        let allowed = found.into_iter().map(|(command, place)| place.allow(Permission::ReadCommands).map(|_| command));
        allowed.collect()
    }

    /// A page of each device's commands, newest first.
    pub async fn page(
        &self,
        devices: &[DeviceAccess],
        page: &CommandPage,
        budget: &MemoryBudget,
    ) -> Result<Vec<Command>, Error> {
        let devices: Vec<_> = devices.iter().map(DeviceAccess::device).collect();
        let CommandPage { status, before, limit } = *page;
        let mut conn = self.pool.get().await?;
        store::Page { devices: &devices, status, before: before.unwrap_or(i64::MAX), limit }
            .load_within(&mut conn, budget)
            .await
    }

    /// Counts commands that this service changed, and notifies their subscribers.
    pub(super) fn notify(&self, commands: impl IntoIterator<Item = Command>) {
        let commands: Vec<_> = commands.into_iter().collect();
        for command in &commands {
            self.metrics.count_command(command.status.as_str());
        }
        notify(&self.hub, commands);
    }
}

/// The audit entry of a command. Without its payload, which may be the code of a lock.
pub(super) fn audit_entry(action: Action, command: &Command, superseded: &[Command]) -> Entry {
    let superseded: Vec<_> = superseded.iter().map(|command| command.id.to_string()).collect();
    let details = Details::of(&command.id).with("type", &command.kind).with("deviceId", command.device.to_string());
    let target = format!("command {} to device {}", command.id, command.device);
    Entry::new(action, target, details.with("supersedes", superseded))
}
