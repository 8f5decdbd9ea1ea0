//! Sending a command: storing it for the dispatcher.

use chrono::{DateTime, Utc};

use super::command::{Command, OnStale};
use super::new::{Checked, NewCommand};
use super::service::{Commands, audit_entry};
use super::store;
use crate::audit::{self, Action, RequestContext};
use crate::db;
use crate::devices::{Device, lock_device};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{CommandId, DeviceId};

/// Open commands of one device.
pub const MAX_OPEN_PER_DEVICE: i64 = 100;
/// Commands kept of one device. Older final ones are deleted when a command is added.
pub const KEPT_PER_DEVICE: i64 = 1_000;

const SUPERSEDED: &str = "replaced by a newer command of the same type before it could be sent";
const KEY_TAKEN: &str = "this idempotencyKey was used for another request: use a new one";

/// A checked request to send a command.
struct Request {
    access: Access,
    by: RequestContext,
    device: DeviceId,
    new: Checked,
    now: DateTime<Utc>,
}

/// The result of a request.
enum Sent {
    /// A new command and the ones that it superseded.
    New { command: Command, superseded: Vec<Command> },
    /// The command of an earlier request with the same idempotency key.
    Existing(Command),
}

impl Commands {
    /// Stores a command that is to be sent, or finds the command of the same earlier request. Needs
    /// [`Permission::Control`].
    pub async fn send(
        &self,
        access: Access,
        by: &RequestContext,
        device: &Device,
        new: NewCommand,
    ) -> Result<Command, Error> {
        let access = access.require(Permission::Control)?;
        let new = new.checked(device.id, device.kind)?;
        let request = Request { access, by: by.clone(), device: device.id, new, now: self.clock.now() };
        let service = self.clone();
        let after_commit = move |sent| match sent {
            Sent::Existing(command) => command,
            Sent::New { command, superseded } => {
                service.wake.wake();
                service.notify(superseded);
                service.notify([command.clone()]);
                command
            }
        };
        db::transaction(&self.pool, move |conn| Box::pin(async move { request.store(conn).await }))
            .after_commit(after_commit)
            .await
    }
}

impl Request {
    async fn store(&self, conn: &mut db::Connection) -> Result<Sent, Error> {
        if !lock_device(conn, self.access.home(), self.device).await? {
            return Err(Error::NotFound("device"));
        }
        if let Some(existing) = self.find_existing(conn).await? {
            return Ok(Sent::Existing(existing));
        }
        let Some(command) = self.insert().execute(conn).await? else {
            // A concurrent request used the key for another device and has committed.
            let existing = self.find_existing(conn).await?;
            return existing.map(Sent::Existing).ok_or_else(|| Error::Conflict(KEY_TAKEN.to_owned()));
        };
        let superseded = match self.new.on_stale {
            OnStale::Supersede => store::supersede(conn, &command, SUPERSEDED, self.now).await?,
            OnStale::Expire => Vec::new(),
        };
        self.record_and_check_limit(conn, &command, &superseded).await?;
        store::prune(conn, self.device, KEPT_PER_DEVICE).await?;
        Ok(Sent::New { command, superseded })
    }

    /// The command that this requester sent earlier with the same idempotency key.
    async fn find_existing(&self, conn: &mut db::Connection) -> Result<Option<Command>, Error> {
        let Some((key, digest)) = &self.new.idempotency else { return Ok(None) };
        match store::find_by_key(conn, self.access.user(), key).await? {
            None => Ok(None),
            Some((command, stored)) if stored.as_ref() == Some(digest) => Ok(Some(command)),
            Some(_) => Err(Error::Conflict(KEY_TAKEN.to_owned())),
        }
    }

    fn insert(&self) -> store::Insert<'_> {
        let new = &self.new;
        let (idempotency_key, body_digest) =
            new.idempotency.as_ref().map(|(key, digest)| (key.as_str(), digest.as_slice())).unzip();
        store::Insert {
            id: CommandId::generate(),
            home: self.access.home(),
            device: self.device,
            kind: &new.kind,
            payload: &new.payload,
            source: new.source,
            correlation_id: &new.correlation_id,
            on_stale: new.on_stale,
            expect: new.expect.as_ref(),
            requester: self.access.user(),
            idempotency_key,
            body_digest,
            timeout_seconds: new.timeout_seconds,
            now: self.now,
            expires_at: self.now + new.expires_in,
        }
    }

    async fn record_and_check_limit(
        &self,
        conn: &db::Connection,
        command: &Command,
        superseded: &[Command],
    ) -> Result<(), Error> {
        let entry = [audit_entry(Action::CommandSend, command, superseded)];
        // Neither statement needs the answer of the other: both share one round trip.
        let (n_open, recorded) = tokio::join!(
            store::count_open(conn, self.device),
            audit::record(conn, &self.by, self.access.home(), &entry)
        );
        recorded?;
        if n_open? > MAX_OPEN_PER_DEVICE {
            return Err(Error::Conflict(format!(
                "the device has {MAX_OPEN_PER_DEVICE} open commands, the most allowed: wait for them or cancel some"
            )));
        }
        Ok(())
    }
}
