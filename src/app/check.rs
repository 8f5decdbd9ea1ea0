//! Checks the files that the settings name, before anything is started.

use crate::auth::{Tokens, TrustedIssuers};
use crate::clock::Clock;
use crate::mail::Mailer;
use crate::metrics::Metrics;
use crate::mqtt;
use crate::settings::{Settings, SettingsError, SettingsErrors};

/// Fails where keys or certificates can't be used, and names all of them.
pub fn check(settings: &Settings) -> Result<(), SettingsErrors> {
    let checks: [Result<(), SettingsError>; 4] = [
        Tokens::from_settings(&settings.auth, Clock::system()).map(drop),
        TrustedIssuers::new(&settings.auth, Clock::system()).map(drop),
        mqtt::check(&settings.mqtt).map_err(Into::into),
        settings.mail.as_ref().map_or(Ok(()), |mail| Mailer::new(mail, Metrics::new()).map(drop)),
    ];
    let errors: Vec<_> = checks.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(SettingsErrors(errors)) }
}
