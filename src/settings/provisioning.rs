//! How the broker authenticates devices: `MQTT_PROVISIONING` and `MQTT_AUTH_ADDR`.

use std::net::SocketAddr;

use super::{Secret, SettingsError, SettingsErrors, Source, all, bad, required, required_secret, secret};

/// Shortest secret that gives access to every device. Such secrets are generated, so length costs nothing.
const MIN_SECRET_BYTES: usize = 24;

/// How the passwords of devices get to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provisioning {
    /// The server does not provision: the broker uses exported files or asks the server (`MQTT_AUTH_ADDR`).
    None,
    /// The broker of `dev` runs in this process and reads the database.
    Embedded,
    /// Mosquitto's Dynamic Security plugin, controlled over MQTT with this account.
    Dynsec(DynsecAccount),
}

/// An administrator of the Dynamic Security plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynsecAccount {
    /// `MQTT_DYNSEC_USERNAME`.
    pub username: String,
    /// `MQTT_DYNSEC_PASSWORD`: also encrypts device passwords until the broker has them.
    pub password: Secret,
}

/// The HTTP endpoint where brokers authenticate and authorize their clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthEndpoint {
    /// `MQTT_AUTH_ADDR`.
    pub addr: SocketAddr,
    /// `MQTT_AUTH_SECRET`: the secret that the broker must send.
    pub secret: Option<Secret>,
}

impl Provisioning {
    pub(super) fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        match source.get("MQTT_PROVISIONING").as_deref() {
            None | Some("none") => Ok(Self::None),
            Some("embedded") => Ok(Self::Embedded),
            Some("dynsec") => {
                let account = all!(DynsecAccount {
                    username: required(source, "MQTT_DYNSEC_USERNAME"),
                    password: required_secret(source, "MQTT_DYNSEC_PASSWORD")
                        .and_then(|password| long_enough("MQTT_DYNSEC_PASSWORD", password)),
                })?;
                Ok(Self::Dynsec(account))
            }
            Some(_) => Err(bad("MQTT_PROVISIONING", "expected `none` or `dynsec`").into()),
        }
    }
}

impl AuthEndpoint {
    pub(super) fn read(source: &impl Source) -> Result<Option<Self>, SettingsErrors> {
        const SECRET: &str = "MQTT_AUTH_SECRET";
        let Some(addr) = source.get("MQTT_AUTH_ADDR") else { return Ok(None) };
        let problem = "expected an address and port such as 127.0.0.1:4001";
        let addr = addr.parse::<SocketAddr>().map_err(|_| bad("MQTT_AUTH_ADDR", problem));
        let secret = match (secret(source, SECRET), &addr) {
            (Ok(Some(secret)), _) => long_enough(SECRET, secret).map(Some),
            (Ok(None), Ok(addr)) if !addr.ip().is_loopback() => {
                Err(bad(SECRET, "missing: required unless MQTT_AUTH_ADDR is a loopback address"))
            }
            (secret, _) => secret,
        };
        all!(Self { addr: addr, secret: secret }).map(Some)
    }
}

fn long_enough(name: &str, secret: Secret) -> Result<Secret, SettingsError> {
    if secret.reveal().len() < MIN_SECRET_BYTES {
        let problem = format!("needs at least {MIN_SECRET_BYTES} bytes; make one with `openssl rand -base64 24`");
        return Err(bad(name, problem));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef01234567";

    fn source(vars: &'static [(&str, &str)]) -> impl Source {
        |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn an_error_names_the_variable_that_provisioning_lacks() {
        assert_eq!(Provisioning::read(&source(&[])).unwrap(), Provisioning::None);
        assert_eq!(Provisioning::read(&source(&[("MQTT_PROVISIONING", "embedded")])).unwrap(), Provisioning::Embedded);
        let error = |vars| Provisioning::read(&source(vars)).unwrap_err().0.remove(0).name;
        assert_eq!(error(&[("MQTT_PROVISIONING", "files")]), "MQTT_PROVISIONING");
        assert_eq!(error(&[("MQTT_PROVISIONING", "dynsec")]), "MQTT_DYNSEC_USERNAME");
        let short = &[("MQTT_PROVISIONING", "dynsec"), ("MQTT_DYNSEC_USERNAME", "a"), ("MQTT_DYNSEC_PASSWORD", "b")];
        assert_eq!(error(short), "MQTT_DYNSEC_PASSWORD");
    }

    #[test]
    fn an_endpoint_off_the_loopback_address_needs_a_secret() {
        assert_eq!(AuthEndpoint::read(&source(&[])).unwrap(), None);
        assert!(AuthEndpoint::read(&source(&[("MQTT_AUTH_ADDR", "127.0.0.1:4001")])).unwrap().is_some());
        let error = |vars| AuthEndpoint::read(&source(vars)).unwrap_err().0.remove(0).name;
        assert_eq!(error(&[("MQTT_AUTH_ADDR", "4001")]), "MQTT_AUTH_ADDR");
        assert_eq!(error(&[("MQTT_AUTH_ADDR", "0.0.0.0:4001")]), "MQTT_AUTH_SECRET");
        let good = source(&[("MQTT_AUTH_ADDR", "0.0.0.0:4001"), ("MQTT_AUTH_SECRET", LONG)]);
        assert!(AuthEndpoint::read(&good).unwrap().is_some());
    }
}
