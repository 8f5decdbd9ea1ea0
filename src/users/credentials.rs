//! Changing the caller's own password.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::hashing_turns::Lane;
use super::{NewPassword, Users, store};
use crate::auth::{Actor, Principal};
use crate::db;
use crate::error::Error;
use crate::ids::{SessionId, UserId};
use crate::revocation::{RecordedRevocation, Revocation, Revocations};
use crate::throttle::PasswordSubject;

impl Users {
    /// Changes the caller's password, given the current one, and ends all other sessions and tokens of theirs.
    pub async fn change_password(
        &self,
        who: &Principal,
        current: &str,
        new: &str,
        from: Option<IpAddr>,
    ) -> Result<(), Error> {
        let (user, clock) = (who.user, self.clock.clone());
        self.throttle.user_attempt(user)?;
        self.throttle.address_attempt(from)?;
        let found = {
            let mut conn = self.pool.get().await?;
            store::password(&mut conn, user).await?
        };
        let (email, present) = found.ok_or(Error::ACCOUNT_DELETED)?;
        let new = NewPassword::parse("newPassword", new, &email)?;
        // With a stolen session one can guess no faster here than at `login`. Failed guesses count for the session, so
        // they do not delay the owner in another session.
        let (kept_session, subject) = match who.actor {
            Actor::Session(session) => (Some(session), PasswordSubject::Session(session)),
            Actor::Integration(_) | Actor::Operator | Actor::External(_) => (None, PasswordSubject::User(user)),
        };
        let attempt = self.throttle.begin_password_attempt(subject)?;
        let is_right = self.hasher.verify(current, Some(present.clone()), Lane::Known).await;
        attempt.resolve(is_right.map(|is_right| is_right.then_some(())))?.ok_or_else(wrong)?;
        let hash = self.hasher.hash(new, Lane::Known).await?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // A concurrent change may have committed first: then `current` is outdated.
                if store::lock_password(conn, user).await? != Some(present) {
                    return Err(wrong());
                }
                store::set_password(conn, user, &hash).await?;
                // The time under the lock: tokens issued while this waited are older than the new password.
                end_all_sessions_except(conn, user, kept_session, clock.now()).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}

fn wrong() -> Error {
    Error::bad_input("currentPassword", "currentPassword is not your current password")
}

/// Ends every session of a user except one, and every token without a session. The user's row is locked.
pub(super) async fn end_all_sessions_except(
    conn: &mut db::Connection,
    user: UserId,
    kept: Option<SessionId>,
    now: DateTime<Utc>,
) -> Result<Vec<RecordedRevocation>, Error> {
    let families = store::delete_refresh_tokens(conn, user, kept.map(SessionId::as_uuid)).await?;
    let sessions = families.into_iter().map(|family| Revocation::Session(Some(user), SessionId::from_database(family)));
    let revocations: Vec<_> = sessions.chain([Revocation::Tokens(user, now)]).collect();
    Revocations::record(conn, &revocations).await
}
