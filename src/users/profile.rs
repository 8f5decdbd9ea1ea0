//! Changing the caller's own name and e-mail address.

use std::net::IpAddr;

use super::account_mails::Notice;
use super::credentials::{end_all_sessions_except, session_of, wrong};
use super::{User, Users, parse_email, store};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::validation;

const VOUCHED: Error = Error::Forbidden(
    "addresses of this domain are verified by an external issuer: ask the operator to change your e-mail address",
);

/// Otherwise a member could take an address with an open invitation, and learn which addresses have accounts.
const CLOSED: Error = Error::Forbidden("ask the operator to change your e-mail address");

/// The fields to change; `None` for those that stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProfileChange<'a> {
    pub name: Option<&'a str>,
    pub email: Option<&'a str>,
    /// Required for another e-mail address.
    pub current_password: Option<&'a str>,
}

impl Users {
    /// Changes the caller's name, e-mail address or both, and returns the changed account. Another e-mail address needs
    /// open registration and the password, and ends all other sessions and tokens, as another password does: with it one signs in.
    /// The old address gets a notice, and the new one a token if it is to be verified.
    pub async fn update(
        &self,
        who: &Principal,
        change: ProfileChange<'_>,
        from: Option<IpAddr>,
    ) -> Result<User, Error> {
        let (user, clock) = (who.user, self.clock.clone());
        self.limit_password_attempts(user, from)?;
        let name = change.name.map(|name| validation::name("name", name)).transpose()?;
        let email = change.email.map(parse_email).transpose()?;
        let (present_email, hash) = self.own_password(user).await?;
        let email = email.filter(|email| *email != present_email);
        if let Some(email) = &email {
            if !self.registration_open {
                return Err(CLOSED);
            }
            if self.issuer_domains.contain(email) {
                return Err(VOUCHED);
            }
            let password = change.current_password.ok_or_else(|| {
                Error::bad_input("currentPassword", "another e-mail address needs currentPassword, your password")
            })?;
            self.verify_own_password(who, "currentPassword", password, &hash).await?;
        }
        let kept_session = session_of(who);
        let is_verified = !self.email_verification.is_demanded;
        let (apply, notify) = (self.revocations.on_commit(), self.notice(Notice::EmailChanged, present_email));
        let (verify, is_other_email) = (self.verification_of_new(), email.is_some());
        let after_commit = move |(user, revocations): (User, _)| {
            apply(revocations);
            if is_other_email {
                notify();
                verify(&user);
            }
            user
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let locked = store::lock_password(conn, user).await?.ok_or(Error::ACCOUNT_DELETED)?;
                let mut revocations = Vec::new();
                if let Some(email) = &email {
                    // A concurrent change may have committed first: then the password is outdated.
                    if locked != hash {
                        return Err(wrong("currentPassword"));
                    }
                    store::set_email(conn, user, email, is_verified).await.map_err(taken)?;
                    revocations = end_all_sessions_except(conn, user, kept_session, clock.now()).await?;
                }
                if let Some(name) = &name {
                    store::set_name(conn, user, name).await?;
                }
                let changed = store::by_ids(conn, &[user]).await?.pop().ok_or(Error::ACCOUNT_DELETED)?;
                Ok((changed, revocations))
            })
        })
        .after_commit(after_commit)
        .await
    }
}

pub(super) fn taken(error: diesel::result::Error) -> Error {
    if db::is_unique_violation(&error) { super::email_taken() } else { error.into() }
}
