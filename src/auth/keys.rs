//! Signing keys: the current one, and the previous one, which still verifies. Each key has one algorithm. A token
//! names its key and is verified with that key only.

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sha2::{Digest, Sha256};

use crate::settings::{AuthSettings, Secret, SettingsError};

/// RFC 9068: distinguishes access tokens from other JWTs signed with the same key.
pub(super) const TYPE: &str = "at+jwt";
/// Bytes of the digest that make a secret's key id, in hexadecimal digits.
const KID_BYTES: usize = 8;

/// One key and the validation rules of its tokens.
pub(super) struct Key {
    pub(super) header: Header,
    pub(super) sign: EncodingKey,
    pub(super) verify: DecodingKey,
    pub(super) validation: Validation,
    /// The public key; `None` for a secret.
    public: Option<Jwk>,
}

/// The keys of a server.
pub(super) struct Keys {
    current: Key,
    previous: Option<Key>,
    pub(super) issuer: String,
    pub(super) audience: String,
}

impl Keys {
    /// The keys of the settings. The error names the variable of an unusable private key.
    pub(super) fn new(settings: &AuthSettings) -> Result<Self, SettingsError> {
        let (issuer, audience) = (settings.jwt_issuer.clone(), settings.jwt_audience.clone());
        let key = |pem: &Option<Secret>, secret: &Option<Secret>, name: &str| match (pem, secret) {
            (Some(pem), _) => Key::asymmetric(pem, name).map(Some),
            (None, Some(secret)) => Ok(Some(Key::secret(secret))),
            (None, None) => Ok(None),
        };
        let current = key(&settings.jwt_private_key, &settings.jwt_secret, "JWT_PRIVATE_KEY")?;
        let previous =
            key(&settings.jwt_previous_private_key, &settings.jwt_previous_secret, "JWT_PREVIOUS_PRIVATE_KEY")?;
        let current = current.ok_or_else(|| unusable("JWT_SECRET", "missing"))?;
        let expect = |mut key: Key| {
            key.validation.set_issuer(&[&issuer]);
            key.validation.set_audience(&[&audience]);
            key
        };
        Ok(Self { current: expect(current), previous: previous.map(expect), issuer, audience })
    }

    /// The key that signs.
    pub(super) fn current(&self) -> &Key {
        &self.current
    }

    pub(super) fn by_name(&self, kid: &str) -> Option<&Key> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|key| key.name() == kid)
    }

    /// The public keys for `/.well-known/jwks.json`.
    pub(super) fn public(&self) -> Vec<&Jwk> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|key| key.public.as_ref())
            .collect()
    }
}

impl Key {
    /// HS256 with a secret of at least 32 bytes, as the settings require.
    fn secret(secret: &Secret) -> Self {
        let bytes = secret.reveal().as_bytes();
        let (sign, verify) = (EncodingKey::from_secret(bytes), DecodingKey::from_secret(bytes));
        // A digest tells two secrets apart and reveals no more than a token's signature does.
        let digest = Sha256::new_with_prefix("smarthome kid ").chain_update(bytes).finalize();
        let kid = digest.iter().take(KID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self::new(Algorithm::HS256, kid, sign, verify, None)
    }

    /// The key determines the algorithm: Ed25519, P-256, or RSA of at least 2,048 bits.
    fn asymmetric(pem: &Secret, name: &str) -> Result<Self, SettingsError> {
        let pem = pem.reveal().as_bytes();
        let candidates = [
            (EncodingKey::from_ed_pem(pem), Algorithm::EdDSA),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES256),
            (EncodingKey::from_rsa_pem(pem), Algorithm::RS256),
        ];
        let found = candidates.into_iter().find_map(|(key, algorithm)| Some((key.ok()?, algorithm)));
        let problem = "not a PEM private key of Ed25519, P-256 or RSA with 2,048 bits or more; make one with \
                       `openssl genpkey -algorithm ed25519`";
        let (sign, algorithm) = found.ok_or_else(|| unusable(name, problem))?;
        let usable = || -> jsonwebtoken::errors::Result<Self> {
            let mut public = Jwk::from_encoding_key(&sign, algorithm)?;
            let kid = public.thumbprint(ThumbprintHash::SHA256)?;
            public.common.key_id = Some(kid.clone());
            public.common.public_key_use = Some(PublicKeyUse::Signature);
            let verify = DecodingKey::from_jwk(&public)?;
            // Find out now, not at the first sign-in, whether the key can sign.
            let signature = jsonwebtoken::crypto::sign(b"probe", &sign, algorithm)?;
            jsonwebtoken::crypto::verify(&signature, b"probe", &verify, algorithm)?;
            Ok(Self::new(algorithm, kid, sign.clone(), verify, Some(public)))
        };
        usable().map_err(|_| unusable(name, problem))
    }

    fn new(algorithm: Algorithm, kid: String, sign: EncodingKey, verify: DecodingKey, public: Option<Jwk>) -> Self {
        let mut header = Header::new(algorithm);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(kid);
        // One algorithm: the header of a token never chooses it.
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // `Tokens::verify` checks the expiry by the server's own clock, without leeway: tokens are issued and verified
        // on one machine, or on a few with NTP.
        validation.validate_exp = false;
        Self { header, sign, verify, validation, public }
    }

    fn name(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }
}

fn unusable(name: &str, problem: &str) -> SettingsError {
    SettingsError { name: name.to_owned(), problem: problem.to_owned() }
}
