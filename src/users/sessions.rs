//! One's own sessions: what they are, and ending one from another.

use chrono::{DateTime, Utc};

use super::session::end_family;
use super::{Users, store};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::ids::{SessionId, UserId};

/// A sign-in that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// When it was last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends unless it is refreshed.
    pub expires_at: DateTime<Utc>,
    /// The client's network address when it was last refreshed, if it is known.
    pub address: Option<String>,
}

impl Users {
    /// The open sessions of each of these, the one used last first.
    pub async fn sessions(&self, users: &[UserId]) -> Result<Vec<(UserId, SessionInfo)>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::sessions(&mut conn, users, self.clock.now()).await?)
    }

    /// Ends one of one's own sessions, its sockets too.
    pub async fn revoke_session(&self, who: &Principal, session: SessionId) -> Result<(), Error> {
        let (user, now) = (who.user, self.clock.now());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_password(conn, user).await?;
                if !store::is_open(conn, user, session.as_uuid(), now).await? {
                    return Err(Error::NotFound("session"));
                }
                end_family(conn, session).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}
