//! The environment, read once into types. A missing or unusable value names itself and stops the
//! start. Nothing else in the crate looks at the environment.

mod broker_url;
mod database_url;
mod device_limit;
mod encryption;
mod issuers;
mod mqtt;
mod provisioning;
mod proxies;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use broker_url::{BrokerUrl, Transport};
pub use database_url::DatabaseUrl;
pub use device_limit::DeviceLimit;
pub use encryption::{EncryptionKey, EncryptionSettings};
pub use issuers::{KeySource, TrustedIssuer};
pub use mqtt::MqttSettings;
pub use provisioning::{AuthEndpoint, DynsecAccount, Provisioning};
pub use proxies::TrustedProxies;

/// A value that must never reach a log: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A setting that is missing or unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct SettingsError {
    /// The environment variable.
    pub name: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

/// Everything `serve` is told by its environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub database: DatabaseSettings,
    /// The broker.
    pub mqtt: MqttSettings,
    /// The HTTP surface.
    pub http: HttpSettings,
    /// Tokens and accounts.
    pub auth: AuthSettings,
    /// What seals secrets in the database.
    pub encryption: EncryptionSettings,
    /// `RATE_LIMITS`: whether budgets and delays hold.
    pub rate_limits: bool,
    /// How much one device may say; `None`: as much as it likes.
    pub device_limit: Option<DeviceLimit>,
    /// `PRESENCE_TIMEOUT_SECONDS`: silence after which a device counts as offline.
    pub presence_timeout: Duration,
}

/// Where the data lives.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `DATABASE_URL`: a PostgreSQL URL or keyword string, see [`DatabaseUrl`]; `sslmode=require` turns TLS on.
    pub url: Secret,
    /// `DATABASE_POOL_SIZE`: connections for the API; ingest has its own one.
    pub pool_size: u32,
}

/// What HTTP clients meet.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `HTTP_ADDR`.
    pub addr: SocketAddr,
    /// `GRAPHQL_INTROSPECTION`.
    pub introspection: bool,
    /// `GRAPHIQL`.
    pub graphiql: bool,
    /// `CORS_ORIGINS`: comma-separated origins that may call from a browser; none by default.
    pub cors_origins: Vec<String>,
    /// `TRUSTED_PROXIES`: comma-separated addresses and networks of the proxies in front; none by default.
    pub trusted_proxies: TrustedProxies,
}

/// Who may get a token, and what signs it.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// `JWT_SECRET`: HS256 key of at least 32 bytes; there is one where there is no private key.
    pub jwt_secret: Option<Secret>,
    /// `JWT_PRIVATE_KEY_FILE`: PEM of the private key that signs instead.
    pub jwt_private_key: Option<Secret>,
    /// `JWT_PREVIOUS_SECRET`: what signed before, and still verifies.
    pub jwt_previous_secret: Option<Secret>,
    /// `JWT_PREVIOUS_PRIVATE_KEY_FILE`: PEM of the private key that signed before.
    pub jwt_previous_private_key: Option<Secret>,
    /// `JWT_ISSUER`: `iss` of every token.
    pub jwt_issuer: String,
    /// `JWT_AUDIENCE`: `aud` of every token.
    pub jwt_audience: String,
    /// `JWT_TRUSTED_ISSUERS`: whose tokens are taken beside our own.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// `REGISTRATION`: whether anybody may register.
    pub registration_open: bool,
}

/// `iss` and `aud` of our tokens, unless told otherwise.
const DEFAULT_ISSUER: &str = "smarthome";

/// Where variables come from: the process's environment, or a test's table.
pub trait Source {
    /// The value of one variable, if it is set and not empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
pub struct Environment;

impl Source for Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl<F: Fn(&str) -> Option<String>> Source for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

impl Settings {
    /// Reads everything `serve` needs.
    pub fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let rate_limits = switch(source, "RATE_LIMITS", ("on", "off"), true)?;
        Ok(Self {
            database: DatabaseSettings::read(source)?,
            mqtt: MqttSettings::read(source)?,
            http: HttpSettings::read(source)?,
            auth: AuthSettings::read(source)?,
            encryption: EncryptionSettings::read(source)?,
            rate_limits,
            device_limit: DeviceLimit::read(source)?.filter(|_| rate_limits),
            presence_timeout: Duration::from_secs(number(source, "PRESENCE_TIMEOUT_SECONDS", 150, 1..=86_400)?),
        })
    }
}

impl DatabaseSettings {
    /// `DATABASE_URL` (or `DATABASE_URL_FILE`) and the pool's size.
    pub fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let url = required_secret(source, "DATABASE_URL")?;
        let split = DatabaseUrl::split(url.reveal());
        let parsed: Result<tokio_postgres::Config, _> = split.url.parse();
        // The parser's text may quote the URL, password included.
        parsed.map_err(|_| bad("DATABASE_URL", "not a PostgreSQL URL, e.g. postgres://user:password@host/database"))?;
        if let Some(path) = split.root_cert.filter(|path| std::fs::File::open(path).is_err()) {
            return Err(bad("DATABASE_URL", format!("sslrootcert: can't read {}", path.display())));
        }
        let pool_size = number(source, "DATABASE_POOL_SIZE", 10, 1..=1000)?;
        Ok(Self { url, pool_size: u32::try_from(pool_size).expect("bounded above") })
    }
}

impl HttpSettings {
    /// `HTTP_ADDR` and the switches of the GraphQL surface.
    pub fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let addr = source.get("HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:4000".to_owned());
        let origins = source.get("CORS_ORIGINS").unwrap_or_default();
        let cors_origins: Vec<_> =
            origins.split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned).collect();
        if !cors_origins.iter().all(|origin| is_origin(origin)) {
            return Err(bad(
                "CORS_ORIGINS",
                "origins as browsers send them, e.g. https://app.example.com: no path, no *",
            ));
        }
        Ok(Self {
            addr: addr.parse().map_err(|_| bad("HTTP_ADDR", "an address and port such as 0.0.0.0:4000"))?,
            introspection: switch(source, "GRAPHQL_INTROSPECTION", ("on", "off"), false)?,
            graphiql: switch(source, "GRAPHIQL", ("on", "off"), false)?,
            cors_origins,
            trusted_proxies: source
                .get("TRUSTED_PROXIES")
                .unwrap_or_default()
                .parse()
                .map_err(|problem: String| bad("TRUSTED_PROXIES", problem))?,
        })
    }
}

impl AuthSettings {
    /// `JWT_*` and `REGISTRATION`.
    pub fn read(source: &impl Source) -> Result<Self, SettingsError> {
        let (jwt_secret, jwt_private_key) = (secret(source, "JWT_SECRET")?, secret(source, "JWT_PRIVATE_KEY")?);
        let jwt_previous_secret = secret(source, "JWT_PREVIOUS_SECRET")?;
        match (&jwt_secret, &jwt_private_key) {
            (None, None) => return Err(bad("JWT_SECRET", "missing (or name a file in JWT_SECRET_FILE)")),
            (Some(_), Some(_)) => {
                return Err(bad("JWT_PRIVATE_KEY", "set either a private key or JWT_SECRET, not both"));
            }
            _ => {}
        }
        for (name, secret) in [("JWT_SECRET", &jwt_secret), ("JWT_PREVIOUS_SECRET", &jwt_previous_secret)] {
            if secret.as_ref().is_some_and(|secret| secret.reveal().len() < 32) {
                return Err(bad(name, "at least 32 bytes; make one with `openssl rand -base64 48`"));
            }
        }
        let jwt_issuer = source.get("JWT_ISSUER").unwrap_or_else(|| DEFAULT_ISSUER.to_owned());
        Ok(Self {
            trusted_issuers: TrustedIssuer::read(source, &jwt_issuer)?,
            jwt_secret,
            jwt_private_key,
            jwt_previous_secret,
            jwt_previous_private_key: secret(source, "JWT_PREVIOUS_PRIVATE_KEY")?,
            jwt_issuer,
            jwt_audience: source.get("JWT_AUDIENCE").unwrap_or_else(|| DEFAULT_ISSUER.to_owned()),
            registration_open: switch(source, "REGISTRATION", ("open", "closed"), false)?,
        })
    }

    /// A secret, and the default of all else.
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

/// Whether a text is an origin exactly as a browser spells it: what differs by a byte never matches.
fn is_origin(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text)
}

fn bad(name: &str, problem: impl Into<String>) -> SettingsError {
    SettingsError { name: name.to_owned(), problem: problem.into() }
}

fn required(source: &impl Source, name: &str) -> Result<String, SettingsError> {
    source.get(name).ok_or_else(|| bad(name, "missing"))
}

/// `NAME`, or the content of the file that `NAME_FILE` names, without its line end.
fn secret(source: &impl Source, name: &str) -> Result<Option<Secret>, SettingsError> {
    let by_file = format!("{name}_FILE");
    match (source.get(name), source.get(&by_file)) {
        (Some(_), Some(_)) => Err(bad(name, format!("set either {name} or {by_file}, not both"))),
        (Some(value), None) => Ok(Some(Secret(value))),
        (None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(bad(&by_file, "the file is empty")),
            Ok(text) => Ok(Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))),
            Err(error) => Err(bad(&by_file, format!("can't read {path}: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

fn required_secret(source: &impl Source, name: &str) -> Result<Secret, SettingsError> {
    secret(source, name)?.ok_or_else(|| bad(name, format!("missing (or name a file in {name}_FILE)")))
}

fn number(
    source: &impl Source,
    name: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, SettingsError> {
    let Some(text) = source.get(name) else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| bad(name, format!("a whole number from {} to {}", range.start(), range.end())))
}

fn switch(source: &impl Source, name: &str, (on, off): (&str, &str), default: bool) -> Result<bool, SettingsError> {
    match source.get(name).as_deref() {
        None => Ok(default),
        Some(value) if value == on => Ok(true),
        Some(value) if value == off => Ok(false),
        Some(_) => Err(bad(name, format!("`{on}` or `{off}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(&move |name: &str| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    const GOOD: [(&str, &str); 3] = [
        ("DATABASE_URL", "postgres://u:p@db/smarthome"),
        ("MQTT_BROKER_URL", "mqtts://broker.example.com"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ];

    #[test]
    fn three_variables_are_enough() {
        let settings = read(&GOOD).unwrap();
        assert_eq!(settings.mqtt.broker.port, 8883);
        assert_eq!(settings.mqtt.public_url, "mqtts://broker.example.com");
        assert_eq!(settings.presence_timeout, Duration::from_secs(150));
        assert_eq!(settings.device_limit, Some(DeviceLimit { per_second: 20, burst: 5_000 }));
        let with_origins = [&GOOD[..], &[("CORS_ORIGINS", "https://a.example.com, http://[::1]:5173")]].concat();
        assert_eq!(read(&with_origins).unwrap().http.cors_origins, ["https://a.example.com", "http://[::1]:5173"]);
        assert!(!settings.http.introspection && !settings.http.graphiql && !settings.auth.registration_open);
    }

    #[test]
    fn each_of_three_switches_ends_the_limit_of_devices() {
        for off in [("DEVICE_RATE_LIMIT", "0"), ("DEVICE_BURST", "0"), ("RATE_LIMITS", "off")] {
            assert_eq!(read(&[&GOOD[..], &[off]].concat()).unwrap().device_limit, None, "{off:?}");
        }
    }

    #[test]
    fn a_missing_or_unusable_value_names_itself() {
        for (name, _) in GOOD {
            let rest: Vec<_> = GOOD.into_iter().filter(|(n, _)| *n != name).collect();
            assert_eq!(read(&rest).unwrap_err().name, name);
        }
        for wrong in [
            ("JWT_SECRET", "short"),
            ("MQTT_BROKER_URL", "http://host"),
            ("MQTT_BROKER_URL", "mqtt://user:pw@host"),
            ("HTTP_ADDR", "localhost"),
            ("GRAPHIQL", "yes"),
            ("CORS_ORIGINS", "*"),
            ("CORS_ORIGINS", "null"),
            ("CORS_ORIGINS", "https://a.example.com,https://b.example.com/"),
            ("CORS_ORIGINS", "https://a.example.com:443"),
            ("CORS_ORIGINS", "https://A.example.com"),
            ("TRUSTED_PROXIES", "10.0.0.1/8"),
            ("PRESENCE_TIMEOUT_SECONDS", "0"),
            ("DEVICE_RATE_LIMIT", "-1"),
            ("DEVICE_BURST", "1e3"),
            ("MQTT_TOPIC_PREFIX", "a/b"),
            ("DATABASE_URL", "mysql://secret-password@x"),
        ] {
            let mut vars: Vec<_> = GOOD.into_iter().filter(|(n, _)| *n != wrong.0).collect();
            vars.push(wrong);
            let error = read(&vars).unwrap_err();
            assert_eq!(error.name, wrong.0);
            assert!(!error.to_string().contains("secret-password") && !error.to_string().contains("user:pw"));
        }
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_never_shows_in_debug() {
        let file = std::env::temp_dir().join(format!("smarthome-secret-{}", std::process::id()));
        std::fs::write(&file, "fedcba9876543210fedcba9876543210\n").unwrap();
        let settings = read(&[GOOD[0], GOOD[1], ("JWT_SECRET_FILE", file.to_str().unwrap())]).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(settings.auth.jwt_secret.as_ref().unwrap().reveal(), "fedcba9876543210fedcba9876543210");
        assert!(!format!("{settings:?}").contains("fedcba"));
        assert!(!format!("{settings:?}").contains("u:p@db"));
    }

    #[test]
    fn a_file_without_a_secret_in_it_names_its_setting() {
        const LONG: &str = "0123456789abcdef0123456789abcdef";
        const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        const SECRETS: [(&str, &str); 10] = [
            ("DATABASE_URL", GOOD[0].1),
            ("MQTT_PASSWORD", "p"),
            ("MQTT_DYNSEC_PASSWORD", LONG),
            ("MQTT_AUTH_SECRET", LONG),
            ("JWT_SECRET", LONG),
            ("JWT_PREVIOUS_SECRET", LONG),
            ("JWT_PRIVATE_KEY", "a key"),
            ("JWT_PREVIOUS_PRIVATE_KEY", "a key"),
            ("ENCRYPTION_KEY", KEY),
            ("ENCRYPTION_KEY_PREVIOUS", KEY),
        ];
        const ASKED: [(&str, &str); 4] = [
            GOOD[1],
            ("MQTT_PROVISIONING", "dynsec"),
            ("MQTT_DYNSEC_USERNAME", "admin"),
            ("MQTT_AUTH_ADDR", "127.0.0.1:4001"),
        ];
        let file = std::env::temp_dir().join(format!("smarthome-no-secret-{}", std::process::id()));
        for empty in ["", "\n", " \r\n"] {
            std::fs::write(&file, empty).unwrap();
            for (name, _) in SECRETS {
                let by_file = format!("{name}_FILE");
                // One signs: the key is asked for where there is no secret.
                let other = if name == "JWT_PRIVATE_KEY" { "JWT_SECRET" } else { "JWT_PRIVATE_KEY" };
                let mut vars = [&ASKED[..], &SECRETS].concat();
                vars.retain(|(set, _)| *set != name && *set != other);
                vars.push((&by_file, file.to_str().unwrap()));
                let error = read(&vars).expect_err(name);
                assert_eq!((error.name, error.problem), (by_file, "the file is empty".to_owned()), "{empty:?}");
            }
        }
        std::fs::remove_file(file).unwrap();
    }
}
