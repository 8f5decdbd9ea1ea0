//! Settings of outgoing mail.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Secret, SettingsError, SettingsErrors, Source, all, bad, secret};

const EXPECTED_URL: &str = "expected smtp://user:password@host, or smtps:// for TLS from the start";
const EXPECTED_LINK: &str =
    "expected a URL with {token} in it, such as https://app.example.com/new-password?token={token}";
/// Stands for the token in `PASSWORD_RESET_URL`.
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

/// `PASSWORD_RESET_URL`: the page of an app at which a new password is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetLink(String);

impl ResetLink {
    pub fn read(source: &impl Source) -> Result<Option<Self>, SettingsError> {
        let Some(text) = source.get("PASSWORD_RESET_URL") else { return Ok(None) };
        let is_link = text.contains(PLACEHOLDER) && Url::parse(&text.replace(PLACEHOLDER, "x")).is_ok();
        if is_link { Ok(Some(Self(text))) } else { Err(bad("PASSWORD_RESET_URL", EXPECTED_LINK)) }
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
    fn a_link_has_a_place_for_the_token() {
        let read = |text: &'static str| ResetLink::read(&move |_: &str| Some(text.to_owned()));
        let link = read("https://app.example.com/new?token={token}").unwrap().unwrap();
        assert_eq!(link.with_token("pw_x"), "https://app.example.com/new?token=pw_x");
        assert!(read("myapp://reset/{token}").is_ok());
        assert!(read("https://app.example.com/new").is_err() && read("/new/{token}").is_err());
    }
}
