//! Whether the mail server would take mails of this server: a connection, TLS and the credentials, without a mail.

use std::time::Duration;

use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{cause, parameters};
use crate::settings::{MailEncryption, MailServer, MailSettings, SettingsError};

/// How long the mail server may take for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the mail server would take no mail, in the order of the steps.
#[derive(Debug)]
pub enum MailFault {
    /// There is no connection.
    Unreachable(String),
    /// It accepts the connection and does not answer in time.
    Silent,
    /// It does not answer as a mail server.
    NoMailServer(String),
    /// It does not offer STARTTLS.
    NoStartTls,
    /// TLS fails, or the certificate is not trusted.
    Tls(String),
    /// It takes no password on this connection.
    NoAuthentication,
    /// It refuses user and password.
    Refused(String),
}

/// Connects as [`super::Mailer`] does, signs in, and leaves. Fails with the outer error where the certificates can't be used.
pub async fn check(settings: &MailSettings) -> Result<Result<(), MailFault>, SettingsError> {
    let parameters = match settings.server.encryption {
        MailEncryption::Off => None,
        MailEncryption::Tls | MailEncryption::StartTls => Some(parameters(settings)?),
    };
    Ok(connect_and_sign_in(&settings.server, parameters).await)
}

async fn connect_and_sign_in(server: &MailServer, parameters: Option<TlsParameters>) -> Result<(), MailFault> {
    let place = (server.host.as_str(), server.port);
    // A connection first without a word: what fails after it is no fault of the network.
    match timeout(STEP_TIMEOUT, TcpStream::connect(place)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(MailFault::Unreachable(error.to_string())),
        Err(_) => return Err(MailFault::Unreachable("took too long".to_owned())),
    }
    let hello = ClientId::default();
    let (at_once, later) = match server.encryption {
        MailEncryption::Tls => (parameters, None),
        MailEncryption::StartTls => (None, parameters),
        MailEncryption::Off => (None, None),
    };
    let no_greeting = if at_once.is_some() { MailFault::Tls } else { MailFault::NoMailServer };
    let connected = AsyncSmtpConnection::connect_tokio1(place, Some(STEP_TIMEOUT), &hello, at_once, None);
    let mut connection = step(connected, no_greeting).await?;
    if let Some(parameters) = later {
        if !connection.can_starttls() {
            return Err(MailFault::NoStartTls);
        }
        step(connection.starttls(parameters, &hello), MailFault::Tls).await?;
    }
    if let Some((user, password)) = &server.credentials {
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            return Err(MailFault::NoAuthentication);
        }
        let credentials = Credentials::new(user.clone(), password.reveal().to_owned());
        step(connection.auth(DEFAULT_MECHANISMS, &credentials), MailFault::Refused).await?;
    }
    // It may have gone already.
    let _ = step(connection.quit(), MailFault::NoMailServer).await;
    Ok(())
}

/// The answer to a step, or what its failure means.
async fn step<T>(
    asked: impl Future<Output = Result<T, smtp::Error>>,
    meaning: impl FnOnce(String) -> MailFault,
) -> Result<T, MailFault> {
    match timeout(STEP_TIMEOUT, asked).await {
        Ok(answered) => answered.map_err(|error| meaning(cause(&error))),
        Err(_) => Err(MailFault::Silent),
    }
}
