//! Which tokens of external issuers are accepted, and that no others are.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::super::tests::{key, openssl};
use super::*;
use crate::settings::{KeySource, Secret};

/// An issuer's key.
struct Signer {
    kid: &'static str,
    pem: Secret,
    algorithm: Algorithm,
}

impl Signer {
    fn new(kid: &'static str, kind: &str) -> Self {
        let algorithm = kind.parse().unwrap_or(Algorithm::ES384);
        Self { kid, pem: key(kind), algorithm }
    }

    fn key(&self) -> EncodingKey {
        let pem = self.pem.reveal().as_bytes();
        match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            _ => EncodingKey::from_ec_pem(pem),
        }
        .unwrap()
    }

    fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key(), self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    fn header(&self) -> Header {
        Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key()).unwrap()
    }
}

/// A key file, deleted on drop.
struct File(PathBuf);

impl File {
    fn new(keys: &[Value]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = Self(std::env::temp_dir().join(format!("smarthome-jwks-{}-{n}", std::process::id())));
        file.write(&json!({ "keys": keys }).to_string());
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    fn issuer(&self, name: &str) -> TrustedIssuer {
        TrustedIssuer {
            issuer: name.to_owned(),
            audience: "home".to_owned(),
            keys: KeySource::File(self.0.clone()),
            algorithms: ["EdDSA", "ES256", "RS256"].map(str::to_owned).to_vec(),
            email_domains: None,
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn trusting(issuers: Vec<TrustedIssuer>, clock: &Clock) -> Result<TrustedIssuers, SettingsError> {
    let settings = AuthSettings { trusted_issuers: issuers, ..AuthSettings::with_secret(Secret::new("")) };
    TrustedIssuers::new(&settings, clock.clone())
}

fn claims(clock: &Clock) -> Value {
    let now = clock.now().timestamp();
    json!({"iss": "https://a.example", "aud": "home", "sub": "auth0|7", "iat": now, "exp": now + 600})
}

fn with(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

#[tokio::test]
async fn each_kind_of_key_signs_for_its_issuer() {
    let clock = Clock::movable();
    let signers = ["EdDSA", "ES256", "RS256"].map(|kind| Signer::new(kind, kind));
    let file = File::new(&signers.iter().map(Signer::jwk).collect::<Vec<_>>());
    let issuers = trusting(vec![file.issuer("https://a.example")], &clock).unwrap();
    let good = claims(&clock);
    let now = good["iat"].as_i64().unwrap();
    for signer in &signers {
        let identity = issuers.verify(&signer.sign(&good)).await.unwrap();
        assert_eq!((&*identity.issuer, identity.subject.as_str()), ("https://a.example", "auth0|7"));
        assert_eq!((identity.expires_at.timestamp(), identity.email), (now + 600, None));
        let typed = Header { typ: Some("application/AT+JWT".to_owned()), ..signer.header() };
        assert!(issuers.verify(&signer.sign_as(&typed, &good)).await.is_ok());
    }
    for changes in [
        json!({"aud": ["another", "home"]}),
        json!({"exp": f64::from(u32::try_from(now).unwrap()) + 600.5}),
        json!({"iat": now + 29, "nbf": now + 29}),
        json!({"exp": now + 86_400}),
        json!({"typ": "Bearer", "nonce": "x"}),
        json!({"token_use": "access"}),
    ] {
        assert!(issuers.verify(&signers[0].sign(&with(&good, &changes))).await.is_ok(), "{changes}");
    }
    clock.advance(TimeDelta::seconds(601));
    assert!(issuers.verify(&signers[0].sign(&good)).await.is_err());
}

#[test]
fn an_issuers_clock_may_be_30_seconds_ahead() {
    let clock = Clock::movable();
    let file = File::new(&[Signer::new("a", "EdDSA").jwk()]);
    let issuers = trusting(vec![file.issuer("https://a.example")], &clock).unwrap();
    let good = claims(&clock);
    let now = DateTime::from_timestamp(good["iat"].as_i64().unwrap(), 0).unwrap();
    for (claim, seconds, is_accepted) in [("iat", 30, true), ("iat", 31, false), ("nbf", 30, true), ("nbf", 31, false)]
    {
        let claims = with(&good, &json!({claim: now.timestamp() + seconds}));
        let identity = issuers.issuers[0].identity(serde_json::from_value(claims).unwrap(), now);
        assert_eq!(identity.is_ok(), is_accepted, "{claim} + {seconds}");
    }
}

#[tokio::test]
async fn forged_tokens_and_other_kinds_of_tokens_are_refused() {
    let clock = Clock::movable();
    let (a, b, rsa) = (Signer::new("a", "ES256"), Signer::new("b", "ES256"), Signer::new("r", "RS256"));
    let (other_curve, evil) = (Signer::new("p384", "ES384"), Signer::new("a", "ES256"));
    let (file_a, file_b) = (File::new(&[a.jwk(), rsa.jwk(), other_curve.jwk()]), File::new(&[b.jwk()]));
    let both = vec![file_a.issuer("https://a.example"), file_b.issuer("https://b.example")];
    let issuers = trusting(both, &clock).unwrap();
    let good = claims(&clock);
    let now = good["iat"].as_i64().unwrap();
    assert!(issuers.verify(&a.sign(&good)).await.is_ok());

    let mut refused: Vec<String> = [
        json!({"iss": "https://b.example"}),
        json!({"iss": "https://a.example/"}),
        json!({"iss": ["https://a.example"]}),
        json!({"iss": null}),
        json!({"aud": "house"}),
        json!({"aud": ["house"]}),
        json!({"aud": 7}),
        json!({"aud": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "a\u{0}b"}),
        json!({"sub": "x".repeat(256)}),
        json!({"sub": null}),
        json!({"exp": null}),
        json!({"exp": "never"}),
        json!({"exp": (now + 600).to_string()}),
        json!({"exp": 1e300}),
        json!({"exp": now + 86_401}),
        json!({"iat": null}),
        json!({"iat": "0"}),
        // The clock of the test runs on, so these are a minute more than needed.
        json!({"iat": now + 91}),
        json!({"nbf": now + 91}),
        json!({"nbf": "0"}),
        // Another kind of token of the same issuer for the same audience.
        json!({"nonce": "x"}),
        json!({"at_hash": "x"}),
        json!({"c_hash": "x"}),
        json!({"typ": "ID", "nonce": "x"}),
        json!({"typ": "Refresh"}),
        json!({"token_use": "id"}),
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
    ]
    .iter()
    .map(|changes| a.sign(&with(&good, changes)))
    .collect();

    let header = |change: fn(&mut Header)| {
        let mut header = a.header();
        change(&mut header);
        a.sign_as(&header, &good)
    };
    refused.extend([
        header(|header| header.kid = None),
        header(|header| header.kid = Some("unknown".to_owned())),
        header(|header| header.kid = Some("../../dev/null".to_owned())),
        // A's set does not contain B's key.
        header(|header| header.kid = Some("b".to_owned())),
        header(|header| header.typ = None),
        header(|header| header.typ = Some("id+jwt".to_owned())),
        header(|header| header.typ = Some("logout+jwt".to_owned())),
        header(|header| header.crit = Some(vec!["exp".to_owned()])),
        b.sign(&good),
        b.sign_as(&a.header(), &good),
        other_curve.sign(&good),
        "x".repeat(MAX_TOKEN_BYTES + 1),
        "a.b.c".to_owned(),
        a.sign(&with(&good, &json!({"padding": "x".repeat(MAX_TOKEN_BYTES)}))),
    ]);
    // The token contains its own key, or a URL of it.
    let jwk: Jwk = serde_json::from_value(evil.jwk()).unwrap();
    let bringing = Header { jwk: Some(jwk), jku: Some("https://evil.example/keys".to_owned()), ..evil.header() };
    refused.push(evil.sign_as(&bringing, &good));
    refused.push(evil.sign_as(&Header { x5u: bringing.jku.clone(), ..evil.header() }, &good));
    // The public key, in every form, used as an HMAC secret.
    let secrets = [public_pem(&rsa).into_bytes(), rsa.jwk()["n"].as_str().unwrap().as_bytes().to_vec()];
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { alg: algorithm, ..rsa.header() };
            refused.push(jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(&secret)).unwrap());
        }
    }
    // Only the algorithm of the key, though the key could use this one too.
    refused.push(rsa.sign_as(&Header { alg: Algorithm::RS512, ..rsa.header() }, &good));
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "", "HS256"] {
        refused.push(format!("{}.{}.", encode(&json!({"alg": alg, "typ": "JWT", "kid": "a"})), encode(&good)));
    }
    let signature = a.sign(&good).rsplit_once('.').unwrap().1.to_owned();
    refused.push(format!(
        "{}.{}.{signature}",
        encode(&json!({"alg": "ES256", "kid": "a", "typ": "JWT"})),
        encode(&good)
    ));
    for token in refused {
        assert_eq!(issuers.verify(&token).await.unwrap_err(), TokenError::Invalid, "{token}");
    }
    let expired = a.sign(&with(&good, &json!({"exp": now})));
    assert_eq!(issuers.verify(&expired).await.unwrap_err(), TokenError::Expired);
    // Key URLs in the header of a valid token are ignored.
    let telling = Header { jku: bringing.jku, x5u: Some("https://evil.example/x".to_owned()), ..a.header() };
    assert!(issuers.verify(&a.sign_as(&telling, &good)).await.is_ok());
}

fn public_pem(signer: &Signer) -> String {
    let file = File::new(&[]);
    file.write(signer.pem.reveal());
    openssl(&["pkey", "-pubout", "-in", file.0.to_str().unwrap()]).reveal().to_owned()
}

#[tokio::test]
async fn an_address_counts_if_its_issuer_verified_it_and_may() {
    let clock = Clock::movable();
    let a = Signer::new("a", "EdDSA");
    let file = File::new(&[a.jwk()]);
    let domains = Some(["example.com".to_owned()].into());
    let strict = TrustedIssuer { email_domains: domains, ..file.issuer("https://a.example") };
    let issuers = [file.issuer("https://a.example"), strict].map(|issuer| trusting(vec![issuer], &clock).unwrap());
    for (email, verified, plain, strict) in [
        ("ann@Example.com", json!(true), true, true),
        ("ann@other.org", json!(true), true, false),
        ("ann@example.com@other.org", json!(true), true, false),
        ("ann@sub.example.com", json!(true), true, false),
        ("ann@example.com", json!(false), false, false),
        ("ann@example.com", json!("true"), false, false),
        ("ann@example.com", json!(1), false, false),
        ("ann@example.com", Value::Null, false, false),
    ] {
        let token = a.sign(&with(&claims(&clock), &json!({"email": email, "email_verified": verified})));
        for (issuers, counts) in issuers.iter().zip([plain, strict]) {
            let identity = issuers.verify(&token).await.unwrap();
            assert_eq!(identity.email.as_deref(), counts.then_some(email), "{email} {verified}");
        }
    }
}

#[tokio::test]
async fn only_signature_keys_of_allowed_algorithms_are_used() {
    let clock = Clock::movable();
    let a = Signer::new("a", "ES256");
    let refused = [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ECDH-ES"}),
        json!({"kid": null}),
        json!({"kid": ""}),
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!({"crv": "P-384"}),
    ];
    for changes in refused {
        let file = File::new(&[with(&a.jwk(), &changes)]);
        let error = trusting(vec![file.issuer("https://a.example")], &clock).err();
        let error = error.unwrap_or_else(|| panic!("{changes} is accepted"));
        assert!(error.name == "JWT_TRUSTED_ISSUERS" && error.problem.contains("none of its keys"), "{error}");
    }
    let secret = File::new(&[json!({"kty": "oct", "k": "c2VjcmV0", "kid": "h", "alg": "HS256"})]);
    assert!(trusting(vec![secret.issuer("https://a.example")], &clock).is_err());
    secret.write("not JSON");
    assert!(trusting(vec![secret.issuer("https://a.example")], &clock).is_err());
    // Beside a usable key they do no harm.
    let file = File::new(&[json!({"kty": "new"}), with(&a.jwk(), &json!({"kid": "e", "use": "enc"})), a.jwk()]);
    let issuers = trusting(vec![file.issuer("https://a.example")], &clock).unwrap();
    assert!(issuers.verify(&a.sign(&claims(&clock))).await.is_ok());
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes_and_a_broken_file_is_ignored() {
    let clock = Clock::movable();
    let (old, new) = (Signer::new("old", "EdDSA"), Signer::new("new", "EdDSA"));
    let file = File::new(&[old.jwk()]);
    let issuers = trusting(vec![file.issuer("https://a.example")], &clock).unwrap();
    let good = claims(&clock);
    let holds = async |old_holds: bool, new_holds: bool| {
        clock.advance(TimeDelta::seconds(2));
        assert_eq!(issuers.verify(&old.sign(&good)).await.is_ok(), old_holds);
        assert_eq!(issuers.verify(&new.sign(&good)).await.is_ok(), new_holds);
    };
    holds(true, false).await;
    file.write(&json!({"keys": [old.jwk(), new.jwk()]}).to_string());
    holds(true, true).await;
    file.write("{");
    holds(true, true).await;
    std::fs::remove_file(&file.0).unwrap();
    holds(true, true).await;
    file.write(&json!({"keys": [new.jwk()]}).to_string());
    holds(false, true).await;
}
