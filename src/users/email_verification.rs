//! Proof that an e-mail address belongs to the user: a token that is sent to it. An account that has to prove its address gets
//! no home before.

use std::net::IpAddr;

use chrono::TimeDelta;

use super::account_mails::{Letter, MailRequest};
use super::account_tokens_store::{NewToken, Purpose};
use super::{Users, account_tokens_store, store};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::ids::UserId;
use crate::opaque_token;

/// How long a token can be used.
const LIFETIME: TimeDelta = TimeDelta::days(1);
/// Most valid tokens of one account, of all its addresses. A request for a further one sends no mail.
const MAX_TOKENS_PER_USER: i64 = 5;
const SUBJECT: &str = "Verify your e-mail address";
const NO_MAIL: Error = Error::Forbidden("this server sends no mail: ask its operator to set your e-mail address");
const NOT_VERIFIED: Error = Error::Forbidden("verify your e-mail address first: requestEmailVerification sends a mail");

/// Whether accounts have to prove their addresses (`EMAIL_VERIFICATION`).
#[derive(Debug, Clone, Copy)]
pub struct EmailVerification {
    pub is_demanded: bool,
}

impl EmailVerification {
    /// Fails if the user's address is to be verified and is not.
    pub async fn check(self, conn: &mut db::Connection, user: UserId) -> Result<(), Error> {
        if !self.is_demanded || store::is_email_verified(conn, user).await? {
            return Ok(());
        }
        Err(NOT_VERIFIED)
    }
}

impl Users {
    /// Whether accounts have to prove their addresses.
    pub fn email_verification(&self) -> EmailVerification {
        self.email_verification
    }

    /// Sends a token to the caller's address, unless it is verified. `from` is the client's address.
    pub async fn request_email_verification(&self, who: &Principal, from: Option<IpAddr>) -> Result<(), Error> {
        self.limit_password_attempts(who.user, from)?;
        let is_verified = {
            let mut conn = self.pool.get().await?;
            store::is_email_verified(&mut conn, who.user).await?
        };
        if is_verified {
            return Ok(());
        }
        self.mails.as_ref().ok_or(NO_MAIL)?.enqueue(MailRequest::Verification(who.user))
    }

    /// Marks the address as verified that the token was sent to, if it is still the account's.
    pub async fn verify_email(&self, token: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.address_attempt(from)?;
        let digest = opaque_token::digest(token).ok_or_else(invalid)?;
        let now = self.clock.now();
        let found = {
            let mut conn = self.pool.get().await?;
            account_tokens_store::find_user(&mut conn, Purpose::Email, &digest, now).await?
        };
        let (user, _) = found.ok_or_else(invalid)?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // Under the lock the address stays.
                store::lock_password(conn, user).await?.ok_or_else(invalid)?;
                if !account_tokens_store::delete_for_present_email(conn, user, &digest).await? {
                    return Err(invalid());
                }
                Ok(store::set_email_verified(conn, user).await?)
            })
        })
        .await
    }

    /// `None` if the address is verified, or the account has the most valid tokens already.
    pub(super) async fn verification_letter(&self, user: UserId) -> Result<Option<Letter>, Error> {
        let now = self.clock.now();
        let token = opaque_token::generate("ev_");
        let digest = opaque_token::digest(&token).ok_or_else(invalid)?;
        let email = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_password(conn, user).await?;
                let Some(email) = store::unverified_email(conn, user).await? else { return Ok(None) };
                if account_tokens_store::count_valid(conn, Purpose::Email, user, now).await? >= MAX_TOKENS_PER_USER {
                    return Ok(None);
                }
                account_tokens_store::delete_old(conn, Purpose::Email, user, MAX_TOKENS_PER_USER - 1).await?;
                let new = NewToken {
                    purpose: Purpose::Email,
                    user,
                    email: Some(&email),
                    digest: &digest,
                    created_at: now,
                    expires_at: now + LIFETIME,
                };
                account_tokens_store::insert(conn, new).await?;
                Ok(Some(email))
            })
        })
        .await?;
        Ok(email.map(|email| Letter { text: self.verification_text(&email, &token), to: email, subject: SUBJECT }))
    }

    fn verification_text(&self, email: &str, token: &str) -> String {
        let step = match &self.verification_link {
            Some(link) => format!("If it is yours, open this link within a day:\n\n{}", link.with_token(token)),
            None => format!("If it is yours, enter this code in the app within a day:\n\n{token}"),
        };
        format!(
            "An account was given the e-mail address {email}.\n\n{step}\n\n\
             If it is not your account, ignore this mail: the account gets no home with your address.\n"
        )
    }
}

fn invalid() -> Error {
    Error::bad_input("token", "token is unknown, used, expired or for an earlier address: request a new one")
}
