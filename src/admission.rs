//! From a token to somebody who may act now: the one door of every surface. What a token says is judged
//! here and nowhere else; what its holder may do is read from the database on use.

use crate::auth::{Actor, InvalidToken, Principal, Tokens};
use crate::error::Error;
use crate::homes::Integrations;
use crate::revocation::Revocations;

/// Verifies tokens and asks whether they still hold. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    tokens: Tokens,
    revocations: Revocations,
    integrations: Option<Integrations>,
}

impl Admission {
    /// Over the keys and over what has ended; admits people alone.
    pub fn new(tokens: Tokens, revocations: Revocations) -> Self {
        Self { tokens, revocations, integrations: None }
    }

    /// Admits integrations too.
    #[must_use]
    pub fn with_integrations(self, integrations: Integrations) -> Self {
        Self { integrations: Some(integrations), ..self }
    }

    /// Whom a token stands for. `UNAUTHENTICATED`, in one text whatever is wrong with it, or
    /// `UNAVAILABLE` where that can't be said now.
    pub async fn admit(&self, token: &str) -> Result<Principal, Error> {
        let principal = self.tokens.verify(token)?;
        self.revocations.admit(&principal)?;
        match (&self.integrations, principal.actor) {
            (Some(integrations), Actor::Integration(_)) => integrations.admit(&principal).await?,
            (None, Actor::Integration(_)) => return Err(InvalidToken.into()),
            (_, Actor::Session(_) | Actor::Operator) => {}
        }
        Ok(principal)
    }
}

impl From<InvalidToken> for Error {
    fn from(_: InvalidToken) -> Self {
        Self::Unauthenticated("invalid or expired access token")
    }
}
