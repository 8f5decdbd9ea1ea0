//! The check of the mail server: reachable, encrypted as configured, the credentials. It sends no mail.

use super::report::Check;
use crate::mail::checkup::{MailFault, check as ask};
use crate::settings::{MailEncryption, MailServer, MailSettings};

const NAME: &str = "mail";

/// Nothing where the server sends no mail.
pub(super) async fn check(settings: Option<&MailSettings>) -> Option<Check> {
    let settings = settings?;
    Some(match ask(settings).await {
        Ok(Ok(())) => Check::ok(NAME, accepted(&settings.server)),
        Ok(Err(fault)) => unusable(&settings.server, fault),
        Err(_) => Check::not_checked(NAME, "SMTP_CA_FILE is not usable"),
    })
}

fn accepted(server: &MailServer) -> String {
    let encryption = match server.encryption {
        MailEncryption::Tls => "TLS from the start",
        MailEncryption::StartTls => "STARTTLS",
        MailEncryption::Off => "no encryption",
    };
    let account = if server.credentials.is_some() { "accepts the account" } else { "is reached without an account" };
    format!("{} {account}, with {encryption}", place(server))
}

fn unusable(server: &MailServer, fault: MailFault) -> Check {
    let place = place(server);
    let (detail, cure) = match fault {
        MailFault::Unreachable(error) => (
            format!("no connection to {place}: {error}"),
            "start the mail server; check host and port in SMTP_URL, and firewalls on the way",
        ),
        MailFault::Silent => (
            format!("{place} accepts connections and does not answer"),
            "check host and port in SMTP_URL; a port with TLS from the start (465) needs smtps://",
        ),
        MailFault::NoMailServer(error) => (
            format!("{place} does not answer as a mail server: {error}"),
            "check host and port in SMTP_URL; a port with TLS from the start (465) needs smtps://",
        ),
        MailFault::NoStartTls => (
            format!("{place} does not offer STARTTLS"),
            "turn it on at the mail server; ?tls=off in SMTP_URL is only for one on this machine",
        ),
        MailFault::Tls(error) => (
            format!("no TLS with {place}: {error}"),
            "if the certificate is of an authority of your own, name that in SMTP_CA_FILE; if the port expects STARTTLS (587), \
             write smtp:// in SMTP_URL",
        ),
        MailFault::NoAuthentication => (
            format!("{place} takes no password on this connection"),
            "remove user and password from SMTP_URL, or let the mail server offer AUTH PLAIN or LOGIN",
        ),
        MailFault::Refused(error) => (
            format!("{place} refuses user and password: {error}"),
            "correct them in SMTP_URL; characters such as @ and / are percent-encoded there",
        ),
    };
    Check::fault(NAME, detail, cure)
}

fn place(server: &MailServer) -> String {
    format!("{}:{}", server.host, server.port)
}
