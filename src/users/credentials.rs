//! Changing one's own password.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::{NewPassword, Users, store};
use crate::auth::{Actor, Principal};
use crate::db;
use crate::error::Error;
use crate::ids::{SessionId, UserId};
use crate::revocation::{RecordedRevocation, Revocation, Revocations};
use crate::throttle::PasswordSubject;

impl Users {
    /// Sets one's password, if one knows the present one, and ends all one's other sessions and tokens.
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
        let (email, present) = found.ok_or(Error::Unauthenticated("this account is no more"))?;
        let new = NewPassword::parse("newPassword", new, &email)?;
        // Who has found a device that is signed in guesses no faster here than at the door, and keeps
        // nobody who is signed in elsewhere from taking it back.
        let (stays, guesser) = match who.actor {
            Actor::Session(session) => (Some(session), PasswordSubject::Session(session)),
            Actor::Integration(_) | Actor::Operator | Actor::External(_) => (None, PasswordSubject::User(user)),
        };
        let attempt = self.throttle.begin_password_attempt(guesser)?;
        let is_right = self.hasher.verify(current, Some(present.clone())).await;
        attempt.resolve(is_right.map(|is_right| is_right.then_some(())))?.ok_or_else(wrong)?;
        let hash = self.hasher.hash(new).await?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // Another change may have come first: then this one knows no longer the present one.
                if store::lock_password(conn, user).await? != Some(present) {
                    return Err(wrong());
                }
                store::set_password(conn, user, &hash).await?;
                // The time behind the lock: what was made while this waited is older than the new password.
                end_all_but(conn, user, stays, clock.now()).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}

fn wrong() -> Error {
    Error::bad_input("currentPassword", "currentPassword is not your present password")
}

/// Ends every session of a user but one, and every token that belongs to none. The user is locked.
pub(super) async fn end_all_but(
    conn: &mut db::Connection,
    user: UserId,
    stays: Option<SessionId>,
    now: DateTime<Utc>,
) -> Result<Vec<RecordedRevocation>, Error> {
    let families = store::forget_refresh(conn, user, stays.map(SessionId::as_uuid)).await?;
    let sessions = families.into_iter().map(|family| Revocation::Session(SessionId::from_database(family)));
    let ended: Vec<_> = sessions.chain([Revocation::Tokens(user, now)]).collect();
    Revocations::record(conn, &ended).await
}
