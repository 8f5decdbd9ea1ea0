//! Access tokens of outside issuers (`JWT_TRUSTED_ISSUERS`): a JWT in, what its issuer says of its bearer
//! out. Whom they are here is not known here.
//!
//! What is judged, and how: the issuer's name finds a configured issuer or nothing, the key's name a key of
//! that issuer's set or nothing, and that key fixes its algorithm. No URL and no key is ever taken from a
//! token. An expired token has no grace, so that what it opened ends when it says.

mod fetch;
mod jwks;
mod jwks_cache;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Header, decode_header};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::{InvalidToken, MAX_TOKEN_BYTES};
use crate::clock::Clock;
use crate::settings::{AuthSettings, SettingsError, TrustedIssuer};
use jwks_cache::JwksCache;

/// How far an issuer's clock may be ahead of ours.
pub const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(30);
/// Longest life of a token: what ends only by its expiry must not live for ever.
const MAX_LIFE: TimeDelta = TimeDelta::hours(24);
/// Bytes of a subject: OpenID Connect's bound.
const MAX_SUBJECT_BYTES: usize = 255;

/// What a valid token of an outside issuer says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdentity {
    /// Who says it.
    pub issuer: Arc<str>,
    /// Names the bearer at that issuer.
    pub subject: String,
    /// An address the issuer has verified and may vouch for.
    pub email: Option<String>,
    /// When the token was made, by the issuer's clock.
    pub issued_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Verifies tokens of all trusted issuers. Cheap to clone.
#[derive(Clone)]
pub struct TrustedIssuers {
    issuers: Arc<[Issuer]>,
    clock: Clock,
}

struct Issuer {
    name: Arc<str>,
    email_domains: Option<std::collections::HashSet<String>>,
    keys: JwksCache,
}

/// Read before anything is verified, to find whose keys are to judge it.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(deserialize_with = "seconds")]
    exp: i64,
    #[serde(deserialize_with = "seconds")]
    iat: i64,
    #[serde(default, deserialize_with = "maybe_seconds")]
    nbf: Option<i64>,
    email: Option<String>,
    /// True and nothing like it: some issuers say "false" in quotes.
    #[serde(default)]
    email_verified: Value,
    #[serde(flatten)]
    kind: Kind,
}

/// By what other tokens of the same keys are known.
#[derive(Deserialize)]
struct Kind {
    /// Keycloak's.
    typ: Option<String>,
    /// Cognito's.
    token_use: Option<String>,
    nonce: Option<Value>,
    at_hash: Option<Value>,
    c_hash: Option<Value>,
    /// Logout and security event tokens'.
    events: Option<Value>,
}

impl TrustedIssuers {
    /// With what the settings name. A file of keys that can't be used stops the start; an issuer that is
    /// away does not.
    pub fn new(settings: &AuthSettings, clock: Clock) -> Result<Self, SettingsError> {
        let issuers = settings.trusted_issuers.iter().map(Issuer::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { issuers: issuers.into(), clock })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// What a token says, if one of the issuers has made it for us and it holds now.
    pub async fn verify(&self, token: &str) -> Result<ExternalIdentity, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let header = decode_header(token).map_err(|_| InvalidToken)?;
        let kid = header.kid.as_deref().filter(|_| is_of_an_access_token(&header)).ok_or(InvalidToken)?;
        let claimed: Claimed = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| InvalidToken)?;
        let issuer = self.issuers.iter().find(|issuer| *issuer.name == *claimed.iss).ok_or(InvalidToken)?;
        let key = issuer.keys.find(kid, self.clock.now()).await.ok_or(InvalidToken)?;
        let data = jsonwebtoken::decode::<Claims>(token, &key.verify, &key.validation).map_err(|_| InvalidToken)?;
        issuer.judge(data.claims, self.clock.now())
    }
}

impl Issuer {
    fn new(settings: &TrustedIssuer) -> Result<Self, SettingsError> {
        Ok(Self {
            name: settings.issuer.as_str().into(),
            email_domains: settings.email_domains.clone(),
            keys: JwksCache::new(settings).map_err(|problem| SettingsError {
                name: "JWT_TRUSTED_ISSUERS".to_owned(),
                problem: format!("keys of {}: {problem}", settings.issuer),
            })?,
        })
    }

    /// Signature, issuer and audience have been verified.
    fn judge(&self, claims: Claims, now: DateTime<Utc>) -> Result<ExternalIdentity, InvalidToken> {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(InvalidToken);
        let (issued_at, expires_at) = (time(claims.iat)?, time(claims.exp)?);
        let begins_at = claims.nbf.map_or(Ok(issued_at), time)?.max(issued_at);
        let is_in_time = expires_at > now && begins_at <= now + MAX_CLOCK_SKEW && expires_at - issued_at <= MAX_LIFE;
        let is_named = (1..=MAX_SUBJECT_BYTES).contains(&claims.sub.len()) && !claims.sub.contains(char::is_control);
        if !is_in_time || !is_named || claims.kind.is_another() {
            return Err(InvalidToken);
        }
        let email = claims.email.filter(|email| claims.email_verified == Value::Bool(true) && self.vouches(email));
        Ok(ExternalIdentity { issuer: self.name.clone(), subject: claims.sub, email, issued_at, expires_at })
    }

    fn vouches(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
        self.email_domains.as_ref().is_none_or(|domains| domain.is_some_and(|domain| domains.contains(&domain)))
    }
}

/// Most outside issuers call their access tokens JWT, as RFC 9068 does not.
fn is_of_an_access_token(header: &Header) -> bool {
    let typ = header.typ.as_deref().unwrap_or_default();
    let is_typed = ["at+jwt", "application/at+jwt", "JWT"].iter().any(|known| typ.eq_ignore_ascii_case(known));
    // What we don't understand is critical to somebody.
    is_typed && header.crit.is_none()
}

impl Kind {
    /// Whether it is another token than one for access: an ID token says who has signed in to some client,
    /// and anybody that client shows it to could come to us with it.
    fn is_another(&self) -> bool {
        let is_access = |kind: &str| ["Bearer", "access"].iter().any(|known| kind.eq_ignore_ascii_case(known));
        let told = self.typ.as_deref().or(self.token_use.as_deref());
        match told {
            Some(kind) => !is_access(kind) || self.events.is_some(),
            None => [&self.nonce, &self.at_hash, &self.c_hash, &self.events].iter().any(|mark| mark.is_some()),
        }
    }
}

/// A number of seconds, perhaps with a fraction; never a text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    whole(&Number::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("not a time"))
}

fn maybe_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    seconds(deserializer).map(Some)
}

fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let seconds = number.as_f64()?.floor();
        // Far beyond any date, and exact.
        #[expect(clippy::cast_possible_truncation, reason = "within the range just checked")]
        (seconds.abs() < 1e12).then_some(seconds as i64)
    })
}

#[cfg(test)]
mod tests;
