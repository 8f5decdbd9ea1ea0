//! Which tokens are accepted, and that forged or incomplete ones are not.

use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
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
fn a_token_is_valid_until_it_expires() {
    let clock = Clock::movable();
    let tokens = tokens(&clock);
    let session = SessionId::generate(clock.now());
    let (token, expires_at) = tokens.issue(UserId::from_database(7), Actor::Session(session), ACCESS_TOKEN_LIFETIME);
    let principal = tokens.verify(&token).unwrap();
    assert_eq!((principal.user.get(), principal.expires_at), (7, expires_at));
    assert_eq!(principal.actor, Actor::Session(session));
    // Now it is remembered.
    assert_eq!(tokens.verify(&token).unwrap().actor, Actor::Session(session));
    for (at, _) in token.match_indices(|c: char| c.is_ascii_lowercase()) {
        let mut forged = token.clone();
        forged.replace_range(at..=at, "A");
        assert_eq!(tokens.verify(&forged).unwrap_err(), TokenError::Invalid, "{forged}");
    }
    clock.advance(chrono::TimeDelta::minutes(16));
    assert_eq!(tokens.verify(&token).unwrap_err(), TokenError::Expired);
}

#[test]
fn forged_and_incomplete_tokens_are_refused() {
    let clock = Clock::system();
    let tokens = tokens(&clock);
    let now = clock.now().timestamp();
    let good = json!({"iss": "smarthome", "aud": "smarthome", "sub": "7", "jti": "x", "client_id": "operator",
                      "iat": now, "exp": now + 60});
    let kid = tokens.keys.current().header.kid.clone();
    let at = |algorithm| Header { typ: Some("at+jwt".to_owned()), kid: kid.clone(), ..Header::new(algorithm) };
    assert!(tokens.verify(&forge(&at(Algorithm::HS256), &good, SECRET)).is_ok());

    let integration = |good: &Value, other: Value| {
        let id = uuid::Uuid::new_v4().to_string();
        let mut claims = good.clone();
        for (name, value) in [("jti", json!(id)), ("client_id", json!(id))] {
            claims[name] = value;
        }
        for (name, value) in other.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let machine = tokens.verify(&forge(&at(Algorithm::HS256), &integration(&good, json!({})), SECRET)).unwrap();
    assert!(matches!(machine.actor, Actor::Integration(_)));
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
    for begun in [now, now + 29] {
        assert!(tokens.verify(&with("nbf", json!(begun))).is_ok());
    }
    assert_eq!(tokens.verify(&with("exp", json!(now - 1))).unwrap_err(), TokenError::Expired);
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..at(Algorithm::HS256) };
    let refused = [
        String::new(),
        forge(&critical, &good, SECRET),
        with("nbf", json!(now + 60)),
        with("nbf", json!("soon")),
        // Neither a session nor a client.
        without("client_id"),
        "a.b.c".to_owned(),
        none,
        "x".repeat(MAX_TOKEN_BYTES + 1),
        forge(&at(Algorithm::HS256), &good, "another secret of thirty-two byte"),
        forge(&at(Algorithm::HS512), &good, SECRET),
        forge(&Header { kid: kid.clone(), ..Header::new(Algorithm::HS256) }, &good, SECRET),
        forge(&Header { kid: None, ..at(Algorithm::HS256) }, &good, SECRET),
        forge(&Header { kid: Some("../../dev/null".to_owned()), ..at(Algorithm::HS256) }, &good, SECRET),
        forge(&Header { kid: Some("' or 1=1 --".to_owned()), ..at(Algorithm::HS256) }, &good, SECRET),
        with("exp", json!("never")),
        with("iss", json!("someone")),
        with("aud", json!("another")),
        with("sub", json!("007")),
        with("sub", json!(7)),
        with("jti", json!("")),
        with("sid", json!("")),
        with("sid", json!(7)),
        with("client_id", json!("")),
        with("client_id", json!(uuid::Uuid::new_v4().to_string())),
        // An integration's token has its own jti as client_id, and no session.
        forge(&at(Algorithm::HS256), &integration(&good, json!({"jti": "x", "client_id": "x"})), SECRET),
        forge(&at(Algorithm::HS256), &integration(&good, json!({"sid": uuid::Uuid::nil().to_string()})), SECRET),
        without("exp"),
        without("iss"),
        without("aud"),
        without("sub"),
        without("jti"),
        without("iat"),
    ];
    for token in refused {
        assert_eq!(tokens.verify(&token).unwrap_err(), TokenError::Invalid, "{token}");
    }
}

pub(super) fn openssl(args: &[&str]) -> Secret {
    let made = Command::new("openssl").args(args).output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Secret::new(String::from_utf8(made.stdout).unwrap())
}

pub(super) fn key(kind: &str) -> Secret {
    match kind {
        "EdDSA" => openssl(&["genpkey", "-algorithm", "ed25519"]),
        "ES256" => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        "RS256" => openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        _ => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    }
}

fn with_key(key: Secret) -> AuthSettings {
    AuthSettings { jwt_secret: None, jwt_private_key: Some(key), ..AuthSettings::with_secret(Secret::new("")) }
}

#[test]
fn a_private_key_signs_with_its_own_algorithm_and_only_its_public_key_is_shown() {
    let clock = Clock::system();
    let user = UserId::from_database(7);
    for kind in ["EdDSA", "ES256", "RS256"] {
        let tokens = Tokens::from_settings(&with_key(key(kind)), clock.clone()).unwrap();
        let (token, _) = tokens.issue(user, Actor::Operator, ACCESS_TOKEN_LIFETIME);
        assert_eq!(tokens.verify(&token).unwrap().user, user, "{kind}");
        let jwks = tokens.jwks();
        let jwk = &jwks["keys"][0];
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((jwk["alg"].as_str(), jwk["kid"].as_str()), (Some(kind), header.kid.as_deref()));
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|private| jwk.get(private).is_none()), "{jwk}");

        // The classic attack: the public key as an HMAC secret.
        let claims: Value = {
            let now = clock.now().timestamp();
            json!({"iss": "smarthome", "aud": "smarthome", "sub": "7", "jti": "x", "iat": now, "exp": now + 60})
        };
        let swapped = Header { typ: header.typ.clone(), kid: header.kid.clone(), ..Header::new(Algorithm::HS256) };
        for secret in [jwk.to_string(), jwk["x"].as_str().or(jwk["n"].as_str()).unwrap().to_owned()] {
            assert_eq!(tokens.verify(&forge(&swapped, &claims, &secret)).unwrap_err(), TokenError::Invalid);
        }
        // A key in the token, or a URL of one.
        let foreign = Tokens::from_settings(&with_key(key(kind)), clock.clone()).unwrap();
        let mut brought = foreign.keys.current().header.clone();
        brought.jwk = Some(serde_json::from_value(foreign.jwks()["keys"][0].clone()).unwrap());
        brought.jku = Some("https://evil.example/jwks.json".to_owned());
        brought.x5u = Some("https://evil.example/x5u".to_owned());
        for kid in [header.kid.clone(), brought.kid.clone()] {
            brought.kid = kid;
            let token = jsonwebtoken::encode(&brought, &claims, &foreign.keys.current().sign).unwrap();
            assert_eq!(tokens.verify(&token).unwrap_err(), TokenError::Invalid, "{kind}");
        }
    }
    assert_eq!(tokens(&clock).jwks(), json!({"keys": []}));
}

#[test]
fn after_a_rotation_the_previous_key_verifies_and_no_longer_signs() {
    let clock = Clock::system();
    let (old, new) = (key("EdDSA"), key("ES256"));
    let before = Tokens::from_settings(&with_key(old.clone()), clock.clone()).unwrap();
    let (token, _) = before.issue(UserId::from_database(7), Actor::Operator, ACCESS_TOKEN_LIFETIME);
    let rotated = AuthSettings { jwt_previous_private_key: Some(old), ..with_key(new.clone()) };
    let rotated = Tokens::from_settings(&rotated, clock.clone()).unwrap();
    assert!(rotated.verify(&token).is_ok());
    let (fresh, _) = rotated.issue(UserId::from_database(7), Actor::Operator, ACCESS_TOKEN_LIFETIME);
    assert!(rotated.verify(&fresh).is_ok() && before.verify(&fresh).is_err());
    assert_eq!(rotated.jwks()["keys"].as_array().unwrap().len(), 2);
    let later = Tokens::from_settings(&with_key(new), clock.clone()).unwrap();
    assert!(later.verify(&token).is_err() && later.verify(&fresh).is_ok());
    // From a secret to a key.
    let secret = tokens(&clock).issue(UserId::from_database(7), Actor::Operator, ACCESS_TOKEN_LIFETIME).0;
    let moved = AuthSettings { jwt_previous_secret: Some(Secret::new(SECRET)), ..with_key(key("EdDSA")) };
    assert!(Tokens::from_settings(&moved, clock).unwrap().verify(&secret).is_ok());
}

#[test]
fn an_unusable_key_stops_the_start_with_the_name_of_its_variable() {
    for unusable in [Secret::new("no key"), key("P-384")] {
        let error = Tokens::from_settings(&with_key(unusable), Clock::system()).err().unwrap();
        assert_eq!(error.name, "JWT_PRIVATE_KEY");
    }
}
