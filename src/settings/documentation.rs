//! The variables of `serve`, as `--help` lists them. A test compares the list with what the readers ask for.

use std::fmt::Write;

/// A variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    /// The default in words; `None` for a required variable.
    pub default: Option<&'static str>,
    /// Whether it is a secret, which a file may hold: `{name}_FILE` is the file's path.
    pub is_secret: bool,
    /// One line.
    pub meaning: &'static str,
}

const fn required(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: None, is_secret: false, meaning }
}

const fn optional(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: Some(default), is_secret: false, meaning }
}

const fn secret(variable: Variable) -> Variable {
    Variable { is_secret: true, ..variable }
}

/// All variables, by topic.
pub const VARIABLES: &[Variable] = &[
    secret(required("DATABASE_URL", "PostgreSQL: postgres://user:password@host/database?sslmode=require")),
    optional("DATABASE_POOL_SIZE", "10", "database connections of the API, from 1 to 1000"),
    required("MQTT_BROKER_URL", "the broker: mqtt://, mqtts://, ws:// or wss://"),
    optional("MQTT_USERNAME", "none", "the server's account at the broker"),
    secret(optional("MQTT_PASSWORD", "none", "its password")),
    optional("MQTT_CLIENT_ID", "smarthome-HOST", "the broker keeps the server's session under it: never change it"),
    optional("MQTT_CA_FILE", "system", "PEM file of the authority that signed the broker's certificate"),
    optional("MQTT_CLIENT_CERT_FILE", "none", "PEM file of the server's own certificate, for mutual TLS"),
    optional("MQTT_CLIENT_KEY_FILE", "none", "PEM file of its key"),
    optional("MQTT_TOPIC_PREFIX", "smarthome", "first segment of every topic"),
    optional("MQTT_SHARED_GROUP", "none", "several servers share the messages; set it for all of them or for none"),
    optional("MQTT_PUBLIC_URL", "MQTT_BROKER_URL", "the broker's address that devices get with their credentials"),
    optional("MQTT_PROVISIONING", "none", "dynsec: create device accounts in Mosquitto's Dynamic Security plugin"),
    optional("MQTT_DYNSEC_USERNAME", "none", "the plugin's administrator; required with dynsec"),
    secret(optional("MQTT_DYNSEC_PASSWORD", "none", "its password, at least 24 bytes; required with dynsec")),
    optional("MQTT_AUTH_ADDR", "off", "address at which brokers authenticate devices over HTTP: 127.0.0.1:4001"),
    secret(optional("MQTT_AUTH_SECRET", "none", "value of the brokers' header X-Auth-Secret, at least 24 bytes")),
    secret(optional("ENCRYPTION_KEY", "none", "encrypts secrets in configurations: openssl rand -base64 32")),
    secret(optional("ENCRYPTION_KEY_PREVIOUS", "none", "the key before it, which only decrypts")),
    secret(required("JWT_SECRET", "signs access tokens, at least 32 bytes: openssl rand -base64 48")),
    secret(optional("JWT_PRIVATE_KEY", "none", "PEM of a private key that signs instead of JWT_SECRET")),
    secret(optional("JWT_PREVIOUS_SECRET", "none", "the secret before JWT_SECRET, which only verifies")),
    secret(optional("JWT_PREVIOUS_PRIVATE_KEY", "none", "the key before JWT_PRIVATE_KEY, which only verifies")),
    optional("JWT_ISSUER", "smarthome", "the claim iss of access tokens"),
    optional("JWT_AUDIENCE", "smarthome", "the claim aud of access tokens"),
    optional("JWT_TRUSTED_ISSUERS", "none", "external issuers of access tokens: a JSON list, or a file with it"),
    optional("REGISTRATION", "closed", "open: anybody may create an account"),
    secret(optional(
        "SMTP_URL",
        "none",
        "mail server: smtp://user:password@host, or smtps://; without it no mail is sent",
    )),
    optional("SMTP_FROM", "with SMTP_URL", "sender of mails: Home <home@example.com>"),
    optional("SMTP_CA_FILE", "system", "PEM file of the authority that signed the mail server's certificate"),
    optional("EMAIL_VERIFICATION", "on with SMTP_URL", "off: who registers need not prove the e-mail address"),
    optional("EMAIL_VERIFICATION_URL", "none", "link in mails: https://app.example.com/verify?token={token}"),
    optional("PASSWORD_RESET_URL", "none", "link in mails: https://app.example.com/new-password?token={token}"),
    optional("RATE_LIMITS", "on", "off: no rate limits, for load tests only"),
    optional("DEVICE_RATE_LIMIT", "20", "messages per second that a device may send for long; 0: no limit"),
    optional("DEVICE_BURST", "5000", "messages that a device may send at once; 0: no limit"),
    optional("DEVICE_DAILY_MIB", "256", "MiB of readings that a device may store in a day; 0: no limit"),
    optional("HOMES_PER_USER", "100", "homes that one user may own"),
    optional(
        "HTTP_ADDR",
        "127.0.0.1:4000",
        "address for HTTP and WebSocket; put a proxy with TLS in front of it, or set the next two",
    ),
    optional(
        "HTTP_TLS_CERT_FILE",
        "none",
        "PEM file of the server's certificate and its chain: HTTPS and WSS at HTTP_ADDR",
    ),
    optional("HTTP_TLS_KEY_FILE", "none", "PEM file of its key"),
    optional("GRAPHQL_INTROSPECTION", "off", "on or off"),
    optional("GRAPHIQL", "off", "on or off"),
    optional("TRUSTED_PROXIES", "none", "addresses and networks of your proxies: 10.0.0.0/8,::1"),
    optional("CORS_ORIGINS", "none", "origins of web pages that may call the API: https://app.example.com"),
    optional("CORS_HEADERS", "none", "more request headers that these pages may send"),
    optional("PRESENCE_TIMEOUT_SECONDS", "150", "seconds without a message after which a device is offline"),
    optional("LOG", "info", "filter of the log: smarthome=debug,info"),
    optional("LOG_FORMAT", "text", "text or json"),
    optional(
        "LOG_REQUESTS",
        "refused",
        "a line in the log for each refused request; all: for each request; off: for none",
    ),
    optional("OTEL_EXPORTER_OTLP_ENDPOINT", "off", "collector of traces, by OTLP over HTTP: http://127.0.0.1:4318"),
    optional("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "the one above", "the same, with the whole path: …/v1/traces"),
    optional("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "the only one"),
    secret(optional("OTEL_EXPORTER_OTLP_HEADERS", "none", "headers for the collector: authorization=Bearer%20TOKEN")),
    optional("OTEL_EXPORTER_OTLP_CERTIFICATE", "system", "PEM file of the authority that signed its certificate"),
    optional("OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "milliseconds for one batch of spans, with retries"),
    optional("OTEL_SERVICE_NAME", "smarthome", "name of the server in traces"),
    optional(
        "OTEL_RESOURCE_ATTRIBUTES",
        "none",
        "what else traces say of the server: deployment.environment.name=home",
    ),
    optional(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "always_on, always_off or traceidratio, also after parentbased_",
    ),
    optional("OTEL_TRACES_SAMPLER_ARG", "1", "the ratio of traceidratio, from 0 to 1"),
    optional("TRACE_MESSAGE_RATIO", "0.01", "share of the MQTT messages that the sampler is asked about"),
    optional("HOSTNAME", "the machine's", "used in the default of MQTT_CLIENT_ID only"),
];

/// The list for `--help`.
pub fn help() -> String {
    let mut text =
        "Environment variables [default]; those with * may be read from the file that NAME_FILE names:\n".to_owned();
    for Variable { name, default, is_secret, meaning } in VARIABLES {
        let (star, default) = (if *is_secret { "*" } else { "" }, default.unwrap_or("required"));
        let _ = writeln!(text, "  {:<26} {meaning} [{default}]", format!("{name}{star}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::{Settings, SettingsErrors};

    /// Defaults that are no values.
    const IN_WORDS: [&str; 8] = [
        "none",
        "off",
        "on with SMTP_URL",
        "system",
        "smarthome-HOST",
        "MQTT_BROKER_URL",
        "the machine's",
        "the one above",
    ];

    #[test]
    fn the_list_has_the_defaults_of_the_readers() {
        let read = |set: Option<(&str, &str)>| {
            let source = |name: &str| {
                let value = match name {
                    "DATABASE_URL" => "postgres://host/database",
                    "MQTT_BROKER_URL" => "mqtt://host",
                    "JWT_SECRET" => "0123456789abcdef0123456789abcdef",
                    _ => set.filter(|(set, _)| *set == name)?.1,
                };
                Some(value.to_owned())
            };
            Settings::read(&source).map(|settings| format!("{settings:?}")).map_err(|error| error.to_string())
        };
        let of_readers = read(None);
        assert!(of_readers.is_ok(), "{of_readers:?}");
        let is_switch = |name: &str| ["GRAPHQL_INTROSPECTION", "GRAPHIQL"].contains(&name);
        for Variable { name, default, .. } in VARIABLES {
            let Some(default) = *default else { continue };
            if IN_WORDS.contains(&default) && !is_switch(name) || name.starts_with("LOG") {
                continue;
            }
            assert_eq!(read(Some((name, default))), of_readers, "{name}");
        }
        let required = || VARIABLES.iter().filter(|variable| variable.default.is_none());
        for missing in required() {
            let is_set = |name: &str| name != missing.name && required().any(|variable| variable.name == name);
            let without = |name: &str| is_set(name).then(|| "postgres://host".to_owned());
            let SettingsErrors(errors) = Settings::read(&without).expect_err("an error");
            assert!(errors.iter().any(|error| error.name == missing.name), "{}", missing.name);
        }
    }

    /// Everything that a server with all features on asks for.
    #[test]
    fn the_list_has_every_variable_that_is_read() {
        let asked = RefCell::new(BTreeSet::new());
        let source = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            let value = match name {
                "DATABASE_URL" => "postgres://host/database",
                "MQTT_BROKER_URL" => "mqtt://host",
                "MQTT_PROVISIONING" => "dynsec",
                "MQTT_DYNSEC_USERNAME" => "admin",
                "MQTT_AUTH_ADDR" => "127.0.0.1:4001",
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://127.0.0.1:4318",
                "JWT_SECRET" | "MQTT_DYNSEC_PASSWORD" => "0123456789abcdef0123456789abcdef",
                _ => return None,
            };
            Some(value.to_owned())
        };
        Settings::read(&source).expect("usable settings");
        // The log starts before the settings are read.
        asked.borrow_mut().extend(["LOG", "LOG_FORMAT"].map(str::to_owned));
        let mut listed = BTreeSet::new();
        for Variable { name, is_secret, .. } in VARIABLES {
            assert!(listed.insert((*name).to_owned()), "{name} twice");
            if *is_secret {
                listed.insert(format!("{name}_FILE"));
            }
        }
        assert_eq!(asked.into_inner(), listed);
    }
}
