//! Setting a new password without the old one, with a token that is sent by mail or printed for the operator.
//!
//! A request by e-mail enters a queue, whether or not the address has an account: so neither the answer nor its time reveals
//! it. A worker looks the account up and sends the mail.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::credentials::end_all_sessions_except;
use super::hashing_turns::Lane;
use super::{NewPassword, Users, parse_email, password_resets_store, store};
use crate::backoff::Backoff;
use crate::db;
use crate::error::{Chain, Error};
use crate::latch::Latch;
use crate::mail::{GIVEN_UP, Mail, Mailer, QUEUE_FULL};
use crate::opaque_token;

/// How long a token can be used.
const LIFETIME: TimeDelta = TimeDelta::hours(1);
/// Most valid tokens of one account. A request for a further one by mail does nothing; an operator's deletes the oldest.
const MAX_TOKENS_PER_USER: i64 = 5;
/// Requests that wait for the worker, and requests in progress: most of those pause before their mail is sent again.
const MAX_REQUESTS: usize = 1_000;
/// Accounts that are looked up at once.
const MAX_CONCURRENT_LOOKUPS: usize = 8;
/// Attempts to look an account up, while the database does not answer.
const MAX_LOOKUPS: u32 = 6;
const SUBJECT: &str = "Set a new password";
const NO_MAIL: Error = Error::Forbidden("this server sends no mail: ask its operator for a new password");

/// What a new token does where its account has the most already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surplus {
    /// Nothing: a stranger's requests never end a token.
    Refuse,
    /// It takes the place of the oldest.
    Replace,
}

/// The queue of requests, and what answers them. Cheap to clone.
#[derive(Clone)]
pub(super) struct ResetMails {
    mailer: Mailer,
    requests: mpsc::Sender<String>,
    /// Taken by the worker.
    waiting: Arc<Mutex<Option<mpsc::Receiver<String>>>>,
}

impl ResetMails {
    pub(super) fn new(mailer: Mailer) -> Self {
        let (requests, waiting) = mpsc::channel(MAX_REQUESTS);
        Self { mailer, requests, waiting: Arc::new(Mutex::new(Some(waiting))) }
    }
}

impl Users {
    /// Sends a token to the account with this e-mail, if there is one. `from` is the client's address.
    pub fn request_password_reset(&self, email: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.address_attempt(from)?;
        let mails = self.reset_mails.as_ref().ok_or(NO_MAIL)?;
        let email = parse_email(email)?;
        mails.requests.try_send(email).map_err(|full| {
            mails.mailer.count_failed(QUEUE_FULL);
            Error::unavailable(full)
        })
    }

    /// Sets a new password and ends all sessions and tokens of the account.
    pub async fn reset_password(&self, token: &str, new: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.address_attempt(from)?;
        let digest = opaque_token::digest(token).ok_or_else(invalid)?;
        let clock = self.clock.clone();
        let found = {
            let mut conn = self.pool.get().await?;
            password_resets_store::find_user(&mut conn, &digest, clock.now()).await?
        };
        let (user, email) = found.ok_or_else(invalid)?;
        let new = NewPassword::parse("newPassword", new, &email)?;
        let hash = self.hasher.hash(new, Lane::Unknown).await?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_password(conn, user).await?.ok_or_else(invalid)?;
                // Another request may have used the token meanwhile.
                if !password_resets_store::delete(conn, &digest).await? {
                    return Err(invalid());
                }
                store::set_password(conn, user, &hash).await?;
                end_all_sessions_except(conn, user, None, clock.now()).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }

    /// A token for the account with this e-mail, and its expiry, for operators; `None` if there is no such account. Replaces
    /// the oldest token of an account that has too many.
    pub async fn create_password_reset(&self, email: &str) -> Result<Option<(String, DateTime<Utc>)>, Error> {
        self.insert_password_reset(email, Surplus::Replace).await
    }

    async fn insert_password_reset(
        &self,
        email: &str,
        surplus: Surplus,
    ) -> Result<Option<(String, DateTime<Utc>)>, Error> {
        let (email, now) = (parse_email(email)?, self.clock.now());
        let (token, expires_at) = (opaque_token::generate("pw_"), now + LIFETIME);
        let digest = opaque_token::digest(&token).ok_or_else(invalid)?;
        let is_created = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some(user) = store::lock_by_email(conn, &email).await? else { return Ok(false) };
                let n_valid = password_resets_store::count_valid(conn, user, now).await?;
                if surplus == Surplus::Refuse && n_valid >= MAX_TOKENS_PER_USER {
                    return Ok(false);
                }
                password_resets_store::delete_old(conn, user, MAX_TOKENS_PER_USER - 1).await?;
                password_resets_store::insert(conn, user, &digest, now, expires_at).await?;
                Ok(true)
            })
        });
        Ok(is_created.await?.then_some((token, expires_at)))
    }

    /// What a person does with a token: a link of the app, if the installation has one, otherwise the token itself.
    pub fn reset_link(&self, token: &str) -> String {
        self.reset_link.as_ref().map_or_else(|| token.to_owned(), |link| link.with_token(token))
    }

    /// Whether the server sends mail.
    pub fn sends_mail(&self) -> bool {
        self.reset_mails.is_some()
    }

    /// Answers requests for a new password until the stop. Runs once.
    pub async fn run_reset_mails(self, migrated: Latch, stop: CancellationToken) {
        let Some(mails) = &self.reset_mails else { return };
        let Some(requests) = mails.waiting.lock().expect("requests lock").take() else { return };
        let answered = async {
            migrated.wait().await;
            let requests = stream::unfold(requests, async |mut requests| Some((requests.recv().await?, requests)));
            let lookups = Semaphore::new(MAX_CONCURRENT_LOOKUPS);
            let answer = |email: String| self.answer(&mails.mailer, &lookups, email);
            requests.for_each_concurrent(MAX_REQUESTS, answer).await;
        };
        stop.run_until_cancelled(answered).await;
    }

    async fn answer(&self, mailer: &Mailer, lookups: &Semaphore, email: String) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        for attempt in 1..=MAX_LOOKUPS {
            let created = {
                let _turn = lookups.acquire().await;
                self.insert_password_reset(&email, Surplus::Refuse).await
            };
            match created {
                Ok(None) => return,
                Ok(Some((token, _))) => {
                    let text = self.reset_text(&email, &token);
                    return mailer.send(Mail { to: &email, subject: SUBJECT, text }).await;
                }
                Err(error) if attempt == MAX_LOOKUPS => {
                    tracing::warn!(error = %Chain(&error), "a request for a new password is given up");
                    mailer.count_failed(GIVEN_UP);
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    fn reset_text(&self, email: &str, token: &str) -> String {
        let step = match &self.reset_link {
            Some(link) => format!("To set it, open this link within an hour:\n\n{}", link.with_token(token)),
            None => format!("To set it, enter this code in the app within an hour:\n\n{token}"),
        };
        format!(
            "Somebody asked to set a new password for the account {email}.\n\n{step}\n\n\
             If it was not you, ignore this mail. Your password stays as it is.\n"
        )
    }
}

fn invalid() -> Error {
    Error::bad_input("token", "token is unknown, used or expired: request a new one")
}
