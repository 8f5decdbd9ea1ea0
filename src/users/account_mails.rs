//! Mails to people about their accounts.
//!
//! A request enters a queue, whether or not there is such an account: so neither the answer nor its time reveals it. A worker
//! looks the account up and sends the mail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{User, Users};
use crate::backoff::Backoff;
use crate::error::{Chain, Error};
use crate::ids::UserId;
use crate::latch::Latch;
use crate::mail::{GIVEN_UP, Mail, Mailer, QUEUE_FULL};

/// Requests that wait for the worker, and requests in progress: most of those pause before their mail is sent again.
const MAX_REQUESTS: usize = 1_000;
/// Accounts that are looked up at once.
const MAX_CONCURRENT_LOOKUPS: usize = 8;
/// Attempts to look an account up, while the database does not answer.
const MAX_LOOKUPS: u32 = 6;

/// Why a person gets a mail.
pub(super) enum MailRequest {
    /// Somebody asked for a new password for the account with this e-mail.
    NewPassword(String),
    /// The address of this user is to be verified.
    Verification(UserId),
    /// The account of this e-mail address has changed.
    Notice(Notice, String),
}

/// What has changed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Notice {
    PasswordChanged,
    /// The account has another address now.
    EmailChanged,
}

impl Notice {
    /// Names neither the other address nor anything that opens the account.
    fn letter(self, to: &str) -> Letter {
        let (subject, text) = match self {
            Self::PasswordChanged => (
                "Your password was changed",
                format!(
                    "The password of the account {to} was changed.\n\n\
                     If it was not you, somebody else uses your account: ask for a new password in the app at once.\n"
                ),
            ),
            Self::EmailChanged => (
                "Your e-mail address was changed",
                format!(
                    "The account {to} has another e-mail address now. This one does not sign in any more.\n\n\
                     If it was not you, somebody else uses your account: ask the operator of this server for help.\n"
                ),
            ),
        };
        Letter { to: to.to_owned(), subject, text }
    }
}

/// A mail to be sent.
pub(super) struct Letter {
    pub(super) to: String,
    pub(super) subject: &'static str,
    pub(super) text: String,
}

/// The queue of requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct AccountMails {
    mailer: Mailer,
    requests: mpsc::Sender<MailRequest>,
    /// Taken by the worker.
    waiting: Arc<Mutex<Option<mpsc::Receiver<MailRequest>>>>,
}

impl AccountMails {
    pub(super) fn new(mailer: Mailer) -> Self {
        let (requests, waiting) = mpsc::channel(MAX_REQUESTS);
        Self { mailer, requests, waiting: Arc::new(Mutex::new(Some(waiting))) }
    }

    /// Fails if too many requests wait.
    pub(super) fn enqueue(&self, request: MailRequest) -> Result<(), Error> {
        self.requests.try_send(request).map_err(|_| {
            self.mailer.count_failed(QUEUE_FULL);
            Error::unavailable("too many mails wait to be sent")
        })
    }
}

impl Users {
    /// Whether the server sends mail.
    pub fn sends_mail(&self) -> bool {
        self.mails.is_some()
    }

    /// Sends a notice to this address, when called. The change goes on if too many mails wait.
    pub(super) fn notice(&self, notice: Notice, email: String) -> impl FnOnce() + Send + use<> {
        let mails = self.mails.clone();
        move || {
            if let Some(mails) = mails {
                let _ = mails.enqueue(MailRequest::Notice(notice, email));
            }
        }
    }

    /// Sends a token to the new address of a user, when called, if it is to be verified.
    pub(super) fn verification_of_new(&self) -> impl Fn(&User) + Send + use<> {
        let mails = self.mails.clone().filter(|_| self.email_verification.is_demanded);
        move |user| {
            if let Some(mails) = &mails {
                // The user can ask for the mail again.
                let _ = mails.enqueue(MailRequest::Verification(user.id));
            }
        }
    }

    /// Answers requests for mails until the stop. Runs once.
    pub async fn run_account_mails(self, migrated: Latch, stop: CancellationToken) {
        let Some(mails) = &self.mails else { return };
        let Some(requests) = mails.waiting.lock().expect("requests lock").take() else { return };
        let answered = async {
            migrated.wait().await;
            let requests = stream::unfold(requests, async |mut requests| Some((requests.recv().await?, requests)));
            let lookups = Semaphore::new(MAX_CONCURRENT_LOOKUPS);
            let answer = |request: MailRequest| self.answer(&mails.mailer, &lookups, request);
            requests.for_each_concurrent(MAX_REQUESTS, answer).await;
        };
        stop.run_until_cancelled(answered).await;
    }

    async fn answer(&self, mailer: &Mailer, lookups: &Semaphore, request: MailRequest) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        for attempt in 1..=MAX_LOOKUPS {
            let letter = {
                let _turn = lookups.acquire().await;
                self.letter(&request).await
            };
            match letter {
                Ok(None) => return,
                Ok(Some(Letter { to, subject, text })) => return mailer.send(Mail { to: &to, subject, text }).await,
                Err(error) if attempt == MAX_LOOKUPS => {
                    tracing::warn!(error = %Chain(&error), "a mail about an account is given up");
                    mailer.count_failed(GIVEN_UP);
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    /// `None` if nothing is to be sent.
    async fn letter(&self, request: &MailRequest) -> Result<Option<Letter>, Error> {
        match request {
            MailRequest::NewPassword(email) => self.password_reset_letter(email).await,
            MailRequest::Verification(user) => self.verification_letter(*user).await,
            MailRequest::Notice(notice, email) => Ok(Some(notice.letter(email))),
        }
    }
}
