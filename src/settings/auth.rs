//! Settings of access tokens and accounts.

use super::{Secret, SettingsError, SettingsErrors, Source, TrustedIssuer, all, bad, secret, switch};

/// `iss` and `aud` of our tokens by default.
const DEFAULT_ISSUER: &str = "smarthome";
/// Shortest key of HS256.
const MIN_SECRET_BYTES: usize = 32;

#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// `JWT_SECRET`: HS256 key of at least 32 bytes. Either this or a private key is set.
    pub jwt_secret: Option<Secret>,
    /// `JWT_PRIVATE_KEY_FILE`: PEM of the private key that signs instead.
    pub jwt_private_key: Option<Secret>,
    /// `JWT_PREVIOUS_SECRET`: the previous secret, which still verifies tokens.
    pub jwt_previous_secret: Option<Secret>,
    /// `JWT_PREVIOUS_PRIVATE_KEY_FILE`: PEM of the previous private key, which still verifies tokens.
    pub jwt_previous_private_key: Option<Secret>,
    /// `JWT_ISSUER`: `iss` of every token.
    pub jwt_issuer: String,
    /// `JWT_AUDIENCE`: `aud` of every token.
    pub jwt_audience: String,
    /// `JWT_TRUSTED_ISSUERS`: external issuers whose tokens are accepted as well.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// `REGISTRATION`: whether anybody may register.
    pub registration_open: bool,
}

impl AuthSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let (jwt_secret, jwt_private_key) = (hmac_key(source, "JWT_SECRET"), secret(source, "JWT_PRIVATE_KEY"));
        let one_key = match (&jwt_secret, &jwt_private_key) {
            (Ok(None), Ok(None)) => Err(bad("JWT_SECRET", "missing (or name a file in JWT_SECRET_FILE)")),
            (Ok(Some(_)), Ok(Some(_))) => {
                Err(bad("JWT_PRIVATE_KEY", "set either a private key or JWT_SECRET, not both"))
            }
            _ => Ok(()),
        };
        let jwt_issuer = source.get("JWT_ISSUER").unwrap_or_else(|| DEFAULT_ISSUER.to_owned());
        all!(Self {
            jwt_secret: jwt_secret,
            jwt_private_key: one_key.and(jwt_private_key),
            jwt_previous_secret: hmac_key(source, "JWT_PREVIOUS_SECRET"),
            jwt_previous_private_key: secret(source, "JWT_PREVIOUS_PRIVATE_KEY"),
            trusted_issuers: TrustedIssuer::read(source, &jwt_issuer),
            registration_open: switch(source, "REGISTRATION", ("open", "closed"), false);
            jwt_issuer: jwt_issuer,
            jwt_audience: source.get("JWT_AUDIENCE").unwrap_or_else(|| DEFAULT_ISSUER.to_owned()),
        })
    }

    /// This secret, and defaults for everything else.
    pub fn with_secret(secret: Secret) -> Self {
        Self {
            jwt_secret: Some(secret),
            jwt_private_key: None,
            jwt_previous_secret: None,
            jwt_previous_private_key: None,
            jwt_issuer: DEFAULT_ISSUER.to_owned(),
            jwt_audience: DEFAULT_ISSUER.to_owned(),
            trusted_issuers: Vec::new(),
            registration_open: false,
        }
    }
}

fn hmac_key(source: &impl Source, name: &str) -> Result<Option<Secret>, SettingsError> {
    match secret(source, name)? {
        Some(secret) if secret.reveal().len() < MIN_SECRET_BYTES => {
            Err(bad(name, format!("needs at least {MIN_SECRET_BYTES} bytes; make one with `openssl rand -base64 48`")))
        }
        secret => Ok(secret),
    }
}
