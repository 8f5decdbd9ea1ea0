//! Guessed passwords: many at once, from many addresses, and behind the owner's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::{Outcome, work_until};
use crate::tenants::account::sign_in;
use crate::tenants::http::Client;

const AT_ONCE: usize = 60;
/// Pause between two bursts.
const BURST_EVERY: Duration = Duration::from_secs(5);
const GUESSERS: u8 = 90;
/// What an address may try: sixty a minute.
const GUESS_EVERY: Duration = Duration::from_secs(1);

/// Sixty sign-ins of unknown accounts at once from one address, again and again.
pub(super) async fn burst(client: &Client, until: Instant) -> String {
    let outcome = Arc::new(Outcome::default());
    let mut round = 0;
    while Instant::now() < until {
        let mut tasks = JoinSet::new();
        for n in 0..AT_ONCE {
            let (addr, from, outcome) = (client.addr, client.from, outcome.clone());
            let email = format!("nobody-{round}-{n}@example.com");
            tasks.spawn(async move { guess(addr, from, &email, &outcome).await });
        }
        tasks.join_all().await;
        round += 1;
        sleep(BURST_EVERY.min(until.saturating_duration_since(Instant::now()))).await;
    }
    outcome.text("signed in")
}

/// Ninety addresses, each with sixty guesses a minute at the quiet accounts.
pub(super) async fn guess_from_many(addr: SocketAddr, victims: &[String], until: Instant) -> String {
    let (outcome, mut tasks) = (Arc::new(Outcome::default()), JoinSet::new());
    for number in 0..GUESSERS {
        let (outcome, victim) = (outcome.clone(), victims[usize::from(number) % victims.len()].clone());
        let from = Ipv4Addr::new(127, 0, 3, number + 1);
        tasks.spawn(async move {
            sleep(GUESS_EVERY * u32::from(number) / u32::from(GUESSERS)).await;
            let work = async {
                loop {
                    let next = Instant::now() + GUESS_EVERY;
                    guess(addr, from, &victim, &outcome).await;
                    tokio::time::sleep_until(next).await;
                }
            };
            work_until(until, work).await;
        });
    }
    tasks.join_all().await;
    outcome.text("signed in")
}

/// Guesses from the owner's address whenever the server says that it may.
pub(super) async fn guess_nearby(addr: SocketAddr, owner: Ipv4Addr, victim: &str, until: Instant) -> String {
    let outcome = Outcome::default();
    let work = async {
        loop {
            let wait = guess(addr, owner, victim, &outcome).await;
            sleep(wait.unwrap_or(Duration::from_millis(20))).await;
        }
    };
    work_until(until, work).await;
    outcome.text("signed in")
}

/// One wrong password; how long the server asks to wait.
async fn guess(addr: SocketAddr, from: Ipv4Addr, email: &str, outcome: &Outcome) -> Option<Duration> {
    let password = format!("a wrong guess {}", uuid::Uuid::new_v4());
    let (query, variables) = sign_in(email, &password);
    match Client::new(addr, from).ask(query, &variables).await {
        Ok(_) => {
            outcome.accept();
            None
        }
        Err(refusal) => {
            outcome.refuse(refusal.code);
            refusal.retry_after
        }
    }
}
