//! From a token to somebody who may act now: the one door of every surface. What a token says is judged
//! here and nowhere else; what its holder may do is read from the database on use.

use crate::auth::{Actor, InvalidToken, Principal, Tokens, TrustedIssuers};
use crate::error::Error;
use crate::homes::Integrations;
use crate::revocation::Revocations;
use crate::users::Users;

/// Verifies tokens and asks whether they still hold. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    revocations: Revocations,
    integrations: Option<Integrations>,
    outsiders: Option<(TrustedIssuers, Users)>,
}

impl Authenticator {
    /// Over the keys and over what has ended; admits people alone.
    pub fn new(tokens: Tokens, revocations: Revocations) -> Self {
        Self { tokens, revocations, integrations: None, outsiders: None }
    }

    /// Admits integrations too.
    #[must_use]
    pub fn with_integrations(self, integrations: Integrations) -> Self {
        Self { integrations: Some(integrations), ..self }
    }

    /// Admits people by the tokens of these issuers too.
    #[must_use]
    pub fn with_trusted_issuers(self, issuers: TrustedIssuers, users: Users) -> Self {
        Self { outsiders: (!issuers.is_empty()).then_some((issuers, users)), ..self }
    }

    /// Whom a token stands for. `UNAUTHENTICATED`, in one text whatever is wrong with it, or
    /// `UNAVAILABLE` where that can't be said now.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, Error> {
        let principal = match self.tokens.verify(token) {
            Ok(principal) => principal,
            Err(InvalidToken) => self.outsider(token).await?,
        };
        self.revocations.check(&principal).await?;
        match (&self.integrations, principal.actor) {
            (Some(integrations), Actor::Integration(_)) => integrations.admit(&principal).await?,
            (None, Actor::Integration(_)) => return Err(InvalidToken.into()),
            (_, Actor::Session(_) | Actor::Operator | Actor::External(_)) => {}
        }
        Ok(principal)
    }

    async fn outsider(&self, token: &str) -> Result<Principal, Error> {
        let (issuers, users) = self.outsiders.as_ref().ok_or(InvalidToken)?;
        let outsider = issuers.verify(token).await?;
        let (identity, user) = users.outsider(&outsider).await?.ok_or(InvalidToken)?;
        let (issued_at, expires_at) = (outsider.issued_at, outsider.expires_at);
        Ok(Principal { user, actor: Actor::External(identity), issued_at, expires_at })
    }
}

impl From<InvalidToken> for Error {
    fn from(_: InvalidToken) -> Self {
        Self::Unauthenticated("invalid or expired access token")
    }
}
