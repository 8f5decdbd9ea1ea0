//! The limit on the homes that one user owns.

use super::{Homes, store};
use crate::db;
use crate::error::Error;
use crate::ids::UserId;

/// Homes that one user may own (`HOMES_PER_USER`).
#[derive(Debug, Clone, Copy)]
pub(super) struct HomesLimit(pub(super) i64);

impl HomesLimit {
    /// Fails if the user may own no further home. `subject` is the user, with the verb. Locks the user until the end of
    /// the transaction; to be called after the home is locked.
    pub(super) async fn check(self, conn: &mut db::Connection, user: UserId, subject: &str) -> Result<(), Error> {
        self.check_all(conn, user, subject, 1).await
    }

    /// As [`HomesLimit::check`], for several homes.
    pub(super) async fn check_all(
        self,
        conn: &mut db::Connection,
        user: UserId,
        subject: &str,
        n_homes: i64,
    ) -> Result<(), Error> {
        let Self(limit) = self;
        if store::lock_and_count_owned(conn, user).await? + n_homes <= limit {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "{subject} {limit} homes already, the most allowed on this server: delete one or make another member its owner"
        )))
    }
}

impl Homes {
    /// Homes that one user may own.
    pub fn homes_per_user(&self) -> i64 {
        self.homes_limit.0
    }
}
