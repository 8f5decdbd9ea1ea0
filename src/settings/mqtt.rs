//! Settings of the MQTT connection.

use std::path::PathBuf;

use super::{
    AuthEndpoint, BrokerUrl, Provisioning, Secret, SettingsError, SettingsErrors, Source, all, bad, required, secret,
};

#[derive(Debug, Clone)]
pub struct MqttSettings {
    /// `MQTT_BROKER_URL`.
    pub broker: BrokerUrl,
    /// `MQTT_USERNAME`.
    pub username: Option<String>,
    /// `MQTT_PASSWORD`.
    pub password: Option<Secret>,
    /// `MQTT_CLIENT_ID`: must stay the same, because the broker keeps our session under it.
    pub client_id: String,
    /// `MQTT_CA_FILE`: PEM of the authority that signed the broker's certificate; the system's authorities by default.
    pub ca_file: Option<PathBuf>,
    /// `MQTT_CLIENT_CERT_FILE`: our own certificate, for mutual TLS.
    pub client_cert_file: Option<PathBuf>,
    /// `MQTT_CLIENT_KEY_FILE`: the key of that certificate.
    pub client_key_file: Option<PathBuf>,
    /// `MQTT_TOPIC_PREFIX`: first segment of every topic.
    pub prefix: String,
    /// `MQTT_SHARED_GROUP`: when set, subscriptions are `$share/<group>/…`.
    pub shared_group: Option<String>,
    /// `MQTT_PUBLIC_URL`: the broker URL given to devices; `MQTT_BROKER_URL` by default.
    pub public_url: String,
    /// `MQTT_PROVISIONING`.
    pub provisioning: Provisioning,
    /// `MQTT_AUTH_ADDR`.
    pub auth_endpoint: Option<AuthEndpoint>,
}

impl MqttSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let url = required(source, "MQTT_BROKER_URL");
        let public_url = source.get("MQTT_PUBLIC_URL").or_else(|| url.clone().ok());
        all!(Self {
            broker: url.and_then(|url| url.parse().map_err(|problem: String| bad("MQTT_BROKER_URL", problem))),
            password: secret(source, "MQTT_PASSWORD"),
            client_cert_file: client_cert_file(source),
            prefix: prefix(source),
            shared_group: shared_group(source),
            provisioning: Provisioning::read(source),
            auth_endpoint: AuthEndpoint::read(source);
            username: source.get("MQTT_USERNAME"),
            client_id: source.get("MQTT_CLIENT_ID").unwrap_or_else(|| format!("smarthome-{}", node_name(source))),
            ca_file: source.get("MQTT_CA_FILE").map(PathBuf::from),
            client_key_file: source.get("MQTT_CLIENT_KEY_FILE").map(PathBuf::from),
            // Empty only where the broker's URL is missing, which is an error.
            public_url: public_url.unwrap_or_default(),
        })
    }
}

fn prefix(source: &impl Source) -> Result<String, SettingsError> {
    let prefix = source.get("MQTT_TOPIC_PREFIX").unwrap_or_else(|| "smarthome".to_owned());
    let problem = "expected one topic segment of letters, digits, '_', '.' and '-'";
    if is_segment(&prefix) { Ok(prefix) } else { Err(bad("MQTT_TOPIC_PREFIX", problem)) }
}

fn shared_group(source: &impl Source) -> Result<Option<String>, SettingsError> {
    match source.get("MQTT_SHARED_GROUP") {
        Some(group) if !is_segment(&group) => {
            Err(bad("MQTT_SHARED_GROUP", "expected letters, digits, '_', '.' and '-'"))
        }
        group => Ok(group),
    }
}

/// The certificate, which needs its key.
fn client_cert_file(source: &impl Source) -> Result<Option<PathBuf>, SettingsError> {
    match (source.get("MQTT_CLIENT_CERT_FILE"), source.get("MQTT_CLIENT_KEY_FILE")) {
        (Some(cert), Some(_)) => Ok(Some(cert.into())),
        (None, None) => Ok(None),
        (Some(_), None) => Err(bad("MQTT_CLIENT_KEY_FILE", "missing: set it together with MQTT_CLIENT_CERT_FILE")),
        (None, Some(_)) => Err(bad("MQTT_CLIENT_CERT_FILE", "missing: set it together with MQTT_CLIENT_KEY_FILE")),
    }
}

fn is_segment(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// The host name: it makes the default client id stable on one machine and different on two.
fn node_name(source: &impl Source) -> String {
    let name = source.get("HOSTNAME").or_else(|| std::fs::read_to_string("/etc/hostname").ok()).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(48).collect();
    if name.is_empty() { "node".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_without_its_key_names_what_is_missing() {
        for (given, missing) in
            [("MQTT_CLIENT_CERT_FILE", "MQTT_CLIENT_KEY_FILE"), ("MQTT_CLIENT_KEY_FILE", "MQTT_CLIENT_CERT_FILE")]
        {
            let error = client_cert_file(&|name: &str| (name == given).then(|| "file".to_owned())).unwrap_err();
            assert_eq!(error.to_string(), format!("{missing}: missing: set it together with {given}"));
        }
    }
}
