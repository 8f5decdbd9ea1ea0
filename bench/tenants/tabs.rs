//! Tabs of one browser that refresh one session at the same time. One gets the next token, and the session goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::account::{PASSWORD, sign_in};
use super::figures::SIGN_IN;
use super::http::{Client, Refusal};
use super::person::pace;
use super::quiet::Shared;

pub(super) const EVERY: Duration = Duration::from_secs(3);
/// When each tab asks: four at once, and one when the first may be answered.
const TABS: [Duration; 5] = [Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::from_millis(5)];
/// Until the session is used again.
const LATER: Duration = Duration::from_millis(500);
const REFRESH: &str = "mutation($token: String!) { refreshToken(refreshToken: $token) { refreshToken } }";

/// Signs in, and refreshes the session with all tabs again and again.
pub(super) async fn refresh(shared: Arc<Shared>, client: Client, email: String, after: Duration) {
    let stranger = Client::new(client.addr, client.from);
    let (mut pace, mut token) = (pace(EVERY, after), None);
    while shared.tick(&mut pace).await.is_some() {
        let Some(current) = (match token.take() {
            Some(token) => Some(token),
            None => first(&shared, &mut stranger.clone(), &email).await,
        }) else {
            continue;
        };
        shared.figures().refreshed += 1;
        token = race(&shared, &stranger, current).await;
        shared.figures().kept += usize::from(token.is_some());
    }
}

async fn first(shared: &Shared, client: &mut Client, email: &str) -> Option<String> {
    let (query, variables) = sign_in(email, PASSWORD);
    match client.ask(query, &variables).await {
        Ok(mut data) => text(data["login"]["refreshToken"].take()),
        Err(refusal) => {
            shared.figures().refused(format!("{SIGN_IN}{}", refusal.code));
            None
        }
    }
}

/// The token of the session after the race, unless the race has ended it.
async fn race(shared: &Shared, client: &Client, token: String) -> Option<String> {
    let mut tabs = JoinSet::new();
    for wait in TABS {
        let (mut client, token) = (client.clone(), token.clone());
        tabs.spawn(async move {
            sleep(wait).await;
            exchange(&mut client, &token).await
        });
    }
    let (mut won, mut refused) = (None, Vec::new());
    for tab in tabs.join_all().await {
        match tab {
            Ok(next) => won = Some(next),
            Err(refusal) => refused.push(refusal.code),
        }
    }
    let lost = |codes: Vec<String>| {
        codes.into_iter().for_each(|code| shared.figures().refused(format!("refresh {code}")));
        None
    };
    let Some(next) = won else { return lost(refused) };
    sleep(LATER).await;
    exchange(&mut client.clone(), &next).await.map_or_else(|refusal| lost(vec![refusal.code]), Some)
}

async fn exchange(client: &mut Client, token: &str) -> Result<String, Refusal> {
    let mut data = client.ask(REFRESH, &json!({ "token": token })).await?;
    Ok(text(data["refreshToken"]["refreshToken"].take()).unwrap_or_default())
}

fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}
