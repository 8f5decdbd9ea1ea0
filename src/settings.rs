//! Settings: the environment, read once into types. Missing and unusable variables stop the start with an error that names
//! all of them. No other module reads the environment.

mod auth;
mod broker_url;
mod cors;
mod database;
mod database_url;
mod device_limit;
mod documentation;
mod encryption;
mod http;
mod issuers;
mod mail;
mod mqtt;
mod provisioning;
mod proxies;
mod quotas;
mod traces;
mod variables;

use std::fmt;
use std::time::Duration;

pub use auth::AuthSettings;
pub use broker_url::{BrokerUrl, Transport};
pub use cors::CorsSettings;
pub use database::{DatabaseSettings, is_loopback};
pub use database_url::DatabaseUrl;
pub use device_limit::DeviceLimit;
pub use documentation::{VARIABLES, Variable, help};
pub use encryption::{EncryptionKey, EncryptionSettings};
pub use http::{HttpSettings, LogRequests, TlsFiles};
pub use issuers::{KeySource, TrustedIssuer};
pub use mail::{MailEncryption, MailLink, MailServer, MailSettings};
pub use mqtt::MqttSettings;
pub use provisioning::{AuthEndpoint, DynsecAccount, Provisioning};
pub use proxies::TrustedProxies;
pub use quotas::Quotas;
pub use traces::{TraceSampler, TraceSettings};
use variables::{all, bad, number, required, required_secret, secret, small_number, switch};

/// A value that must never be logged: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
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
    /// What is wrong or what is expected.
    pub problem: String,
}

/// Settings that are missing or unusable, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl From<SettingsError> for SettingsErrors {
    fn from(error: SettingsError) -> Self {
        Self(vec![error])
    }
}

/// All settings of `serve`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub database: DatabaseSettings,
    pub mqtt: MqttSettings,
    pub http: HttpSettings,
    pub auth: AuthSettings,
    pub encryption: EncryptionSettings,
    /// Outgoing mail; `None` if the server sends none.
    pub mail: Option<MailSettings>,
    /// The link of mails that set a new password.
    pub reset_link: Option<MailLink>,
    /// Whether people have to prove their e-mail addresses.
    pub email_verification: bool,
    /// The link of mails that verify an address.
    pub verification_link: Option<MailLink>,
    /// `RATE_LIMITS`: whether rate limits, quotas and delays are on.
    pub rate_limits: bool,
    /// The rate limit of each device; `None` for no limit.
    pub device_limit: Option<DeviceLimit>,
    pub quotas: Quotas,
    /// Traces to a collector; `None` without one.
    pub traces: Option<TraceSettings>,
    /// `PRESENCE_TIMEOUT_SECONDS`: a device without messages for this long counts as offline.
    pub presence_timeout: Duration,
}

impl Settings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let rate_limits = switch(source, "RATE_LIMITS", ("on", "off"), true);
        let with_limits = !matches!(rate_limits, Ok(false));
        all!(Self {
            database: DatabaseSettings::read(source),
            mqtt: MqttSettings::read(source),
            http: HttpSettings::read(source),
            auth: AuthSettings::read(source),
            encryption: EncryptionSettings::read(source),
            mail: MailSettings::read(source),
            reset_link: MailLink::to_reset_password(source),
            email_verification: mail::email_verification(source),
            verification_link: MailLink::to_verify_email(source),
            rate_limits: rate_limits,
            device_limit: DeviceLimit::read(source).map(|limit| limit.filter(|_| with_limits)),
            quotas: Quotas::read(source, with_limits),
            traces: TraceSettings::read(source),
            presence_timeout: number(source, "PRESENCE_TIMEOUT_SECONDS", 150, 1..=86_400).map(Duration::from_secs),
        })
    }
}

/// Where variables come from: the environment of the process, or a table in tests.
pub trait Source {
    /// The value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings, or the only error.
    fn read(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        read_all(vars).map_err(|SettingsErrors(mut errors)| {
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors.remove(0)
        })
    }

    fn read_all(vars: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
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
        assert_eq!(read(&with_origins).unwrap().http.cors.origins, ["https://a.example.com", "http://[::1]:5173"]);
        assert!(!settings.http.introspection && !settings.http.graphiql && !settings.auth.registration_open);
    }

    #[test]
    fn each_of_three_variables_turns_the_device_limit_off() {
        for off in [("DEVICE_RATE_LIMIT", "0"), ("DEVICE_BURST", "0"), ("RATE_LIMITS", "off")] {
            assert_eq!(read(&[&GOOD[..], &[off]].concat()).unwrap().device_limit, None, "{off:?}");
        }
    }

    #[test]
    fn each_of_two_variables_turns_the_daily_limit_off() {
        let daily = |more: &[(&str, &str)]| read(&[&GOOD[..], more].concat()).unwrap().quotas.device_daily_bytes;
        assert_eq!((daily(&[]), daily(&[("DEVICE_DAILY_MIB", "1")])), (Some(256 << 20), Some(1 << 20)));
        for off in [("DEVICE_DAILY_MIB", "0"), ("RATE_LIMITS", "off")] {
            assert_eq!(daily(&[off]), None, "{off:?}");
        }
    }

    #[test]
    fn an_error_names_the_missing_or_unusable_variable() {
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
            ("HOMES_PER_USER", "0"),
            ("DEVICE_DAILY_MIB", "1e3"),
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
    fn all_missing_and_unusable_variables_are_named_at_once() {
        let wrong = [
            ("JWT_PREVIOUS_SECRET", "short"),
            ("MQTT_PROVISIONING", "dynsec"),
            ("MQTT_AUTH_ADDR", "nowhere"),
            ("MQTT_AUTH_SECRET", "short"),
            ("CORS_ORIGINS", "*"),
            ("CORS_HEADERS", "*"),
            ("ENCRYPTION_KEY", "short"),
            ("DATABASE_POOL_SIZE", "0"),
            ("HTTP_ADDR", "nowhere"),
            ("HTTP_TLS_CERT_FILE", "/etc/cert.pem"),
            ("GRAPHIQL", "yes"),
            ("RATE_LIMITS", "yes"),
            ("DEVICE_BURST", "-1"),
            ("HOMES_PER_USER", "0"),
        ];
        let SettingsErrors(errors) = read_all(&wrong).unwrap_err();
        let mut named: Vec<_> = errors.iter().map(|error| error.name.as_str()).collect();
        named.sort_unstable();
        let mut expected: Vec<_> = GOOD.iter().chain(&wrong).map(|(name, _)| *name).collect();
        expected.retain(|name| !["MQTT_PROVISIONING", "HTTP_TLS_CERT_FILE"].contains(name));
        expected.extend(["MQTT_DYNSEC_USERNAME", "MQTT_DYNSEC_PASSWORD", "HTTP_TLS_KEY_FILE"]);
        expected.sort_unstable();
        assert_eq!(named, expected);
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_debug_hides_it() {
        let file = std::env::temp_dir().join(format!("smarthome-secret-{}", std::process::id()));
        std::fs::write(&file, "fedcba9876543210fedcba9876543210\n").unwrap();
        let settings = read(&[GOOD[0], GOOD[1], ("JWT_SECRET_FILE", file.to_str().unwrap())]).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(settings.auth.jwt_secret.as_ref().unwrap().reveal(), "fedcba9876543210fedcba9876543210");
        assert!(!format!("{settings:?}").contains("fedcba"));
        assert!(!format!("{settings:?}").contains("u:p@db"));
    }

    #[test]
    fn an_empty_secret_file_is_an_error_that_names_its_variable() {
        const LONG: &str = "0123456789abcdef0123456789abcdef";
        const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        const SECRETS: [(&str, &str); 11] = [
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
            ("SMTP_URL", "smtp://u:p@mail"),
        ];
        const ASKED: [(&str, &str); 5] = [
            ("SMTP_FROM", "home@example.com"),
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
                // The server signs with a key or with a secret, never with both.
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
