//! Operations of the command line, which need only the database: set a password, issue a token.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::credentials::end_all_sessions_except;
use super::hashing_turns::Lane;
use super::profile::taken;
use super::{NewPassword, Users, parse_email, store};
use crate::auth::Actor;
use crate::db;
use crate::error::Error;

impl Users {
    /// Sets a user's password and ends all their sessions and tokens.
    pub async fn set_password(&self, email: &str, password: &str) -> Result<(), Error> {
        let email = parse_email(email)?;
        let password = NewPassword::parse("password", password, &email)?;
        let hash = self.hasher.hash(password, Lane::Known).await?;
        let clock = self.clock.clone();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = store::set_password_of(conn, &email, &hash).await?.ok_or(Error::NotFound("user"))?;
                end_all_sessions_except(conn, user, None, clock.now()).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }

    /// Sets the e-mail address of an account, which counts as verified then, and ends all its sessions and tokens.
    pub async fn set_email(&self, email: &str, new: &str) -> Result<(), Error> {
        let (email, new, clock) = (parse_email(email)?, parse_email(new)?, self.clock.clone());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = store::lock_by_email(conn, &email).await?.ok_or(Error::NotFound("user"))?;
                store::set_email(conn, user, &new, true).await.map_err(taken)?;
                end_all_sessions_except(conn, user, None, clock.now()).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }

    /// An access token for the account with this e-mail, and its expiry.
    pub async fn token_for(&self, email: &str, lifetime: Duration) -> Result<(String, DateTime<Utc>), Error> {
        let email = parse_email(email)?;
        let mut conn = self.pool.get().await?;
        let (user, _) = store::by_email(&mut conn, &email).await?.ok_or(Error::NotFound("user"))?;
        Ok(self.tokens.issue(user.id, Actor::Operator, lifetime))
    }
}
