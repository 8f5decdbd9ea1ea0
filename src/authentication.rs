//! From a token to a principal, for every surface. Tokens are judged here and nowhere else. What the principal may do
//! is read from the database when it is needed.

use crate::auth::{Actor, Principal, TokenError, Tokens, TrustedIssuers};
use crate::error::{CredentialsError, Error};
use crate::homes::Integrations;
use crate::revocation::Revocations;
use crate::users::Users;

/// Verifies tokens and checks that they are not revoked. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    revocations: Revocations,
    integrations: Option<Integrations>,
    external: Option<(TrustedIssuers, Users)>,
}

impl Authenticator {
    /// Accepts tokens of users; see below for integrations and external issuers.
    pub fn new(tokens: Tokens, revocations: Revocations) -> Self {
        Self { tokens, revocations, integrations: None, external: None }
    }

    /// Accepts tokens of integrations as well.
    #[must_use]
    pub fn with_integrations(self, integrations: Integrations) -> Self {
        Self { integrations: Some(integrations), ..self }
    }

    /// Accepts tokens of these external issuers as well.
    #[must_use]
    pub fn with_trusted_issuers(self, issuers: TrustedIssuers, users: Users) -> Self {
        Self { external: (!issuers.is_empty()).then_some((issuers, users)), ..self }
    }

    /// The principal of a token. Fails with `UNAUTHENTICATED`, with one message for every token that was never valid here, or with
    /// `UNAVAILABLE` when the token can't be checked now.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, Error> {
        let principal = match self.tokens.verify(token) {
            Ok(principal) => principal,
            Err(TokenError::Invalid) => self.verify_external(token).await?,
            Err(expired @ TokenError::Expired) => return Err(expired.into()),
        };
        self.revocations.check(&principal).await?;
        match (&self.integrations, principal.actor) {
            (Some(integrations), Actor::Integration(_)) => integrations.authenticate(&principal).await?,
            (None, Actor::Integration(_)) => return Err(TokenError::Invalid.into()),
            (_, Actor::Session(_) | Actor::Operator | Actor::External(_)) => {}
        }
        Ok(principal)
    }

    async fn verify_external(&self, token: &str) -> Result<Principal, Error> {
        let (issuers, users) = self.external.as_ref().ok_or(TokenError::Invalid)?;
        let external = issuers.verify(token).await?;
        let (identity, user) = users.external_user(&external).await?.ok_or(TokenError::Invalid)?;
        let (issued_at, expires_at) = (external.issued_at, external.expires_at);
        Ok(Principal { user, actor: Actor::External(identity), issued_at, expires_at })
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        let reason = match error {
            TokenError::Invalid => CredentialsError::TokenInvalid,
            TokenError::Expired => CredentialsError::TokenExpired,
        };
        Self::Unauthenticated(reason, error.message())
    }
}
