//! Deleting a home, or a device of one: decided in one transaction, then swept. What there may be much of
//! goes after the decision, piece by piece and with ingest running; a row says so until it is gone, so what
//! an interruption leaves is ended later.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::deletions_store::{self, Deletion, Remains};
use super::integrations::sessions;
use super::{Access, Homes, Permission, close_ingest_gate, integrations_store, members_store, store, target};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::db::{self, Pool};
use crate::error::{Chain, Error};
use crate::revocation::{Revocation, Revocations};

/// Deletions that one sweep looks at.
const MAX_PENDING: i64 = 1_000;
/// Pause between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

impl Homes {
    /// Deletes the home and every row of it, and ends every stream of it, whether or not the caller
    /// waits for it. Needs [`Permission::Own`] at the moment of the decision.
    pub async fn delete(&self, access: Access, by: &RequestContext) -> Result<(), Error> {
        let (homes, by, access) = (self.clone(), by.clone(), access.require(Permission::Own)?);
        db::run_to_completion(async move {
            let deletion = homes.decide_deletion(access, by).await?;
            finish(&homes.pool, deletion).await;
            // Its log lets itself be deleted only now; what an interruption leaves of it goes later.
            if let Err(error) = audit::delete_home_log(&homes.pool, access.home()).await {
                tracing::warn!(error = %Chain(&error), "the audit log of a deleted home is still there; trying again later");
            }
            Ok(())
        })
        .await
    }

    /// The home is gone, and whoever holds something of it is told.
    async fn decide_deletion(&self, access: Access, by: RequestContext) -> Result<Deletion, Error> {
        let (home, now) = (access.home(), self.clock.now());
        let (deletion, ended) = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                members_store::lock(conn, access).await?.require(Permission::Own)?;
                let mut lost =
                    sessions(&integrations_store::end(conn, home, integrations_store::Which::All, now).await?);
                lost.push(Revocation::Home(home));
                let ended = Revocations::record(conn, &lost).await?;
                // Of no home: it outlives this one.
                let entry = Entry::new(Action::HomeDelete, target(home), Details::of(&home));
                audit::record(conn, &by, None, &[entry]).await?;
                let deletion = deletions_store::note(conn, home, None).await?;
                // Ingest waits from here on, and we for nobody that could be waited for before.
                store::prepare_deletion(conn, home).await?;
                close_ingest_gate(conn).await?;
                store::delete(conn, home).await?;
                Ok((deletion, ended))
            })
        })
        .await?;
        self.listener.home_changed(home);
        for channel in self.channels.iter() {
            channel.close(home);
        }
        self.revocations.apply(&ended);
        Ok(deletion)
    }
}

/// Sweeps until the stop, from when the database has its tables on. Several servers may do so at once.
pub async fn keep_sweeping(pool: Pool, migrated: CancellationToken, stop: CancellationToken) {
    let sweeping = async {
        migrated.cancelled().await;
        loop {
            if let Err(error) = sweep(&pool).await {
                tracing::warn!(error = %Chain(&error), "can't look for interrupted deletions; trying again later");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    };
    stop.run_until_cancelled(sweeping).await;
}

/// Ends the deletions that are decided, or tries to.
pub async fn sweep(pool: &Pool) -> Result<(), Error> {
    let pending = {
        let mut conn = pool.get().await?;
        deletions_store::pending(&mut conn, MAX_PENDING).await?
    };
    for deletion in pending {
        finish(pool, deletion).await;
    }
    Ok(())
}

/// Deletes what is left of a deletion. It is decided: what can't be deleted now goes with a later sweep.
pub(crate) async fn finish(pool: &Pool, deletion: Deletion) {
    if let Err(error) = sweep_one(pool, deletion).await {
        tracing::warn!(error = %Chain(&error), "something is left of what was deleted; trying again later");
    }
}

async fn sweep_one(pool: &Pool, deletion: Deletion) -> Result<(), Error> {
    for of in deletion.remains() {
        while delete_some(pool, deletion, *of).await? {}
    }
    let mut conn = pool.get().await?;
    Ok(deletions_store::end(&mut conn, deletion).await?)
}

/// Whether there may be more. Says no as well where another one has ended the deletion.
async fn delete_some(pool: &Pool, deletion: Deletion, of: Remains) -> Result<bool, Error> {
    let n_deleted = db::transaction(pool, move |conn| {
        Box::pin(async move { Ok(deletions_store::delete_some(conn, deletion, of).await?) })
    });
    Ok(n_deleted.await?.is_some_and(|n_deleted| n_deleted > 0))
}
