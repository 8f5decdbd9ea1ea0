//! Access tokens: a JWT in, a principal out, the same for every surface. A token says who someone is
//! and until when, never what they may do: that is read from the database on use.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::{SessionId, UserId};
use crate::settings::Secret;

/// How long an access token of the API lives.
pub const ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

const ISSUER: &str = "smarthome";
const AUDIENCE: &str = "smarthome";
/// RFC 9068: tells an access token from every other JWT the same key may sign.
const TYPE: &str = "at+jwt";

/// By what somebody acts. A token's kind is judged when it is verified and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A session that a sign-in began: it may end before its tokens do.
    Session(SessionId),
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

struct Keys {
    header: Header,
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
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
    iat: i64,
    exp: i64,
}

impl Tokens {
    /// HS256 with a secret of at least 32 bytes (settings see to that).
    pub fn new(secret: &Secret, clock: Clock) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        // One algorithm: the token's own header never chooses.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Judged below by our own clock, to the second: issuer and judge are one machine or a few with NTP.
        validation.validate_exp = false;
        let (sign, verify) = (
            EncodingKey::from_secret(secret.reveal().as_bytes()),
            DecodingKey::from_secret(secret.reveal().as_bytes()),
        );
        Self { keys: Arc::new(Keys { header, sign, verify, validation }), clock }
    }

    /// A token for a person, and when it ends.
    pub fn issue(&self, user: UserId, actor: Actor, life: Duration) -> (String, DateTime<Utc>) {
        let now = self.clock.now().trunc_subsecs(0);
        let expires_at = now + life;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            jti: uuid::Uuid::new_v4().to_string(),
            sid: match actor {
                Actor::Session(session) => Some(session.to_string()),
                Actor::Operator => None,
            },
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        let token = jsonwebtoken::encode(&self.keys.header, &claims, &self.keys.sign)
            .expect("plain claims under an HS256 key always encode");
        (token, expires_at)
    }

    /// Whom the token stands for, if it is ours, whole and not expired.
    pub fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.keys.verify, &self.keys.validation)
            .map_err(|_| InvalidToken)?;
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
        let actor = match data.claims.sid {
            Some(session) => Actor::Session(session.parse().map_err(|_| InvalidToken)?),
            None => Actor::Operator,
        };
        Ok(Principal { user, actor, issued_at, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn tokens(clock: &Clock) -> Tokens {
        Tokens::new(&Secret::new(SECRET), clock.clone())
    }

    fn forge(header: &Header, claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let clock = Clock::movable();
        let tokens = tokens(&clock);
        let session = SessionId::generate(clock.now());
        let (token, expires_at) = tokens.issue(UserId::from_database(7), Actor::Session(session), ACCESS_TOKEN_LIFE);
        let principal = tokens.verify(&token).unwrap();
        assert_eq!((principal.user.get(), principal.expires_at), (7, expires_at));
        assert_eq!(principal.actor, Actor::Session(session));
        clock.advance(chrono::TimeDelta::minutes(16));
        assert_eq!(tokens.verify(&token).unwrap_err(), InvalidToken);
    }

    #[test]
    fn nothing_forged_or_half_is_accepted() {
        let clock = Clock::system();
        let tokens = tokens(&clock);
        let now = clock.now().timestamp();
        let good = json!({"iss": "smarthome", "aud": "smarthome", "sub": "7", "jti": "x", "iat": now, "exp": now + 60});
        let at = |algorithm| Header { typ: Some("at+jwt".to_owned()), ..Header::new(algorithm) };
        assert!(tokens.verify(&forge(&at(Algorithm::HS256), &good, SECRET)).is_ok());

        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            forge(&at(Algorithm::HS256), &claims, SECRET)
        };
        let without = |name: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            forge(&at(Algorithm::HS256), &claims, SECRET)
        };
        let none = {
            use base64::Engine;
            let encode = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", encode(&json!({"alg": "none", "typ": "at+jwt"})), encode(&good))
        };
        let refused = [
            String::new(),
            "a.b.c".to_owned(),
            none,
            "x".repeat(MAX_TOKEN_BYTES + 1),
            forge(&at(Algorithm::HS256), &good, "another secret of thirty-two byte"),
            forge(&at(Algorithm::HS512), &good, SECRET),
            forge(&Header::new(Algorithm::HS256), &good, SECRET),
            with("exp", json!("never")),
            with("exp", json!(now - 1)),
            with("iss", json!("someone")),
            with("aud", json!("another")),
            with("sub", json!("007")),
            with("sub", json!(7)),
            with("jti", json!("")),
            with("sid", json!("")),
            with("sid", json!(7)),
            without("exp"),
            without("iss"),
            without("aud"),
            without("sub"),
            without("jti"),
            without("iat"),
        ];
        for token in refused {
            assert_eq!(tokens.verify(&token).unwrap_err(), InvalidToken, "{token}");
        }
    }
}
