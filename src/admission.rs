//! From a token to somebody who may act now: the one door of every surface. What a token says is judged
//! here and nowhere else; what its holder may do is read from the database on use.

use crate::auth::{InvalidToken, Principal, Tokens};
use crate::error::Error;
use crate::revocation::Revocations;

/// Verifies tokens and asks whether they still hold. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    tokens: Tokens,
    revocations: Revocations,
}

impl Admission {
    /// Over the keys and over what has ended.
    pub fn new(tokens: Tokens, revocations: Revocations) -> Self {
        Self { tokens, revocations }
    }

    /// Whom a token stands for. `UNAUTHENTICATED`, in one text whatever is wrong with it, or
    /// `UNAVAILABLE` where that can't be said now.
    pub async fn admit(&self, token: &str) -> Result<Principal, Error> {
        let principal = self.tokens.verify(token)?;
        self.revocations.admit(&principal)?;
        Ok(principal)
    }
}

impl From<InvalidToken> for Error {
    fn from(_: InvalidToken) -> Self {
        Self::Unauthenticated("invalid or expired access token")
    }
}
