//! Mail servers with a fault, and a right one.

use std::collections::HashMap;

use super::{examine, migrated, variables};
use crate::support::broker::Broker;
use crate::support::installation::SERVER;
use crate::support::mail::{MailServer, PASSWORD_IN_URL, USER};
use crate::support::ports::free_port;

/// The variables with this mail server.
fn with_mail(variables: &HashMap<String, String>, url: String, ca_file: Option<String>) -> HashMap<String, String> {
    let mut variables = variables.clone();
    variables.insert("SMTP_URL".to_owned(), url);
    variables.insert("SMTP_FROM".to_owned(), "home@test.example".to_owned());
    variables.extend(ca_file.map(|file| ("SMTP_CA_FILE".to_owned(), file)));
    variables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_is_asked_without_a_mail() {
    let broker = Broker::with_accounts(&[SERVER]).await;
    let database = migrated().await;
    let variables = variables(&database.url(), &format!("mqtt://127.0.0.1:{}", broker.port()));
    assert!(examine(&variables, &[]).await.checks.iter().all(|check| check["name"] != "mail"), "none is configured");

    let mut server = MailServer::start().await;
    let (port, ca_file) = (server.port, Some(server.ca_file()));
    let asked = async |url: String, ca_file: Option<String>| examine(&with_mail(&variables, url, ca_file), &[]).await;
    let report = asked(format!("smtp://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}"), ca_file.clone()).await;
    report.assert_well();
    let found = report.check("mail")["detail"].as_str().expect("text");
    assert_eq!(found, format!("127.0.0.1:{port} accepts the account, with STARTTLS"));
    assert!(server.has_no_mail().await);

    let closed = asked(format!("smtp://127.0.0.1:{}", free_port()), None).await;
    closed.assert_fault("mail", "Connection refused", "start the mail server");
    let wrong = asked(format!("smtp://{USER}:hidden@127.0.0.1:{port}"), ca_file.clone()).await;
    wrong.assert_fault("mail", "refuses user and password: the mail server answers 535", "percent-encoded");
    assert!(!format!("{:?}", wrong.checks).contains("hidden"));
    let too_early = asked(format!("smtps://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}"), ca_file.clone()).await;
    too_early.assert_fault("mail", "no TLS with 127.0.0.1", "smtp:// in SMTP_URL");
    let untrusted = asked(format!("smtp://127.0.0.1:{port}"), None).await;
    untrusted.assert_fault("mail", "no TLS with 127.0.0.1", "SMTP_CA_FILE");
    let without_tls = asked(format!("smtp://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}?tls=off"), None).await;
    without_tls.assert_fault("mail", "takes no password on this connection", "AUTH PLAIN");

    let plain = MailServer::start_plain().await;
    let plain_port = plain.port;
    let no_tls = asked(format!("smtp://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{plain_port}"), ca_file).await;
    no_tls.assert_fault("mail", "does not offer STARTTLS", "turn it on");
    asked(format!("smtp://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{plain_port}?tls=off"), None).await.assert_well();
}
