//! Settings of outgoing mail.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Secret, SettingsError, SettingsErrors, Source, all, bad, secret, switch};

const EXPECTED_URL: &str = "expected smtp://user:password@host, or smtps:// for TLS from the start";
const EXPECTED_LINK: &str = "expected a URL with {token} in it, such as https://app.example.com/account?token={token}";
/// Stands for the token in a link.
const PLACEHOLDER: &str = "{token}";

/// How the connection to the mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// TLS from the start (`smtps://`).
    Tls,
    /// STARTTLS, which the server must offer (`smtp://`).
    StartTls,
    /// None (`smtp://…?tls=off`), for a server on the same machine.
    Off,
}

/// The mail server and the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailSettings {
    pub server: MailServer,
    /// `SMTP_FROM`: the sender, as in a mail's header.
    pub from: String,
    /// `SMTP_CA_FILE`: PEM of the authority that signed the server's certificate; the system's by default.
    pub ca_file: Option<PathBuf>,
}

/// `SMTP_URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    pub encryption: MailEncryption,
    /// User name and password.
    pub credentials: Option<(String, Secret)>,
}

impl MailSettings {
    /// `None` if the server sends no mail.
    pub fn read(source: &impl Source) -> Result<Option<Self>, SettingsErrors> {
        let (url, from) = (secret(source, "SMTP_URL"), source.get("SMTP_FROM"));
        let ca_file = source.get("SMTP_CA_FILE").map(PathBuf::from);
        let Some(url) = url? else { return Ok(None) };
        let sender = "missing: the sender of mails, such as Home <home@example.com>";
        all!(Self {
            server: MailServer::parse(url.reveal()).ok_or_else(|| bad("SMTP_URL", EXPECTED_URL)),
            from: from.ok_or_else(|| bad("SMTP_FROM", sender));
            ca_file: ca_file
        })
        .map(Some)
    }
}

impl MailServer {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let (encryption, default_port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (MailEncryption::StartTls, 587),
            ("smtp", Some("tls=off")) => (MailEncryption::Off, 25),
            ("smtps", None) => (MailEncryption::Tls, 465),
            _ => return None,
        };
        let is_plain = matches!(url.path(), "" | "/") && url.fragment().is_none();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => Some((decoded(user)?, Secret::new(decoded(password)?))),
            _ => return None,
        };
        // The parser keeps the brackets of an IPv6 address.
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(default_port);
        is_plain.then_some(Self { host, port, encryption, credentials })
    }
}

/// `EMAIL_VERIFICATION`: whether people have to prove the addresses with which they register. By default they do if the server
/// sends mail.
pub(super) fn email_verification(source: &impl Source) -> Result<bool, SettingsError> {
    let sends_mail = ["SMTP_URL", "SMTP_URL_FILE"].iter().any(|name| source.get(name).is_some());
    let is_on = switch(source, "EMAIL_VERIFICATION", ("on", "off"), sends_mail)?;
    if is_on && !sends_mail {
        return Err(bad("EMAIL_VERIFICATION", "needs a mail server: set SMTP_URL"));
    }
    Ok(is_on)
}

/// A page of an app to which a mail leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLink(String);

impl MailLink {
    /// `PASSWORD_RESET_URL`: the page at which a new password is set.
    pub fn to_reset_password(source: &impl Source) -> Result<Option<Self>, SettingsError> {
        Self::read(source, "PASSWORD_RESET_URL")
    }

    /// `EMAIL_VERIFICATION_URL`: the page that verifies an e-mail address.
    pub fn to_verify_email(source: &impl Source) -> Result<Option<Self>, SettingsError> {
        Self::read(source, "EMAIL_VERIFICATION_URL")
    }

    fn read(source: &impl Source, name: &str) -> Result<Option<Self>, SettingsError> {
        let Some(text) = source.get(name) else { return Ok(None) };
        let is_link = text.contains(PLACEHOLDER) && Url::parse(&text.replace(PLACEHOLDER, "x")).is_ok();
        if is_link { Ok(Some(Self(text))) } else { Err(bad(name, EXPECTED_LINK)) }
    }

    /// The link with a token. Tokens need no escapes in URLs.
    pub fn with_token(&self, token: &str) -> String {
        self.0.replace(PLACEHOLDER, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_the_url_decides_on_encryption() {
        let server = |text: &str| MailServer::parse(text).unwrap();
        let one = server("smtp://ann%40example.com:p%2Fw@mail.example.com");
        assert_eq!((one.host.as_str(), one.port, one.encryption), ("mail.example.com", 587, MailEncryption::StartTls));
        assert_eq!(one.credentials, Some(("ann@example.com".to_owned(), Secret::new("p/w"))));
        let other = server("smtps://[::1]:4650/");
        assert_eq!((other.host.as_str(), other.port, other.encryption), ("::1", 4650, MailEncryption::Tls));
        assert_eq!(server("smtp://localhost?tls=off").encryption, MailEncryption::Off);
        for wrong in
            ["mail.example.com", "http://a", "smtp://", "smtp://a?tls=no", "smtp://u@a", "smtp://:p@a", "smtps://a/b"]
        {
            assert_eq!(MailServer::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mail_is_off_without_a_url_and_needs_a_sender() {
        let read = |vars: &'static [(&str, &str)]| {
            MailSettings::read(&|name: &str| vars.iter().find(|(set, _)| *set == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(read(&[]), Ok(None));
        let errors = read(&[("SMTP_URL", "smtp://user:hidden@a?tls=no")]).unwrap_err().to_string();
        assert!(errors.contains("SMTP_URL") && errors.contains("SMTP_FROM") && !errors.contains("hidden"), "{errors}");
    }

    #[test]
    fn addresses_are_verified_if_the_server_sends_mail() {
        let read = |vars: &'static [(&str, &str)]| {
            email_verification(&|name: &str| vars.iter().find(|(set, _)| *set == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(read(&[]), Ok(false));
        assert_eq!(read(&[("SMTP_URL", "smtp://a")]), Ok(true));
        assert_eq!(read(&[("SMTP_URL_FILE", "/run/url")]), Ok(true));
        assert_eq!(read(&[("SMTP_URL", "smtp://a"), ("EMAIL_VERIFICATION", "off")]), Ok(false));
        assert_eq!(read(&[("EMAIL_VERIFICATION", "on")]).unwrap_err().name, "EMAIL_VERIFICATION");
    }

    #[test]
    fn a_link_has_a_place_for_the_token() {
        let read = |text: &'static str| MailLink::to_reset_password(&move |_: &str| Some(text.to_owned()));
        let link = read("https://app.example.com/new?token={token}").unwrap().unwrap();
        assert_eq!(link.with_token("pw_x"), "https://app.example.com/new?token=pw_x");
        assert!(read("myapp://reset/{token}").is_ok());
        assert!(read("https://app.example.com/new").is_err() && read("/new/{token}").is_err());
    }
}
