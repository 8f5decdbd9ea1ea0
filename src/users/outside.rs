//! Who somebody at a trusted outside issuer is here. Found once by an e-mail address that the issuer has
//! verified, and fixed from then on: what becomes of addresses later moves nobody into another's account.
//! So an address links the first of an issuer's subjects that bears it, and no other: the issuer may have
//! given it to somebody else since. No account is made this way.

use super::{Users, outside_store, parse_email, store};
use crate::auth::ExternalIdentity;
use crate::db;
use crate::error::Error;
use crate::ids::{ExternalIdentityId, UserId};
use crate::revocation::{Revocation, Revocations};

impl Users {
    /// The person an outsider is, and by which link; `None` where they are nobody here.
    pub async fn outsider(&self, outsider: &ExternalIdentity) -> Result<Option<(ExternalIdentityId, UserId)>, Error> {
        {
            let mut conn = self.pool.get().await?;
            let known = outside_store::find(&mut conn, &outsider.issuer, &outsider.subject).await?;
            if let Some(known) = known {
                return Ok(person(known));
            }
        }
        let Some(Ok(email)) = outsider.email.as_deref().map(parse_email) else { return Ok(None) };
        let (issuer, subject, now) = (outsider.issuer.clone(), outsider.subject.clone(), self.clock.now());
        let linked = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some((user, _)) = store::by_email(conn, &email).await? else { return Ok(None) };
                store::lock_password(conn, user.id).await?;
                if !outside_store::knows(conn, &issuer, user.id).await? {
                    outside_store::insert(conn, &issuer, &subject, user.id, now).await?;
                }
                // Another request may have come first: what it has fixed holds.
                Ok(outside_store::find(conn, &issuer, &subject).await?.and_then(person))
            })
        })
        .await?;
        if let Some((identity, user)) = linked {
            tracing::info!(issuer = &*outsider.issuer, %identity, %user, "an outside identity is linked by its e-mail");
        }
        Ok(linked)
    }

    /// Links somebody at an issuer to the account of an e-mail, for operators: where addresses differ, or
    /// the issuer does not vouch for them, and where a link was taken back.
    pub async fn link(&self, email: &str, issuer: &str, subject: &str) -> Result<(), Error> {
        for (field, value) in [("issuer", issuer), ("subject", subject)] {
            if !(1..=255).contains(&value.len()) || value.contains(char::is_control) {
                return Err(Error::bad_input(field, format!("{field} has 1 to 255 bytes, none of them a control")));
            }
        }
        let (email, issuer, subject) = (parse_email(email)?, issuer.to_owned(), subject.to_owned());
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let (user, _) = store::by_email(conn, &email).await?.ok_or(Error::NotFound("user"))?;
                store::lock_password(conn, user.id).await?;
                outside_store::put(conn, &issuer, &subject, user.id, now).await?;
                match outside_store::find(conn, &issuer, &subject).await?.and_then(person) {
                    Some((_, linked)) if linked == user.id => Ok(()),
                    _ => Err(Error::Conflict("it is linked to another account: unlink it first".to_owned())),
                }
            })
        })
        .await
    }

    /// Takes a link back and ends what was opened by it. No address makes another: whoever bears the
    /// token would be back at once.
    pub async fn unlink(&self, issuer: &str, subject: &str) -> Result<(), Error> {
        let (issuer, subject, now) = (issuer.to_owned(), subject.to_owned(), self.clock.now());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let user = outside_store::take_back(conn, &issuer, &subject).await?;
                let user = user.ok_or(Error::NotFound("link"))?;
                Revocations::record(conn, &[Revocation::Tokens(user, now)]).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}

/// `None` where the link was taken back.
fn person((identity, user): (ExternalIdentityId, Option<UserId>)) -> Option<(ExternalIdentityId, UserId)> {
    user.map(|user| (identity, user))
}
