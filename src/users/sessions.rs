//! Listing and revoking the caller's own sessions.

use chrono::{DateTime, Utc};

use super::session::end_family;
use super::{Users, refresh_tokens_store, store};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::ids::{SessionId, UserId};

/// An open session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionInfo {
    pub id: SessionId,
    /// When it was last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends if it is not refreshed.
    pub expires_at: DateTime<Utc>,
    /// The client's address at the last refresh, if known.
    pub address: Option<String>,
}

impl Users {
    /// The open sessions of each user, most recently used first.
    pub async fn sessions(&self, users: &[UserId]) -> Result<Vec<(UserId, SessionInfo)>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(refresh_tokens_store::sessions(&mut conn, users, self.clock.now()).await?)
    }

    /// Ends one of the caller's sessions and closes its sockets.
    pub async fn revoke_session(&self, who: &Principal, session: SessionId) -> Result<(), Error> {
        let (user, now) = (who.user, self.clock.now());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_password(conn, user).await?;
                if !refresh_tokens_store::is_open(conn, user, session.as_uuid(), now).await? {
                    return Err(Error::NotFound("session"));
                }
                end_family(conn, user, session).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}
