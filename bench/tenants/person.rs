//! What a person does: looks at devices, sends commands, has a socket open, and signs in now and then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use smarthome::clock::Clock;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::account::{PASSWORD, sign_in};
use super::figures::SIGN_IN;
use super::http::{Client, connect};
use super::quiet::Shared;
use crate::socket::Subscriber;

pub(super) const QUERY_EVERY: Duration = Duration::from_millis(250);
pub(super) const COMMAND_EVERY: Duration = Duration::from_secs(1);
pub(super) const SIGN_IN_EVERY: Duration = Duration::from_secs(4);
/// How often a password is typed, and the pause between.
const TYPED: usize = 3;
const TYPE_AGAIN: Duration = Duration::from_secs(1);
const LATEST: &str = "{ homes { id name devices(first: 50) { nodes { id name online \
                      latestTelemetry { recordedAt sensors { powerW temperature } } } } } }";
const SEND: &str = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id } }";
const UPDATES: &str = "subscription($id: ID!) { commandUpdates(homeId: $id) { correlationId status } }";
const READINGS: &str = "subscription($id: ID!) { telemetry(homeId: $id) { id recordedAt sensors { powerW } } }";
/// States of a command after which nothing follows.
const FINAL: [&str; 5] = ["SUCCEEDED", "FAILED", "TIMED_OUT", "EXPIRED", "CANCELLED"];

/// See the module. A clone is the same person with a connection of its own.
#[derive(Clone)]
pub(super) struct Person {
    shared: Arc<Shared>,
    client: Client,
    /// Of the last sign-in.
    token: Arc<Mutex<Option<String>>>,
}

/// Moments that are so far apart; late ones delay those after them.
pub(super) fn pace(every: Duration, after: Duration) -> Interval {
    let mut pace = interval_at(Instant::now() + after, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

impl Person {
    pub(super) fn new(shared: Arc<Shared>, client: &Client) -> Self {
        Self { shared, client: client.clone(), token: Arc::new(Mutex::new(client.token.clone())) }
    }

    async fn ask(&mut self, query: &str, variables: &Value) -> Option<Value> {
        self.client.token = self.token.lock().expect("nobody panics with it").clone();
        match self.client.ask(query, variables).await {
            Ok(data) => Some(data),
            Err(refusal) => {
                self.shared.figures().refused(refusal.code);
                None
            }
        }
    }

    pub(super) async fn looks(mut self, after: Duration) {
        let mut pace = pace(QUERY_EVERY, after);
        while self.shared.tick(&mut pace).await.is_some() {
            let asked = Instant::now();
            if self.ask(LATEST, &json!({})).await.is_some() {
                self.shared.figures().queries.push(asked.elapsed());
            }
        }
    }

    /// Commands to the lamp, which acknowledges, and to the heater, whose power is expected, in turn.
    pub(super) async fn commands(mut self, devices: [String; 2], after: Duration) {
        let mut pace = pace(COMMAND_EVERY, after);
        for n in 0usize.. {
            if self.shared.tick(&mut pace).await.is_none() {
                return;
            }
            let by_effect = n % 2 == 1;
            let correlation = uuid::Uuid::new_v4().to_string();
            let mut input = json!({"deviceId": devices[n % 2], "type": "PING", "payload": {}, "timeoutSeconds": 10,
                                   "correlationId": correlation});
            if by_effect {
                input["expect"] = json!({"powerW": {"min": 5}});
            }
            self.shared.pending().insert(correlation.clone(), (Instant::now(), by_effect));
            if self.ask(SEND, &json!({ "input": input })).await.is_none() {
                self.shared.pending().remove(&correlation);
            }
        }
    }

    pub(super) async fn signs_in(mut self, email: String, after: Duration) {
        let (query, variables) = sign_in(&email, PASSWORD);
        let mut pace = pace(SIGN_IN_EVERY, after);
        while self.shared.tick(&mut pace).await.is_some() {
            let mut stranger = Client::new(self.client.addr, self.client.from);
            self.shared.figures().sign_ins.wanted += 1;
            for attempt in 0..TYPED {
                match stranger.ask(query, &variables).await {
                    Ok(data) => {
                        self.client.token = data["login"]["accessToken"].as_str().map(str::to_owned);
                        self.token.lock().expect("nobody panics with it").clone_from(&self.client.token);
                        let mut figures = self.shared.figures();
                        figures.sign_ins.at_once += usize::from(attempt == 0);
                        figures.sign_ins.in_the_end += 1;
                        break;
                    }
                    Err(refusal) => self.shared.figures().refused(format!("{SIGN_IN}{}", refusal.code)),
                }
                tokio::time::sleep(TYPE_AGAIN).await;
            }
        }
    }

    pub(super) async fn subscribe(&self, home: &str) -> Result<Subscriber> {
        let token = self.token.lock().expect("nobody panics with it").clone().unwrap_or_default();
        let stream = connect(self.client.addr, self.client.from, None).await?;
        let mut socket = Subscriber::open_on(stream, self.client.addr, &token).await?;
        socket.subscribe(UPDATES, home).await?;
        socket.subscribe(READINGS, home).await?;
        Ok(socket)
    }

    pub(super) async fn listens(self, home: String, mut socket: Subscriber) {
        loop {
            while let Ok(text) = socket.next().await {
                self.event(&serde_json::from_str(&text).unwrap_or_default());
            }
            self.shared.figures().sockets_lost += 1;
            loop {
                tokio::time::sleep(TYPE_AGAIN).await;
                if let Ok(again) = self.subscribe(&home).await {
                    socket = again;
                    break;
                }
            }
        }
    }

    fn event(&self, event: &Value) {
        let data = &event["payload"]["data"];
        if let Some(at) = data["telemetry"]["recordedAt"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok()) {
            let latency = (Clock::system().now() - at).to_std().unwrap_or_default();
            self.shared.figures().live.push(latency);
        }
        let update = &data["commandUpdates"];
        let Some(status) = update["status"].as_str().filter(|status| FINAL.contains(status)) else { return };
        let pending = update["correlationId"].as_str();
        let Some((sent, by_effect)) = pending.and_then(|id| self.shared.pending().remove(id)) else { return };
        let mut figures = self.shared.figures();
        match (status == "SUCCEEDED", by_effect) {
            (true, false) => figures.commands.push(sent.elapsed()),
            (true, true) => figures.effects.push(sent.elapsed()),
            (false, _) => figures.unanswered += 1,
        }
    }
}
