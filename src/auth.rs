//! Access tokens: a JWT in, a principal out, the same for every surface. A token says who someone is
//! and until when, never what they may do: that is read from the database on use.

mod external;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::{ExternalIdentityId, SessionId, UserId};
use crate::settings::{AuthSettings, Secret, SettingsError};
use keys::{Keys, TYPE};

pub use external::{ExternalIdentity, MAX_CLOCK_SKEW, TrustedIssuers};

/// How long an access token of the API lives.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// By what somebody acts. A token's kind is judged when it is verified and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A session that a sign-in began: it may end before its tokens do.
    Session(SessionId),
    /// A token that a home's admin has made for an integration: it may end before its time too.
    Integration(SessionId),
    /// A token of a trusted outside issuer, by the link that says who its bearer is here.
    External(ExternalIdentityId),
    /// A token that an operator, or `dev`, has made for somebody. It belongs to no session.
    Operator,
}

/// Who a valid token stands for.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The person.
    pub user: UserId,
    /// By what they act.
    pub actor: Actor,
    /// When the token was made, to the second.
    pub issued_at: DateTime<Utc>,
    /// When the token ends, and with it every stream opened under it.
    pub expires_at: DateTime<Utc>,
}

/// The token is missing something, forged, expired or not ours. Says no more on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid or expired access token")]
pub struct InvalidToken;

/// Issues and verifies access tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<Keys>,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: String,
    /// The session; none on a token that belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    /// The integration whose token it is; none on a person's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    iat: i64,
    exp: i64,
}

impl Tokens {
    /// HS256 with a secret of at least 32 bytes and the usual issuer and audience.
    pub fn new(secret: &Secret, clock: Clock) -> Self {
        Self::from_settings(&AuthSettings::with_secret(secret.clone()), clock).expect("any secret is a key")
    }

    /// With the keys, issuer and audience that the settings name.
    pub fn from_settings(settings: &AuthSettings, clock: Clock) -> Result<Self, SettingsError> {
        Ok(Self { keys: Arc::new(Keys::new(settings)?), clock })
    }

    /// The public keys that verify our tokens, as a JWK set. Empty with a secret.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({"keys": self.keys.public()})
    }

    /// A token for a person, and when it ends.
    pub fn issue(&self, user: UserId, actor: Actor, life: Duration) -> (String, DateTime<Utc>) {
        let now = self.clock.now().trunc_subsecs(0);
        let expires_at = now + life;
        let (mut jti, mut sid, mut client_id) = (uuid::Uuid::new_v4().to_string(), None, None);
        match actor {
            Actor::Session(session) => sid = Some(session.to_string()),
            Actor::Integration(token) => {
                jti = token.to_string();
                client_id = Some(jti.clone());
            }
            // Of an outside issuer we make none.
            Actor::Operator | Actor::External(_) => {}
        }
        let claims = Claims {
            iss: self.keys.issuer.clone(),
            aud: self.keys.audience.clone(),
            sub: user.to_string(),
            jti,
            sid,
            client_id,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        let key = self.keys.current();
        let token = jsonwebtoken::encode(&key.header, &claims, &key.sign)
            .expect("plain claims under a key that was tried always encode");
        (token, expires_at)
    }

    /// Whom the token stands for, if it is ours, whole and not expired.
    pub fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        // The name finds a key of ours or nothing; all else the header says is only compared.
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken)?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.by_name(kid)).ok_or(InvalidToken)?;
        let data = jsonwebtoken::decode::<Claims>(token, &key.verify, &key.validation).map_err(|_| InvalidToken)?;
        if data.header.typ.as_deref() != Some(TYPE) {
            return Err(InvalidToken);
        }
        let now = self.clock.now();
        let expires_at = DateTime::from_timestamp(data.claims.exp, 0).ok_or(InvalidToken)?;
        let issued_at = DateTime::from_timestamp(data.claims.iat, 0).ok_or(InvalidToken)?;
        if expires_at <= now || data.claims.jti.is_empty() {
            return Err(InvalidToken);
        }
        let user = data.claims.sub.parse().map_err(|_| InvalidToken)?;
        let actor = match (data.claims.sid, data.claims.client_id) {
            (Some(session), None) => Actor::Session(session.parse().map_err(|_| InvalidToken)?),
            (None, Some(token)) if token == data.claims.jti => {
                Actor::Integration(token.parse().map_err(|_| InvalidToken)?)
            }
            (None, None) => Actor::Operator,
            _ => return Err(InvalidToken),
        };
        Ok(Principal { user, actor, issued_at, expires_at })
    }
}

#[cfg(test)]
mod tests;
