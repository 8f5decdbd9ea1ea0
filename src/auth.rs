//! Access tokens: JWTs to principals, for every surface. A token identifies a user until it expires. It never says
//! what the user may do: that is read from the database when it is needed.

mod external;
mod keys;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::{ExternalIdentityId, SessionId, UserId};
use crate::settings::{AuthSettings, Secret, SettingsError};
use keys::{Keys, TYPE};
use verified::VerifiedTokens;

pub use external::{ExternalIdentity, IssuerDomains, MAX_CLOCK_SKEW, TrustedIssuers};

/// The lifetime of a session's access tokens.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Longest token that is parsed, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The kind of credential that a principal was authenticated with. It is determined when the token is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A session started by a sign-in. It may end before its tokens expire.
    Session(SessionId),
    /// The token of an integration, created by an admin of its home. It may be revoked before it expires.
    Integration(SessionId),
    /// A token of a trusted external issuer, with the link between its subject and the user.
    External(ExternalIdentityId),
    /// A token created by an operator or by `dev`. It belongs to no session.
    Operator,
}

/// The user behind a valid token.
#[derive(Clone, Debug)]
pub struct Principal {
    pub user: UserId,
    pub actor: Actor,
    /// When the token was issued, in whole seconds.
    pub issued_at: DateTime<Utc>,
    /// When the token expires, and with it every stream it opened.
    pub expires_at: DateTime<Utc>,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub enum TokenError {
    /// It is incomplete, forged or of another issuer, or its session has ended.
    Invalid,
    /// It was valid until it expired.
    Expired,
}

impl TokenError {
    /// What a client reads: the same for every token that was never valid here, on purpose.
    pub fn message(self) -> &'static str {
        match self {
            Self::Invalid => "invalid or expired access token",
            Self::Expired => "the access token has expired",
        }
    }
}

/// Issues and verifies access tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<Keys>,
    verified: Arc<VerifiedTokens>,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: String,
    /// The session, if the token belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    /// The integration, or [`OPERATOR`], if the token belongs to no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    iat: i64,
    /// When the token becomes valid. Ours have none.
    #[serde(default, skip_serializing)]
    nbf: Option<i64>,
    exp: i64,
}

/// The `client_id` of tokens that an operator or `dev` created.
const OPERATOR: &str = "operator";

impl Tokens {
    /// HS256 with a secret of at least 32 bytes, and the default issuer and audience.
    pub fn new(secret: &Secret, clock: Clock) -> Self {
        Self::from_settings(&AuthSettings::with_secret(secret.clone()), clock).expect("any secret is a key")
    }

    pub fn from_settings(settings: &AuthSettings, clock: Clock) -> Result<Self, SettingsError> {
        Ok(Self { keys: Arc::new(Keys::new(settings)?), verified: Arc::new(VerifiedTokens::new()), clock })
    }

    /// The public keys that verify our tokens, as a JWK set. Empty when a secret signs.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({"keys": self.keys.public()})
    }

    /// A token for a user, and when it expires.
    pub fn issue(&self, user: UserId, actor: Actor, lifetime: Duration) -> (String, DateTime<Utc>) {
        let now = self.clock.now().trunc_subsecs(0);
        let expires_at = now + lifetime;
        let (mut jti, mut sid, mut client_id) = (uuid::Uuid::new_v4().to_string(), None, None);
        match actor {
            Actor::Session(session) => sid = Some(session.to_string()),
            Actor::Integration(token) => {
                jti = token.to_string();
                client_id = Some(jti.clone());
            }
            // Tokens of external issuers are never issued here.
            Actor::Operator | Actor::External(_) => client_id = Some(OPERATOR.to_owned()),
        }
        let claims = Claims {
            iss: self.keys.issuer.clone(),
            aud: self.keys.audience.clone(),
            sub: user.to_string(),
            jti,
            sid,
            client_id,
            iat: now.timestamp(),
            nbf: None,
            exp: expires_at.timestamp(),
        };
        let key = self.keys.current();
        let token =
            jsonwebtoken::encode(&key.header, &claims, &key.sign).expect("encoding with a key that has signed before");
        (token, expires_at)
    }

    /// The principal of a token that is ours, complete and not expired.
    pub fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let digest = VerifiedTokens::digest(token);
        let principal = match self.verified.get(&digest) {
            Some(principal) => principal,
            None => {
                let principal = self.verify_signature(token)?;
                self.verified.insert(digest, principal.clone());
                principal
            }
        };
        if principal.expires_at <= self.clock.now() { Err(TokenError::Expired) } else { Ok(principal) }
    }

    /// The principal of a token that is ours and complete. It may have expired.
    fn verify_signature(&self, token: &str) -> Result<Principal, TokenError> {
        // The key id selects one of our keys. Everything else in the header is only compared with that key.
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.by_name(kid)).ok_or(TokenError::Invalid)?;
        let data =
            jsonwebtoken::decode::<Claims>(token, &key.verify, &key.validation).map_err(|_| TokenError::Invalid)?;
        // RFC 7515: a token with critical extensions that we do not support must be refused.
        if data.header.typ.as_deref() != Some(TYPE) || data.header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        if data.claims.nbf.is_some_and(|begins_at| begins_at > (self.clock.now() + MAX_CLOCK_SKEW).timestamp()) {
            return Err(TokenError::Invalid);
        }
        let expires_at = DateTime::from_timestamp(data.claims.exp, 0).ok_or(TokenError::Invalid)?;
        let issued_at = DateTime::from_timestamp(data.claims.iat, 0).ok_or(TokenError::Invalid)?;
        if data.claims.jti.is_empty() {
            return Err(TokenError::Invalid);
        }
        let user = data.claims.sub.parse().map_err(|_| TokenError::Invalid)?;
        let actor = match (data.claims.sid, data.claims.client_id) {
            (Some(session), None) => Actor::Session(session.parse().map_err(|_| TokenError::Invalid)?),
            (None, Some(client)) if client == OPERATOR => Actor::Operator,
            (None, Some(token)) if token == data.claims.jti => {
                Actor::Integration(token.parse().map_err(|_| TokenError::Invalid)?)
            }
            _ => return Err(TokenError::Invalid),
        };
        Ok(Principal { user, actor, issued_at, expires_at })
    }
}

#[cfg(test)]
mod tests;
