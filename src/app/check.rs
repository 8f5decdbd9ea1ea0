//! Checks the settings, with the files that they name, before anything is started.

use crate::auth::{Tokens, TrustedIssuers};
use crate::clock::Clock;
use crate::http::ServerTls;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use crate::mqtt;
use crate::settings::{Provisioning, Settings, SettingsError, SettingsErrors, Source};

/// The settings of `serve`, or all errors for which it does not start.
pub fn settings_of_serve(source: &impl Source) -> Result<Settings, SettingsErrors> {
    let settings = Settings::read(source)?;
    let mut errors = check(&settings).err().map_or_else(Vec::new, |errors| errors.0);
    if settings.mqtt.provisioning == Provisioning::Embedded {
        let problem = "`embedded` works only in `smarthome dev`: use `none` or `dynsec`".to_owned();
        errors.push(SettingsError { name: "MQTT_PROVISIONING".to_owned(), problem });
    }
    if errors.is_empty() { Ok(settings) } else { Err(SettingsErrors(errors)) }
}

/// Fails where keys or certificates can't be used, and names all of them.
pub fn check(settings: &Settings) -> Result<(), SettingsErrors> {
    let checks: [Result<(), SettingsError>; 5] = [
        Tokens::from_settings(&settings.auth, Clock::system()).map(drop),
        TrustedIssuers::new(&settings.auth, Clock::system()).map(drop),
        mqtt::check(&settings.mqtt).map_err(Into::into),
        settings.http.tls.as_ref().map_or(Ok(()), |files| ServerTls::read(files, Metrics::new()).map(drop)),
        settings.mail.as_ref().map_or(Ok(()), |mail| Mailer::new(mail, Metrics::new()).map(drop)),
    ];
    let errors: Vec<_> = checks.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(SettingsErrors(errors)) }
}
