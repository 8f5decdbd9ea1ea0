//! Deleting an account that belongs to no home.

use std::net::IpAddr;

use super::credentials::{end_all_sessions_except, wrong};
use super::{Users, parse_email, store};
use crate::auth::{Actor, Principal};
use crate::db;
use crate::error::Error;
use crate::ids::UserId;

/// The hash of a password that the caller knows.
pub struct VerifiedPassword(String);

impl Users {
    /// Checks the caller's own password before the account is deleted.
    pub async fn verify_for_deletion(
        &self,
        who: &Principal,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<VerifiedPassword, Error> {
        self.limit_password_attempts(who.user, from)?;
        let (_, hash) = self.own_password(who.user).await?;
        self.verify_own_password(who, "password", password, &hash).await?;
        Ok(VerifiedPassword(hash))
    }

    /// An operator acting as the account with this e-mail.
    pub async fn operator_as(&self, email: &str) -> Result<Principal, Error> {
        let email = parse_email(email)?;
        let mut conn = self.pool.get().await?;
        let (user, _) = store::by_email(&mut conn, &email).await?.ok_or(Error::NotFound("user"))?;
        let now = self.clock.now();
        Ok(Principal { user: user.id, actor: Actor::Operator, issued_at: now, expires_at: now })
    }

    /// Deletes an account with its sessions and links, and closes all connections. `false` if it belongs to a home. A
    /// caller other than an operator has verified the password, which must not have changed since.
    pub async fn delete(&self, user: UserId, password: Option<&VerifiedPassword>) -> Result<bool, Error> {
        let (verified, clock) = (password.map(|VerifiedPassword(hash)| hash.clone()), self.clock.clone());
        let apply = self.revocations.on_commit();
        let after_commit = move |ended: Option<_>| ended.map(apply).is_some();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // Until the end of the transaction nothing can refer to the account: no home can be created or joined.
                let hash = store::lock_for_deletion(conn, user).await?.ok_or(Error::ACCOUNT_DELETED)?;
                if verified.is_some_and(|verified| verified != hash) {
                    return Err(wrong("password"));
                }
                if store::belongs_to_a_home(conn, user).await? {
                    return Ok(None);
                }
                let ended = end_all_sessions_except(conn, user, None, clock.now()).await?;
                store::delete(conn, user).await?;
                Ok(Some(ended))
            })
        })
        .after_commit(after_commit)
        .await
    }
}
