//! Setting a new password without the old one, with a token that is sent by mail or printed for the operator.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

use super::account_mails::{Letter, MailRequest, Notice};
use super::account_tokens_store::{NewToken, Purpose};
use super::credentials::end_all_sessions_except;
use super::hashing_turns::Lane;
use super::{NewPassword, Users, account_tokens_store, parse_email, store};
use crate::db;
use crate::error::Error;
use crate::opaque_token;

/// How long a token can be used.
const LIFETIME: TimeDelta = TimeDelta::hours(1);
/// Most valid tokens of one account. A request for a further one by mail does nothing; an operator's deletes the oldest.
const MAX_TOKENS_PER_USER: i64 = 5;
const SUBJECT: &str = "Set a new password";
const NO_MAIL: Error = Error::Forbidden("this server sends no mail: ask its operator for a new password");

/// What a new token does where its account has the most already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surplus {
    /// Nothing: a stranger's requests never end a token.
    Refuse,
    /// It takes the place of the oldest.
    Replace,
}

impl Users {
    /// Sends a token to the account with this e-mail, if there is one. `from` is the client's address.
    pub fn request_password_reset(&self, email: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.address_attempt(from)?;
        let mails = self.mails.as_ref().ok_or(NO_MAIL)?;
        mails.enqueue(MailRequest::NewPassword(parse_email(email)?))
    }

    /// Sets a new password and ends all sessions and tokens of the account. Its address is verified by that: the token was sent
    /// there, or an operator gave it to the person.
    pub async fn reset_password(&self, token: &str, new: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.address_attempt(from)?;
        let digest = opaque_token::digest(token).ok_or_else(invalid)?;
        let clock = self.clock.clone();
        let found = {
            let mut conn = self.pool.get().await?;
            account_tokens_store::find_user(&mut conn, Purpose::NewPassword, &digest, clock.now()).await?
        };
        let (user, email) = found.ok_or_else(invalid)?;
        let new = NewPassword::parse("newPassword", new, &email)?;
        let hash = self.hasher.hash(new, Lane::Unknown).await?;
        let (apply, notify) = (self.revocations.on_commit(), self.notice(Notice::PasswordChanged, email));
        let after_commit = move |revocations| {
            apply(revocations);
            notify();
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_password(conn, user).await?.ok_or_else(invalid)?;
                // Another request may have used the token meanwhile.
                if !account_tokens_store::delete(conn, &digest).await? {
                    return Err(invalid());
                }
                store::set_password(conn, user, &hash).await?;
                store::set_email_verified(conn, user).await?;
                end_all_sessions_except(conn, user, None, clock.now()).await
            })
        })
        .after_commit(after_commit)
        .await
    }

    /// A token for the account with this e-mail, and its expiry, for operators; `None` if there is no such account. Replaces
    /// the oldest token of an account that has too many.
    pub async fn create_password_reset(&self, email: &str) -> Result<Option<(String, DateTime<Utc>)>, Error> {
        self.insert_password_reset(email, Surplus::Replace).await
    }

    async fn insert_password_reset(
        &self,
        email: &str,
        surplus: Surplus,
    ) -> Result<Option<(String, DateTime<Utc>)>, Error> {
        let (email, now) = (parse_email(email)?, self.clock.now());
        let (token, expires_at) = (opaque_token::generate("pw_"), now + LIFETIME);
        let digest = opaque_token::digest(&token).ok_or_else(invalid)?;
        let is_created = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some(user) = store::lock_by_email(conn, &email).await? else { return Ok(false) };
                let purpose = Purpose::NewPassword;
                let n_valid = account_tokens_store::count_valid(conn, purpose, user, now).await?;
                if surplus == Surplus::Refuse && n_valid >= MAX_TOKENS_PER_USER {
                    return Ok(false);
                }
                account_tokens_store::delete_old(conn, purpose, user, MAX_TOKENS_PER_USER - 1).await?;
                let new = NewToken { purpose, user, email: None, digest: &digest, created_at: now, expires_at };
                account_tokens_store::insert(conn, new).await?;
                Ok(true)
            })
        });
        Ok(is_created.await?.then_some((token, expires_at)))
    }

    /// What a person does with a token: a link of the app, if the installation has one, otherwise the token itself.
    pub fn reset_link(&self, token: &str) -> String {
        self.reset_link.as_ref().map_or_else(|| token.to_owned(), |link| link.with_token(token))
    }

    pub(super) async fn password_reset_letter(&self, email: &str) -> Result<Option<Letter>, Error> {
        let created = self.insert_password_reset(email, Surplus::Refuse).await?;
        let letter = |(token, _): (String, _)| {
            let text = self.reset_text(email, &token);
            Letter { to: email.to_owned(), subject: SUBJECT, text }
        };
        Ok(created.map(letter))
    }

    fn reset_text(&self, email: &str, token: &str) -> String {
        let step = match &self.reset_link {
            Some(link) => format!("To set it, open this link within an hour:\n\n{}", link.with_token(token)),
            None => format!("To set it, enter this code in the app within an hour:\n\n{token}"),
        };
        format!(
            "Somebody asked to set a new password for the account {email}.\n\n{step}\n\n\
             If it was not you, ignore this mail. Your password stays as it is.\n"
        )
    }
}

fn invalid() -> Error {
    Error::bad_input("token", "token is unknown, used or expired: request a new one")
}
