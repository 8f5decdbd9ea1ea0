//! Sending, taking back and reading commands.

use chrono::{DateTime, Utc};

use super::command::{Command, CommandHub, CommandStatus, OnStale};
use super::new::{Checked, NewCommand};
use super::{Expectations, publish, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::clock::Clock;
use crate::db::{self, MemoryBudget, Pool};
use crate::devices::{Device, DeviceAccess};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{CommandId, DeviceId, UserId};
use crate::metrics::Metrics;
use crate::outbox::Wake;

/// Commands of one device that may be open at a time.
pub const MAX_OPEN_PER_DEVICE: i64 = 100;
/// Commands kept of one device; older ones that are over go when one is added.
pub const KEPT_PER_DEVICE: i64 = 1_000;
const SUPERSEDED: &str = "replaced by a newer command of the same type before it could be sent";
const TAKEN_BACK: &str = "cancelled before it could reach the device";

/// Commands of devices. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    pub(super) pool: Pool,
    clock: Clock,
    pub(super) hub: CommandHub,
    expectations: Expectations,
    wake: Wake,
    pub(super) metrics: Metrics,
}

/// What part of the past is asked for; the same for all devices of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandPage {
    /// Those that stand so.
    pub status: Option<CommandStatus>,
    /// Those before this place ([`Command::seq`]).
    pub before: Option<i64>,
    /// Most commands of a device.
    pub limit: i64,
}

/// What came of a request to send.
enum Sent {
    /// A new command, and those that it ended.
    New { command: Command, superseded: Vec<Command> },
    /// The command that the same request made before.
    Known(Command),
}

impl Commands {
    /// The service over its pool. Changes go to `hub`, effects that are waited for to `expectations`; `wake`
    /// tells the dispatcher of what is to be sent.
    pub fn new(
        pool: Pool,
        clock: Clock,
        hub: CommandHub,
        expectations: Expectations,
        wake: Wake,
        metrics: Metrics,
    ) -> Self {
        Self { pool, clock, hub, expectations, wake, metrics }
    }

    /// Where changes are told.
    pub fn hub(&self) -> &CommandHub {
        &self.hub
    }

    /// The effects that are waited for.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// Stores a command that is to be sent, or finds the one that the same request made before. Needs
    /// [`Permission::Control`].
    pub async fn send(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        new: NewCommand,
    ) -> Result<Command, Error> {
        let by = by.clone();
        let access = access.require(Permission::Control)?;
        let new = new.checked(device.id, device.kind)?;
        let (device, now) = (device.id, self.clock.now());
        let service = self.clone();
        let tell = move |sent| match sent {
            Sent::Known(command) => command,
            Sent::New { command, superseded } => {
                service.wake.wake();
                service.tell(superseded);
                service.tell([command.clone()]);
                command
            }
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move { store_new(conn, access, &by, device, &new, now).await })
        })
        .after_commit(tell)
        .await
    }

    /// Takes a command back that can't have left yet; one that was taken back already stays so. Needs
    /// [`Permission::Control`].
    pub async fn cancel(&self, viewer: UserId, by: &RequestContext, id: CommandId) -> Result<Command, Error> {
        let mut conn = self.pool.get().await?;
        let found = store::visible(&mut conn, viewer, &[id]).await?.pop();
        drop(conn);
        let (_, membership) = found.ok_or(Error::NotFound("command"))?;
        membership.allow(Permission::Control)?;
        let (now, by) = (self.clock.now(), by.clone());
        let service = self.clone();
        let tell = move |(command, is_new): (Command, bool)| {
            if is_new {
                service.tell([command.clone()]);
            }
            command
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let command = store::lock(conn, id).await?.ok_or(Error::NotFound("command"))?;
                if command.status == CommandStatus::Cancelled {
                    return Ok((command, false));
                }
                if let Some(reason) = too_late(&command, now) {
                    return Err(Error::Conflict(reason));
                }
                let cancelled = store::cancel(conn, &[id], None, TAKEN_BACK, now).await?.pop();
                let cancelled = cancelled.ok_or(Error::NotFound("command"))?;
                let entry = entry(Action::CommandCancel, &cancelled, &[]);
                audit::record(conn, &by, cancelled.home, &[entry]).await?;
                Ok((cancelled, true))
            })
        })
        .after_commit(tell)
        .await
    }

    /// The command, as `viewer` sees it; one of a foreign home is as absent as none.
    pub async fn find(&self, viewer: UserId, id: CommandId) -> Result<Command, Error> {
        self.by_ids(viewer, &[id]).await?.pop().ok_or(Error::NotFound("command"))
    }

    /// Those of `ids` that `viewer` sees. Needs [`Permission::ReadCommands`].
    pub async fn by_ids(&self, viewer: UserId, ids: &[CommandId]) -> Result<Vec<Command>, Error> {
        let mut conn = self.pool.get().await?;
        let found = store::visible(&mut conn, viewer, ids).await?;
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
        let ids: Vec<_> = devices.iter().map(DeviceAccess::device).collect();
        let mut conn = self.pool.get().await?;
        store::page(&mut conn, &ids, page.status, page.before, page.limit, budget).await
    }

    fn tell(&self, commands: impl IntoIterator<Item = Command>) {
        let commands: Vec<_> = commands.into_iter().collect();
        for command in &commands {
            self.metrics.count_command(command.status.as_str());
        }
        publish(&self.hub, commands);
    }
}

/// What the audit log tells of a command. Not its payload: that may be the code of a lock.
fn entry(action: Action, command: &Command, superseded: &[Command]) -> Entry {
    let superseded: Vec<_> = superseded.iter().map(|command| command.id.to_string()).collect();
    let details = Details::of(&command.id).with("type", &command.kind).with("deviceId", command.device.to_string());
    let target = format!("command {} to device {}", command.id, command.device);
    Entry::new(action, target, details.with("supersedes", superseded))
}

/// Why a command can't be taken back, if so. One that the broker threw away, having nobody to give it to,
/// has not left, and would go again until it expires.
fn too_late(command: &Command, now: DateTime<Utc>) -> Option<String> {
    let id = command.id;
    let has_left = command.dispatched_at.is_some() || command.acked_at.is_some();
    match command.status {
        CommandStatus::Pending | CommandStatus::Sent if !has_left => None,
        CommandStatus::TimedOut if !has_left && command.expires_at > now => None,
        CommandStatus::Pending | CommandStatus::Sent | CommandStatus::Acked => {
            Some(format!("{id} may have left already: send a command that undoes it instead"))
        }
        status => Some(format!("{id} is over: it is {}", status.as_str())),
    }
}

async fn store_new(
    conn: &mut db::Connection,
    access: Access,
    by: &RequestContext,
    device: DeviceId,
    new: &Checked,
    now: DateTime<Utc>,
) -> Result<Sent, Error> {
    let (home, requester) = (access.home(), access.user());
    if !store::lock_device(conn, home, device).await? {
        return Err(Error::NotFound("device"));
    }
    if let Some(known) = known(conn, requester, new).await? {
        return Ok(Sent::Known(known));
    }
    let insert = store::Insert { id: CommandId::generate(), home, device, requester, new, now };
    let Some(command) = store::insert(conn, &insert).await? else {
        // The same key came for another device at the same moment, and is committed by now.
        let known = known(conn, requester, new).await?;
        return known.map(Sent::Known).ok_or_else(|| Error::Conflict(KEY_TAKEN.to_owned()));
    };
    let superseded = match new.on_stale {
        OnStale::Supersede => store::supersede(conn, &command, SUPERSEDED, now).await?,
        OnStale::Expire => Vec::new(),
    };
    let entry = [entry(Action::CommandSend, &command, &superseded)];
    // One round trip for both: neither needs the other's answer.
    let shared: &db::Connection = conn;
    let (n_open, recorded) = tokio::join!(store::count_open(shared, device), audit::record(shared, by, home, &entry));
    recorded?;
    if n_open? > MAX_OPEN_PER_DEVICE {
        return Err(Error::Conflict(format!(
            "the device has {MAX_OPEN_PER_DEVICE} open commands, the most allowed: wait for them or cancel some"
        )));
    }
    store::prune(conn, device, KEPT_PER_DEVICE).await?;
    Ok(Sent::New { command, superseded })
}

const KEY_TAKEN: &str = "this idempotencyKey was used for another request: take a new one";

/// The command that the requester's key stands for already.
async fn known(conn: &mut db::Connection, requester: UserId, new: &Checked) -> Result<Option<Command>, Error> {
    let Some((key, digest)) = &new.idempotency else { return Ok(None) };
    match store::by_key(conn, requester, key).await? {
        None => Ok(None),
        Some((command, stored)) if stored.as_ref() == Some(digest) => Ok(Some(command)),
        Some(_) => Err(Error::Conflict(KEY_TAKEN.to_owned())),
    }
}
