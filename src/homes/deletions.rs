//! Deleting a home, or a device of one, in two phases. One transaction decides it and deletes the small
//! dependents. Large tables are then purged in chunks while ingest runs; a row of `deletions` stays until the purge
//! is complete, so an interrupted purge is resumed later.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::deletions_store::{self, DeletedRows, Deletion};
use super::integrations::revocations_of;
use super::{Access, Homes, Permission, acquire_ingest_lock, integrations_store, members_store, store, target};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::background::periodic;
use crate::db::{self, Pool};
use crate::error::{Chain, Error};
use crate::latch::Latch;
use crate::revocation::{Revocation, Revocations};

/// Deletions resumed in one run.
const MAX_PENDING: i64 = 1_000;
/// Pause between two runs.
const RESUME_EVERY: Duration = Duration::from_secs(60);

impl Homes {
    /// Deletes the home with all its rows and ends its streams, even if the caller disconnects. Needs
    /// [`Permission::Own`] at the moment of the decision.
    pub async fn delete(&self, access: Access, by: &RequestContext) -> Result<(), Error> {
        let (homes, by, access) = (self.clone(), by.clone(), access.require(Permission::Own)?);
        db::run_to_completion(async move {
            let deletion = homes.decide_deletion(access, by).await?;
            complete(&homes.pool, deletion).await;
            // The audit log can be deleted only now. The retention job deletes what an interruption leaves.
            if let Err(error) = audit::delete_home_log(&homes.pool, access.home()).await {
                tracing::warn!(error = %Chain(&error), "the audit log of a deleted home could not be deleted; retrying later");
            }
            Ok(())
        })
        .await
    }

    /// Decides the deletion and notifies caches, hubs and revocations after the commit.
    pub(super) async fn decide_deletion(&self, access: Access, by: RequestContext) -> Result<Deletion, Error> {
        let (home, now) = (access.home(), self.clock.now());
        let (deletion, ended) = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                members_store::lock(conn, access).await?.require(Permission::Own)?;
                let tokens = integrations_store::revoke(conn, home, integrations_store::Which::All, now).await?;
                let mut revocations = revocations_of(home, &tokens);
                revocations.push(Revocation::Home(home));
                let ended = Revocations::record(conn, &revocations).await?;
                // Without a home id: the entry outlives the home.
                let entry = Entry::new(Action::HomeDelete, target(home), Details::of(&home));
                audit::record(conn, &by, None, &[entry]).await?;
                let deletion = deletions_store::record(conn, home, None).await?;
                // Wait for other transactions before taking the ingest lock: ingest waits from then on.
                store::prepare_deletion(conn, home).await?;
                acquire_ingest_lock(conn).await?;
                store::delete(conn, home).await?;
                Ok((deletion, ended))
            })
        })
        .await?;
        self.listener.home_changed(home);
        self.hubs.iter().for_each(|hub| hub.close_home(home));
        self.revocations.apply(&ended);
        Ok(deletion)
    }
}

/// Resumes interrupted deletions once a minute. Several servers may do so at once.
pub async fn run_deletion_worker(pool: Pool, migrated: Latch, stop: CancellationToken) {
    let resume = || resume_deletions(&pool);
    periodic("the search for interrupted deletions", RESUME_EVERY, migrated, stop, resume).await;
}

/// Completes the deletions that were interrupted.
pub async fn resume_deletions(pool: &Pool) -> Result<(), Error> {
    let pending = {
        let mut conn = pool.get().await?;
        deletions_store::pending(&mut conn, MAX_PENDING).await?
    };
    for deletion in pending {
        complete(pool, deletion).await;
    }
    Ok(())
}

/// Purges the rows of a decided deletion. After a failure a later run resumes it.
pub(crate) async fn complete(pool: &Pool, deletion: Deletion) {
    if let Err(error) = purge(pool, deletion).await {
        tracing::warn!(error = %Chain(&error), "purging deleted rows failed; retrying later");
    }
}

async fn purge(pool: &Pool, deletion: Deletion) -> Result<(), Error> {
    for rows in deletion.rows_to_purge() {
        while delete_chunk(pool, deletion, *rows).await? {}
    }
    let mut conn = pool.get().await?;
    Ok(deletions_store::remove(&mut conn, deletion).await?)
}

/// Whether more rows may exist. `false` too if another server completed the deletion.
async fn delete_chunk(pool: &Pool, deletion: Deletion, rows: DeletedRows) -> Result<bool, Error> {
    let n_deleted = db::transaction(pool, move |conn| {
        Box::pin(async move { Ok(deletions_store::delete_chunk(conn, deletion, rows).await?) })
    });
    Ok(n_deleted.await?.is_some_and(|n_deleted| n_deleted > 0))
}
