//! Work in the background: repeated work, and work that one server of an installation does at a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Chain, Error};
use crate::latch::Latch;

/// Runs `work` now and then every `every`, from when the database has its schema until the stop. A failure is
/// logged and tried again the next time. Several servers may do the same work at once.
pub async fn periodic<F>(
    name: &'static str,
    every: Duration,
    migrated: Latch,
    stop: CancellationToken,
    mut work: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), Error>>,
{
    let repeated = async {
        migrated.wait().await;
        loop {
            if let Err(error) = work().await {
                tracing::warn!(error = %Chain(&error), "{name} failed; trying again later");
            }
            sleep(every).await;
        }
    };
    stop.run_until_cancelled(repeated).await;
}

/// When a state that lasts is logged again.
pub struct Reminder {
    every: Duration,
    last: Instant,
}

impl Reminder {
    /// The state is logged now.
    pub fn new(every: Duration, now: Instant) -> Self {
        Self { every, last: now }
    }

    /// Whether it is time to log the state; if so, the next time is `every` later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now - self.last >= self.every;
        if is_due {
            self.last = now;
        }
        is_due
    }
}

/// How often a server asks for the lead, and how long it waits after a failure.
pub struct LeaderPauses {
    /// Pause while another server has the lead.
    pub not_leader: Duration,
    /// Pauses after failures. They start again after a lead of `stable_after`.
    pub backoff: Backoff,
    pub stable_after: Duration,
}

/// Runs `lead` again and again until the stop. `lead` tries to take a lock of the installation, returns at once
/// where another server holds it, and otherwise works until it fails. Each new error is logged once.
pub async fn single_leader<F, E>(
    name: &'static str,
    mut pauses: LeaderPauses,
    stop: CancellationToken,
    mut lead: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + 'static,
{
    let mut last_error = None;
    let repeated = async {
        loop {
            let started = Instant::now();
            let pause = match lead().await {
                Ok(()) => pauses.not_leader,
                Err(error) => {
                    if started.elapsed() > pauses.stable_after {
                        pauses.backoff.reset();
                        last_error = None;
                    }
                    let error = Chain(&error).to_string();
                    if last_error.as_ref() != Some(&error) {
                        tracing::warn!(%error, "{name} failed; trying again");
                        last_error = Some(error);
                    }
                    pauses.backoff.next_delay()
                }
            };
            sleep(pause).await;
        }
    };
    stop.run_until_cancelled(repeated).await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn periodic_work_waits_for_the_schema_and_continues_after_a_failure() {
        let (migrated, stop) = (Latch::default(), CancellationToken::new());
        let (started, mut starts) = mpsc::unbounded_channel();
        let work = move || {
            started.send(()).unwrap();
            std::future::ready(Err(Error::unavailable("the database is away")))
        };
        let mut background = Box::pin(periodic("the work", SHORT, migrated.clone(), stop.clone(), work));
        assert!(futures_util::poll!(&mut background).is_pending());
        assert!(starts.is_empty(), "there is no schema yet");
        migrated.set();
        let test = async {
            for _ in 0..3 {
                starts.recv().await.unwrap();
            }
            stop.cancel();
        };
        tokio::join!(background, test);
    }

    #[test]
    fn a_reminder_is_due_once_in_each_interval() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut reminder = Reminder::new(minute, start);
        let due: Vec<_> = (0..=300).step_by(20).filter(|n| reminder.is_due(start + minute * *n / 60)).collect();
        assert_eq!(due, [60, 120, 180, 240, 300]);
    }

    #[tokio::test]
    async fn the_lead_is_asked_for_again_after_a_failure_and_behind_another_leader() {
        let (stop, (started, mut starts)) = (CancellationToken::new(), mpsc::unbounded_channel());
        let pauses = LeaderPauses { not_leader: SHORT, backoff: Backoff::new(SHORT, SHORT), stable_after: SHORT };
        let mut n_attempts = 0;
        let lead = move || {
            started.send(()).unwrap();
            n_attempts += 1;
            std::future::ready(if n_attempts == 1 { Err(Error::unavailable("no connection")) } else { Ok(()) })
        };
        let test = async {
            for _ in 0..3 {
                starts.recv().await.unwrap();
            }
            stop.cancel();
        };
        tokio::join!(single_leader("the work", pauses, stop.clone(), lead), test);
    }
}
