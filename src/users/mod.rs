//! Accounts, passwords, sessions. Neither the answers of `login` nor their timing reveal whether an e-mail has an
//! account.

mod account_mails;
mod account_tokens_store;
mod blocklist;
mod credentials;
mod deletion;
mod email_verification;
mod external_identities;
mod external_identities_store;
mod hashing_turns;
mod listing_store;
mod operator;
mod password;
mod password_hasher;
mod password_resets;
mod profile;
mod refresh_tokens_store;
mod session;
mod sessions;
mod store;
mod token_cleanup;

use std::net::IpAddr;

use chrono::{DateTime, Utc};

pub use deletion::VerifiedPassword;
pub use email_verification::EmailVerification;
pub use listing_store::{ListedUser, list_users};
pub use profile::ProfileChange;
pub use session::Session;
pub use sessions::SessionInfo;

use crate::auth::{IssuerDomains, Tokens};
use crate::clock::Clock;
use crate::db::{self, Pool};
use crate::error::{CredentialsError, Error};
use crate::ids::UserId;
use crate::mail::Mailer;
use crate::revocation::Revocations;
use crate::settings::MailLink;
use crate::throttle::{Throttle, network_range};
use crate::validation;
use account_mails::AccountMails;
use hashing_turns::Lane;
use password::NewPassword;
use password_hasher::Hasher;

/// Longest e-mail address, in bytes (RFC 5321).
pub const MAX_EMAIL_BYTES: usize = 254;

/// The same text for a wrong password and an unknown e-mail.
const WRONG_LOGIN: Error = Error::Unauthenticated(CredentialsError::InvalidCredentials, "wrong e-mail or password");

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// The login name, in lower case.
    pub email: String,
    /// False while the user has to prove that the address is theirs.
    pub email_verified: bool,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// What [`Users`] is made of.
pub struct UsersDependencies {
    pub pool: Pool,
    pub tokens: Tokens,
    pub clock: Clock,
    pub revocations: Revocations,
    pub throttle: Throttle,
    /// `REGISTRATION=open`.
    pub registration_open: bool,
    /// Domains whose addresses only external issuers verify.
    pub issuer_domains: IssuerDomains,
    /// Sends tokens for new passwords; `None` if the server sends no mail.
    pub mailer: Option<Mailer>,
    /// The link with which such a token is sent.
    pub reset_link: Option<MailLink>,
    /// Whether people who register, or change their addresses, have to prove these.
    pub email_verification: EmailVerification,
    /// The link with which they do.
    pub verification_link: Option<MailLink>,
}

/// Accounts and sessions. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pool: Pool,
    tokens: Tokens,
    clock: Clock,
    hasher: Hasher,
    revocations: Revocations,
    throttle: Throttle,
    registration_open: bool,
    issuer_domains: IssuerDomains,
    mails: Option<AccountMails>,
    reset_link: Option<MailLink>,
    email_verification: EmailVerification,
    verification_link: Option<MailLink>,
}

impl Users {
    pub fn new(dependencies: UsersDependencies) -> Self {
        let UsersDependencies {
            pool,
            tokens,
            clock,
            revocations,
            throttle,
            registration_open,
            issuer_domains,
            mailer,
            reset_link,
            email_verification,
            verification_link,
        } = dependencies;
        let (hasher, mails) = (Hasher::default(), mailer.map(AccountMails::new));
        Self {
            pool,
            tokens,
            clock,
            hasher,
            revocations,
            throttle,
            registration_open,
            issuer_domains,
            mails,
            reset_link,
            email_verification,
            verification_link,
        }
    }

    /// Creates an account and signs it in, if registration is open, and sends a token to its address if it is to be verified.
    /// `from` is the client's address.
    pub async fn register(
        &self,
        email: &str,
        password: &str,
        name: &str,
        from: Option<IpAddr>,
    ) -> Result<Session, Error> {
        if !self.registration_open {
            return Err(Error::Forbidden("registration is closed: ask the operator for an account"));
        }
        self.throttle.address_attempt(from)?;
        let (user, hash) = self.insert(email, !self.email_verification.is_demanded, password, name).await?;
        self.verification_of_new()(&user);
        self.open_session(user, hash, from).await
    }

    /// Creates an account regardless of `REGISTRATION`, for operators. Its address counts as verified.
    pub async fn create(&self, email: &str, password: &str, name: &str) -> Result<User, Error> {
        self.insert(email, true, password, name).await.map(|(user, _)| user)
    }

    /// Returns the new account and its password hash.
    async fn insert(
        &self,
        email: &str,
        is_verified: bool,
        password: &str,
        name: &str,
    ) -> Result<(User, String), Error> {
        let email = parse_email(email)?;
        let name = validation::name("name", name)?;
        let password = NewPassword::parse("password", password, &email)?;
        let hash = self.hasher.hash(password, Lane::Unknown).await?;
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = store::insert(conn, &email, is_verified, &name, &hash, now).await?;
                let user = user.ok_or_else(email_taken)?;
                Ok((user, hash))
            })
        })
        .await
    }

    /// Signs a user in. `from` is the client's address.
    pub async fn login(&self, email: &str, password: &str, from: Option<IpAddr>) -> Result<Session, Error> {
        self.throttle.address_attempt(from)?;
        // An invalid e-mail is looked up as well, so that its answer takes as long.
        let email = parse_email(email).unwrap_or_default();
        let is_contended = self.throttle.is_sign_in_contended(&email, from);
        let is_known = is_contended && self.has_signed_in(&email, from).await?;
        let attempt = self.throttle.begin_sign_in(&email, from, is_known, password)?;
        // From here on the attempt counts, even if the client does not wait for the response.
        let found = async {
            let is_known =
                is_known || !is_contended && self.hasher.is_busy() && self.has_signed_in(&email, from).await?;
            self.find(&email, password, if is_known { Lane::Known } else { Lane::Unknown }).await
        };
        let found = attempt.resolve(found.await)?;
        let (user, hash) = found.ok_or(WRONG_LOGIN)?;
        self.open_session(user, hash, from).await
    }

    /// The user with this e-mail and password, and the password hash.
    async fn find(&self, email: &str, password: &str, lane: Lane) -> Result<Option<(User, String)>, Error> {
        let found = {
            let mut conn = self.pool.get().await?;
            store::by_email(&mut conn, email).await?
        };
        let hash = found.as_ref().map(|(_, hash)| hash.clone());
        let is_right = self.hasher.verify(password, hash, lane).await?;
        Ok(found.filter(|_| is_right))
    }

    /// Whether an account has signed in from this address's network. The query runs for unknown accounts too, so that
    /// timing reveals nothing.
    async fn has_signed_in(&self, email: &str, from: Option<IpAddr>) -> Result<bool, Error> {
        let Some(from) = from else { return Ok(false) };
        let mut conn = self.pool.get().await?;
        let found = store::by_email(&mut conn, email).await?;
        let user = found.map_or(UserId::from_database(0), |(user, _)| user.id);
        Ok(refresh_tokens_store::has_signed_in(&mut conn, user, network_range(from)).await?)
    }

    /// Users by id, in no particular order.
    pub async fn by_ids(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::by_ids(&mut conn, ids).await?)
    }
}

fn email_taken() -> Error {
    Error::Conflict("email has an account already".to_owned())
}

/// Trims an e-mail address and converts it to lower case. ASCII only, because PostgreSQL's `lower` and Rust's must
/// agree.
pub fn parse_email(text: &str) -> Result<String, Error> {
    let email = text.trim().to_ascii_lowercase();
    let shaped = (3..=MAX_EMAIL_BYTES).contains(&email.len())
        && email.bytes().all(|b| b.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && !domain.contains('@')
                && domain
                    .split('.')
                    .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        });
    if shaped { Ok(email) } else { Err(Error::bad_input("email", "email must be an address such as ann@example.com")) }
}

#[cfg(test)]
mod tests {
    use super::parse_email;

    #[test]
    fn an_email_has_one_spelling() {
        assert_eq!(parse_email("  Ann.Lee+Home@Example.COM ").unwrap(), "ann.lee+home@example.com");
        assert_eq!(parse_email("ann@localhost").unwrap(), "ann@localhost");
        for wrong in ["", "ann", "@x.y", "ann@", "a@b@c.d", "a b@c.d", "a@b..c", "a@b\0.c", "ä@b.c", &"x".repeat(300)]
        {
            assert!(parse_email(wrong).is_err(), "{wrong:?}");
        }
    }
}
