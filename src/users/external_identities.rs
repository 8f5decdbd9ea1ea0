//! Links between accounts and identities (issuer, subject) of trusted external issuers.
//!
//! The first token with a verified e-mail links its subject to the account with that e-mail. The link is permanent:
//! later changes of addresses never move a subject to another account. An e-mail links only the first subject of an
//! issuer, because the issuer may later assign the address to another person. An account that has to verify its address is not
//! linked before. No account is created this way.

use super::{Users, external_identities_store, parse_email, store};
use crate::auth::ExternalIdentity;
use crate::db;
use crate::error::Error;
use crate::ids::{ExternalIdentityId, UserId};
use crate::revocation::{Revocation, Revocations};

impl Users {
    /// The account linked to an external identity, and the link's id. Links it by e-mail if possible; `None` if there
    /// is no account.
    pub async fn external_user(
        &self,
        identity: &ExternalIdentity,
    ) -> Result<Option<(ExternalIdentityId, UserId)>, Error> {
        {
            let mut conn = self.pool.get().await?;
            let known = external_identities_store::find(&mut conn, &identity.issuer, &identity.subject).await?;
            if let Some(known) = known {
                return Ok(linked_user(known));
            }
        }
        let Some(Ok(email)) = identity.email.as_deref().map(parse_email) else { return Ok(None) };
        let (issuer, subject, now) = (identity.issuer.clone(), identity.subject.clone(), self.clock.now());
        let is_demanded = self.email_verification.is_demanded;
        let linked = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some(user) = store::lock_by_email(conn, &email).await? else { return Ok(None) };
                // Whoever made the account may know its password, and not be the owner of the address.
                if is_demanded && !store::is_email_verified(conn, user).await? {
                    return Ok(None);
                }
                if !external_identities_store::has_link(conn, &issuer, user).await? {
                    external_identities_store::insert(conn, &issuer, &subject, user, now).await?;
                }
                // A concurrent request may have inserted the link first: read what is stored.
                Ok(external_identities_store::find(conn, &issuer, &subject).await?.and_then(linked_user))
            })
        })
        .await?;
        if let Some((link, user)) = linked {
            tracing::info!(issuer = &*identity.issuer, identity = %link, %user, "linked an external identity by its e-mail");
        }
        Ok(linked)
    }

    /// Links an external identity to the account with this e-mail, for operators: if the addresses differ, if the
    /// issuer does not verify them, or if a link was removed.
    pub async fn link(&self, email: &str, issuer: &str, subject: &str) -> Result<(), Error> {
        for (field, value) in [("issuer", issuer), ("subject", subject)] {
            if !(1..=255).contains(&value.len()) || value.contains(char::is_control) {
                return Err(Error::bad_input(
                    field,
                    format!("{field} must have 1 to 255 bytes and no control characters"),
                ));
            }
        }
        let (email, issuer, subject) = (parse_email(email)?, issuer.to_owned(), subject.to_owned());
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = store::lock_by_email(conn, &email).await?.ok_or(Error::NotFound("user"))?;
                external_identities_store::insert_or_restore(conn, &issuer, &subject, user, now).await?;
                match external_identities_store::find(conn, &issuer, &subject).await?.and_then(linked_user) {
                    Some((_, linked)) if linked == user => Ok(()),
                    _ => Err(Error::Conflict("this identity is linked to another account: unlink it first".to_owned())),
                }
            })
        })
        .await
    }

    /// Removes a link and revokes its tokens. The row stays without a user, so that the e-mail of the next token does
    /// not restore the link.
    pub async fn unlink(&self, issuer: &str, subject: &str) -> Result<(), Error> {
        let (issuer, subject, now) = (issuer.to_owned(), subject.to_owned(), self.clock.now());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = external_identities_store::remove_user(conn, &issuer, &subject).await?;
                let user = user.ok_or(Error::NotFound("link"))?;
                Revocations::record(conn, &[Revocation::Tokens(user, now)]).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}

/// `None` if the link was removed.
fn linked_user((identity, user): (ExternalIdentityId, Option<UserId>)) -> Option<(ExternalIdentityId, UserId)> {
    user.map(|user| (identity, user))
}
