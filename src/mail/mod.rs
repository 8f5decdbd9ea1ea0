//! Outgoing mail, by SMTP. A mail is sent in the background and retried for some minutes. Nothing is stored: a server that
//! stops forgets the mails that wait.

pub mod checkup;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::Semaphore;

use crate::backoff::Backoff;
use crate::error::Chain;
use crate::metrics::{Metrics, Reason};
use crate::settings::{MailEncryption, MailSettings, SettingsError};
use crate::tls;

/// Attempts to send a mail, over some five minutes; longer where the mail server does not answer.
const MAX_ATTEMPTS: u32 = 9;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// Mails that are being sent at once.
const MAX_SENDS: usize = 8;
/// How long the TCP connection to the mail server may take. It bounds nothing after that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one attempt to send a mail may take, from the connection to the last answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

const INVALID_ADDRESS: &str = "INVALID_ADDRESS";
const REFUSED: &str = "REFUSED";
/// The mail server, or the database, could not be asked for too long.
pub const GIVEN_UP: &str = "GIVEN_UP";
/// Too many mails waited already.
pub const QUEUE_FULL: &str = "QUEUE_FULL";
/// Why mails were not sent: the labels of the metric.
pub const FAILURES: [&str; 4] = [INVALID_ADDRESS, REFUSED, GIVEN_UP, QUEUE_FULL];

/// A mail to one recipient.
pub struct Mail<'a> {
    /// An e-mail address.
    pub to: &'a str,
    pub subject: &'a str,
    /// Plain text.
    pub text: String,
}

/// Sends mails. Cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    transport: Arc<AsyncSmtpTransport<Tokio1Executor>>,
    from: Arc<Mailbox>,
    /// Held while the mail server is asked, not in the pauses between.
    turns: Arc<Semaphore>,
    attempt_timeout: Duration,
    metrics: Metrics,
}

/// Why an attempt to send a mail failed, as the log says it.
#[derive(Debug)]
enum Failure {
    /// Another attempt would fail too.
    Refused(String),
    Temporary(String),
}

impl Mailer {
    /// Connects to nothing yet. Fails where the sender or the certificates can't be used.
    pub fn new(settings: &MailSettings, metrics: Metrics) -> Result<Self, SettingsError> {
        let server = &settings.server;
        let from = settings.from.parse::<Mailbox>().map_err(|error| bad("SMTP_FROM", error))?;
        let tls = match server.encryption {
            MailEncryption::Tls => Tls::Wrapper(parameters(settings)?),
            MailEncryption::StartTls => Tls::Required(parameters(settings)?),
            MailEncryption::Off => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(CONNECT_TIMEOUT));
        if let Some((user, password)) = &server.credentials {
            transport = transport.credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
        }
        let (transport, from) = (Arc::new(transport.build()), Arc::new(from));
        let turns = Arc::new(Semaphore::new(MAX_SENDS));
        Ok(Self { transport, from, turns, attempt_timeout: ATTEMPT_TIMEOUT, metrics })
    }

    /// Sends a mail, or gives up after some minutes. The log never has the recipient.
    pub async fn send(&self, mail: Mail<'_>) {
        let Some(message) = self.message(mail) else {
            return self.count_failed(INVALID_ADDRESS);
        };
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        for attempt in 1..=MAX_ATTEMPTS {
            let error = match self.attempt(message.clone()).await {
                Ok(()) => {
                    self.metrics.mails_sent.inc();
                    return;
                }
                Err(Failure::Refused(error)) => {
                    tracing::warn!(error, "the mail server refused a mail");
                    return self.count_failed(REFUSED);
                }
                Err(Failure::Temporary(error)) => error,
            };
            if attempt == 1 {
                tracing::warn!(error, "a mail could not be sent; trying again for some minutes");
            }
            if attempt < MAX_ATTEMPTS {
                self.metrics.mail_retries.inc();
                backoff.wait().await;
            }
        }
        tracing::warn!("a mail could not be sent and is given up");
        self.count_failed(GIVEN_UP);
    }

    /// Sends a mail once, when it has its turn. A mail server that does not answer holds up nothing for longer than the time limit.
    async fn attempt(&self, message: Message) -> Result<(), Failure> {
        let _turn = self.turns.acquire().await;
        match tokio::time::timeout(self.attempt_timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => Err(Failure::Refused(cause(&error))),
            Ok(Err(error)) => Err(Failure::Temporary(cause(&error))),
            Err(_) => Err(Failure::Temporary("took too long".to_owned())),
        }
    }

    /// Counts a mail that was not sent; `reason` is one of [`FAILURES`].
    pub fn count_failed(&self, reason: &'static str) {
        self.metrics.mails_failed.get_or_create(&Reason { reason }).inc();
    }

    fn message(&self, mail: Mail<'_>) -> Option<Message> {
        let to = mail.to.parse::<Address>().ok()?;
        let message = Message::builder().from((*self.from).clone()).to(Mailbox::new(None, to)).subject(mail.subject);
        message.message_id(None).header(ContentType::TEXT_PLAIN).body(mail.text).ok()
    }
}

/// What went wrong. An answer of the mail server may quote the recipient, so only its code is told.
fn cause(error: &smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server answers {code}"),
        None => Chain(error).to_string(),
    }
}

/// Trusts the authority of the settings, or those of the system.
fn parameters(settings: &MailSettings) -> Result<TlsParameters, SettingsError> {
    let mut builder = TlsParameters::builder(settings.server.host.clone());
    if let Some(path) = &settings.ca_file {
        builder = builder.certificate_store(CertificateStore::None);
        for authority in tls::certificates(path).map_err(|error| bad("SMTP_CA_FILE", error))? {
            let authority = Certificate::from_der(authority.to_vec());
            builder = builder.add_root_certificate(authority.map_err(|error| bad("SMTP_CA_FILE", Chain(&error)))?);
        }
    }
    builder.build().map_err(|error| bad("SMTP_URL", Chain(&error)))
}

fn bad(name: &str, problem: impl Display) -> SettingsError {
    SettingsError { name: name.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::settings::MailServer;

    #[tokio::test]
    async fn a_mail_server_that_never_answers_holds_no_attempt_for_ever() {
        // The connection is made, and nothing is ever sent on it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server =
            MailServer { host: "127.0.0.1".to_owned(), port, encryption: MailEncryption::Off, credentials: None };
        let settings = MailSettings { server, from: "home@test.example".to_owned(), ca_file: None };
        let mut mailer = Mailer::new(&settings, Metrics::default()).unwrap();
        mailer.attempt_timeout = Duration::from_millis(50);
        let mail = Mail { to: "ann@test.example", subject: "subject", text: "text".to_owned() };
        let message = mailer.message(mail).unwrap();
        match mailer.attempt(message).await {
            Err(Failure::Temporary(error)) => assert_eq!(error, "took too long"),
            other => panic!("{other:?}"),
        }
        drop(listener);
    }
}
