//! Access tokens of external issuers (`JWT_TRUSTED_ISSUERS`): JWTs to external identities. Which user an identity
//! belongs to is not decided here.
//!
//! `iss` selects a configured issuer, `kid` selects a key of that issuer's JWK set, and that key determines the
//! algorithm. No URL and no key is ever taken from a token. Expiry has no leeway, so that streams end when the token
//! says.

mod email_domains;
mod fetch;
mod jwks;
mod jwks_cache;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Header, decode_header};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::{MAX_TOKEN_BYTES, TokenError};
use crate::clock::Clock;
use crate::settings::{AuthSettings, SettingsError, TrustedIssuer};
use email_domains::EmailDomains;
use jwks_cache::JwksCache;

pub use email_domains::IssuerDomains;

/// How far an issuer's clock may be ahead of ours.
pub const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(30);
/// Longest lifetime of a token: an issuer's token ends only by its expiry.
const MAX_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// Most bytes of a subject, as in OpenID Connect.
const MAX_SUBJECT_BYTES: usize = 255;

/// The claims of a valid token of an external issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdentity {
    pub issuer: Arc<str>,
    /// Identifies the user at that issuer.
    pub subject: String,
    /// An e-mail address that the issuer has verified, in a domain it is trusted for.
    pub email: Option<String>,
    /// When the token was issued, by the issuer's clock.
    pub issued_at: DateTime<Utc>,
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
    email_domains: EmailDomains,
    keys: JwksCache,
}

/// The unverified issuer, which selects the keys to verify the token with.
#[derive(Deserialize)]
struct UnverifiedClaims {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(deserialize_with = "seconds")]
    exp: i64,
    #[serde(deserialize_with = "seconds")]
    iat: i64,
    #[serde(default, deserialize_with = "optional_seconds")]
    nbf: Option<i64>,
    email: Option<String>,
    /// Only JSON `true` counts: some issuers send the string "false".
    #[serde(default)]
    email_verified: Value,
    #[serde(flatten)]
    kind: Kind,
}

/// Claims that identify other kinds of tokens signed with the same keys.
#[derive(Deserialize)]
struct Kind {
    /// Set by Keycloak.
    typ: Option<String>,
    /// Set by Amazon Cognito.
    token_use: Option<String>,
    nonce: Option<Value>,
    at_hash: Option<Value>,
    c_hash: Option<Value>,
    /// Set in logout and security event tokens.
    events: Option<Value>,
}

impl TrustedIssuers {
    /// Fails when a key file can't be used. An unreachable issuer is no error at the start.
    pub fn new(settings: &AuthSettings, clock: Clock) -> Result<Self, SettingsError> {
        let issuers = settings.trusted_issuers.iter().map(Issuer::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { issuers: issuers.into(), clock })
    }

    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The identity of a token that a trusted issuer has issued for us and that is valid now.
    pub async fn verify(&self, token: &str) -> Result<ExternalIdentity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.as_deref().filter(|_| is_access_token_type(&header)).ok_or(TokenError::Invalid)?;
        let claimed: UnverifiedClaims =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenError::Invalid)?;
        let issuer = self.issuers.iter().find(|issuer| *issuer.name == *claimed.iss).ok_or(TokenError::Invalid)?;
        let key = issuer.keys.find(kid, self.clock.now()).await.ok_or(TokenError::Invalid)?;
        let data =
            jsonwebtoken::decode::<Claims>(token, &key.verify, &key.validation).map_err(|_| TokenError::Invalid)?;
        issuer.identity(data.claims, self.clock.now())
    }
}

impl Issuer {
    fn new(settings: &TrustedIssuer) -> Result<Self, SettingsError> {
        Ok(Self {
            name: settings.issuer.as_str().into(),
            email_domains: EmailDomains(settings.email_domains.clone()),
            keys: JwksCache::new(settings).map_err(|problem| SettingsError {
                name: "JWT_TRUSTED_ISSUERS".to_owned(),
                problem: format!("keys of {}: {problem}", settings.issuer),
            })?,
        })
    }

    /// Checks the remaining claims. Signature, issuer and audience are verified already.
    fn identity(&self, claims: Claims, now: DateTime<Utc>) -> Result<ExternalIdentity, TokenError> {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(TokenError::Invalid);
        let (issued_at, expires_at) = (time(claims.iat)?, time(claims.exp)?);
        let begins_at = claims.nbf.map_or(Ok(issued_at), time)?.max(issued_at);
        let is_in_time = begins_at <= now + MAX_CLOCK_SKEW && expires_at - issued_at <= MAX_LIFETIME;
        let is_named = (1..=MAX_SUBJECT_BYTES).contains(&claims.sub.len()) && !claims.sub.contains(char::is_control);
        if !is_in_time || !is_named || claims.kind.is_other_token() {
            return Err(TokenError::Invalid);
        }
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        let is_verified = claims.email_verified == Value::Bool(true);
        let email = claims.email.filter(|email| is_verified && self.email_domains.contain(email));
        Ok(ExternalIdentity { issuer: self.name.clone(), subject: claims.sub, email, issued_at, expires_at })
    }
}

/// Most issuers use the type `JWT` for access tokens, other than RFC 9068 requires.
fn is_access_token_type(header: &Header) -> bool {
    let typ = header.typ.as_deref().unwrap_or_default();
    let is_typed = ["at+jwt", "application/at+jwt", "JWT"].iter().any(|known| typ.eq_ignore_ascii_case(known));
    // RFC 7515: a token with critical extensions that we do not support must be refused.
    is_typed && header.crit.is_none()
}

impl Kind {
    /// Whether the token is not an access token. An ID token, for example, is meant for the client where the user signed
    /// in; anybody who obtains it there could present it here.
    fn is_other_token(&self) -> bool {
        let is_access = |kind: &str| ["Bearer", "access"].iter().any(|known| kind.eq_ignore_ascii_case(known));
        let stated = self.typ.as_deref().or(self.token_use.as_deref());
        match stated {
            Some(kind) => !is_access(kind) || self.events.is_some(),
            None => [&self.nonce, &self.at_hash, &self.c_hash, &self.events].iter().any(|mark| mark.is_some()),
        }
    }
}

/// A JSON number of seconds, possibly with a fraction; a string is an error.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    whole(&Number::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("not a time"))
}

fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    seconds(deserializer).map(Some)
}

fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let seconds = number.as_f64()?.floor();
        // Beyond any date, and within the range of exact integers.
        #[expect(clippy::cast_possible_truncation, reason = "within the range just checked")]
        (seconds.abs() < 1e12).then_some(seconds as i64)
    })
}

#[cfg(test)]
mod tests;
