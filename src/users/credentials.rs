//! Changing the caller's own password.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::account_mails::Notice;
use super::account_tokens_store::{self, Purpose};
use super::hashing_turns::Lane;
use super::{NewPassword, Users, refresh_tokens_store, store};
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
        self.limit_password_attempts(user, from)?;
        let (email, present) = self.own_password(user).await?;
        let new = NewPassword::parse("newPassword", new, &email)?;
        let kept_session = session_of(who);
        self.verify_own_password(who, "currentPassword", current, &present).await?;
        let hash = self.hasher.hash(new, Lane::Known).await?;
        let (apply, notify) = (self.revocations.on_commit(), self.notice(Notice::PasswordChanged, email));
        let after_commit = move |revocations| {
            apply(revocations);
            notify();
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // A concurrent change may have committed first: then `current` is outdated.
                if store::lock_password(conn, user).await? != Some(present) {
                    return Err(wrong("currentPassword"));
                }
                store::set_password(conn, user, &hash).await?;
                // The time under the lock: tokens issued while this waited are older than the new password.
                end_all_sessions_except(conn, user, kept_session, clock.now()).await
            })
        })
        .after_commit(after_commit)
        .await
    }

    /// Counts an attempt of a user at their own password.
    pub(super) fn limit_password_attempts(&self, user: UserId, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.user_attempt(user)?;
        self.throttle.address_attempt(from)
    }

    /// The caller's e-mail and password hash.
    pub(super) async fn own_password(&self, user: UserId) -> Result<(String, String), Error> {
        let mut conn = self.pool.get().await?;
        store::password(&mut conn, user).await?.ok_or(Error::ACCOUNT_DELETED)
    }

    /// Fails unless `password` is the one of this hash, which is the caller's. `field` is the input field of the password.
    ///
    /// With a stolen session one can guess no faster here than at `login`. Failed guesses count for the session, so
    /// they do not delay the owner in another session.
    pub(super) async fn verify_own_password(
        &self,
        who: &Principal,
        field: &'static str,
        password: &str,
        hash: &str,
    ) -> Result<(), Error> {
        let subject = session_of(who).map_or(PasswordSubject::User(who.user), PasswordSubject::Session);
        let attempt = self.throttle.begin_password_attempt(subject)?;
        let is_right = self.hasher.verify(password, Some(hash.to_owned()), Lane::Known).await;
        attempt.resolve(is_right.map(|is_right| is_right.then_some(())))?.ok_or_else(|| wrong(field))
    }
}

/// The session of the caller, if the token belongs to one.
pub(super) fn session_of(who: &Principal) -> Option<SessionId> {
    match who.actor {
        Actor::Session(session) => Some(session),
        Actor::Integration(_) | Actor::Operator | Actor::External(_) => None,
    }
}

pub(super) fn wrong(field: &'static str) -> Error {
    Error::bad_input(field, format!("{field} is not your current password"))
}

/// Ends every session of a user except one, every token without a session, and every token for a new password. The user's
/// row is locked.
pub(super) async fn end_all_sessions_except(
    conn: &mut db::Connection,
    user: UserId,
    kept: Option<SessionId>,
    now: DateTime<Utc>,
) -> Result<Vec<RecordedRevocation>, Error> {
    account_tokens_store::delete_of_user(conn, Purpose::NewPassword, user).await?;
    let families = refresh_tokens_store::delete_refresh_tokens(conn, user, kept.map(SessionId::as_uuid)).await?;
    let sessions = families.into_iter().map(|family| Revocation::Session(Some(user), SessionId::from_database(family)));
    let revocations: Vec<_> = sessions.chain([Revocation::Tokens(user, now)]).collect();
    Revocations::record(conn, &revocations).await
}
