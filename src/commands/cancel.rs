//! Cancelling a command.

use chrono::{DateTime, Utc};

use super::command::{Command, CommandStatus};
use super::service::{Commands, audit_entry};
use super::store;
use super::transitions::{Event, Facts, next_status};
use crate::audit::{self, Action, RequestContext};
use crate::db;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::{CommandId, UserId};

const CANCELLED: &str = "cancelled before it could reach the device";

impl Commands {
    /// Cancels a command that the device can't have. A cancelled one stays as it is. Needs
    /// [`Permission::Control`].
    pub async fn cancel(&self, viewer: UserId, by: &RequestContext, id: CommandId) -> Result<Command, Error> {
        let mut conn = self.pool.get().await?;
        let found = store::find_visible(&mut conn, viewer, &[id]).await?.pop();
        drop(conn);
        let (_, membership) = found.ok_or(Error::NotFound("command"))?;
        membership.allow(Permission::Control)?;
        let (now, by, service) = (self.clock.now(), by.clone(), self.clone());
        let after_commit = move |(command, is_changed): (Command, bool)| {
            if is_changed {
                service.notify([command.clone()]);
            }
            command
        };
        db::transaction(&self.pool, move |conn| Box::pin(async move { cancel(conn, &by, id, now).await }))
            .after_commit(after_commit)
            .await
    }
}

/// The cancelled command, and whether this call cancelled it.
async fn cancel(
    conn: &mut db::Connection,
    by: &RequestContext,
    id: CommandId,
    now: DateTime<Utc>,
) -> Result<(Command, bool), Error> {
    let command = store::lock(conn, id).await?.ok_or(Error::NotFound("command"))?;
    if command.status == CommandStatus::Cancelled {
        return Ok((command, false));
    }
    check_cancellable(&command, now)?;
    let cancelled = store::cancel(conn, id, CANCELLED, now).await?.ok_or(Error::NotFound("command"))?;
    let entry = audit_entry(Action::CommandCancel, &cancelled, &[]);
    audit::record(conn, by, cancelled.home, &[entry]).await?;
    Ok((cancelled, true))
}

fn check_cancellable(command: &Command, now: DateTime<Utc>) -> Result<(), Error> {
    let is_dispatched = command.dispatched_at.is_some() || command.acked_at.is_some();
    let facts =
        Facts { is_dispatched, is_acknowledged: command.acked_at.is_some(), is_expired: command.expires_at <= now };
    if next_status(command.status, Event::CancelRequested, facts).is_some() {
        return Ok(());
    }
    let Command { id, status, .. } = command;
    Err(Error::Conflict(if status.is_open() {
        format!("{id} may have reached the device already: send a command that undoes it instead")
    } else {
        format!("{id} is final: it is {status}")
    }))
}
