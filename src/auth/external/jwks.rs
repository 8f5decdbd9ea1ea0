//! From a JWK set to verification keys. Keys that are not for signatures, or whose algorithm is not allowed for the
//! issuer, are ignored: a set may contain keys for other purposes.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::settings::TrustedIssuer;

/// Most keys of one set; the rest is ignored.
const MAX_KEYS: usize = 64;
/// Most bytes of a key id.
const MAX_KID_BYTES: usize = 255;

/// A public key and the validation rules of its tokens.
pub(super) struct Key {
    pub(super) verify: DecodingKey,
    pub(super) validation: Validation,
}

/// The keys of an issuer by key id.
pub(super) type Keys = HashMap<String, Arc<Key>>;

/// The rules for all tokens of an issuer.
pub(super) struct Rules {
    issuer: String,
    audience: String,
    algorithms: Vec<Algorithm>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Rules {
    pub(super) fn new(settings: &TrustedIssuer) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            algorithms: settings.algorithms.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The usable keys of a set. None is no error: the issuer has withdrawn its keys.
    pub(super) fn keys(&self, set: &[u8]) -> Result<Keys, String> {
        let set: Set = serde_json::from_slice(set).map_err(|error| format!("not a JWK set: {error}"))?;
        let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let mut keys = Keys::new();
        for (kid, key) in jwks.filter_map(|jwk| self.key(&jwk)) {
            keys.entry(kid).or_insert_with(|| Arc::new(key));
        }
        Ok(keys)
    }

    fn key(&self, jwk: &Jwk) -> Option<(String, Key)> {
        let common = &jwk.common;
        let kid = common.key_id.clone().filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()))?;
        let is_for_signatures = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return None;
        }
        // One algorithm a key: the one the set states, otherwise the first allowed one that fits. Never the token's.
        let supported = supported(&jwk.algorithm);
        let algorithm = match common.key_algorithm {
            Some(named) => Algorithm::try_from(named).ok().filter(|named| supported.contains(named))?,
            None => self.algorithms.iter().copied().find(|allowed| supported.contains(allowed))?,
        };
        if !self.algorithms.contains(&algorithm) {
            return None;
        }
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // `Issuer::identity` checks times by the server's own clock.
        validation.validate_exp = false;
        Some((kid, Key { verify: DecodingKey::from_jwk(jwk).ok()?, validation }))
    }
}

/// The algorithms of this kind of key. Symmetric keys have none: a secret can't be in a public set.
fn supported(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    match parameters {
        AlgorithmParameters::RSA(_) => {
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            &[RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => &[],
    }
}
