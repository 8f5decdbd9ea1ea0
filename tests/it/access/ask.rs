//! Sends the requests of a plan and checks the responses.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::plan::Case;
use super::rights::{Outcome, Relation};
use super::world::{FOREIGN, INVITING, OWN, World};
use crate::support::ws::{Frame, Socket, Subscription};

const CONCURRENT_REQUESTS: usize = 16;
/// Longest wait for the first event of a subscription.
const FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// The problems found, and the responses that must be the same.
#[derive(Default)]
pub(super) struct Report {
    problems: Mutex<Vec<String>>,
    same_response: Mutex<HashMap<String, (String, String)>>,
    n_requests: std::sync::atomic::AtomicUsize,
}

impl Report {
    pub(super) fn add(&self, problem: String) {
        self.problems.lock().expect("no panic").push(problem);
    }

    /// Fails with all problems; returns the number of requests.
    pub(super) fn finish(self) -> usize {
        let problems = self.problems.into_inner().expect("no panic");
        let shown = problems.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(problems.is_empty(), "{} responses differ from the policy:\n{shown}", problems.len());
        self.n_requests.into_inner()
    }

    /// Sends cases by POST.
    pub(super) async fn post(&self, world: &World, cases: &[Case]) {
        stream::iter(cases)
            .for_each_concurrent(CONCURRENT_REQUESTS, async |case| {
                let user = case.stand_in.as_ref().unwrap_or(&world.actors[case.actor].user);
                let answer = user.post(&case.operation, case.variables.clone()).await;
                let text = format!("{} {}", answer.status, answer.text());
                self.check(world, case, &answer.json(), &text);
            })
            .await;
    }

    /// Sends cases by WebSocket. The first event is the response.
    pub(super) async fn subscribe(&self, world: &World, cases: &[Case]) {
        stream::iter(cases)
            .for_each_concurrent(CONCURRENT_REQUESTS, async |case| {
                let user = &world.actors[case.actor].user;
                let (addr, variables) = (world.app.addr(), case.variables.clone());
                if world.actors[case.actor].relation == Relation::RevokedToken {
                    return self.expect_refused_socket(world, case).await;
                }
                let mut stream = Subscription::start(addr, user.token(), &case.operation, variables).await;
                let Ok(frame) = tokio::time::timeout(FRAME_TIMEOUT, stream.frame()).await else {
                    return self
                        .add(format!("{}: neither an event nor an error in time {}", case.label, case.variables));
                };
                let body = match frame {
                    Frame::Json(mut message) if message["type"] == "error" => {
                        serde_json::json!({"errors": message["payload"].take()})
                    }
                    Frame::Json(mut message) if message["type"] == "next" => message["payload"].take(),
                    other => {
                        self.add(format!("{}: neither an event nor an error: {other:?}", case.label));
                        return;
                    }
                };
                let text = body.to_string();
                self.check(world, case, &body, &text);
            })
            .await;
    }

    /// A revoked token must not open a socket.
    async fn expect_refused_socket(&self, world: &World, case: &Case) {
        let token = world.actors[case.actor].user.token();
        let mut socket = Socket::open(world.app.addr(), "/graphql", "graphql-transport-ws").await;
        socket.send(&serde_json::json!({"type": "connection_init", "payload": {"token": token}})).await;
        match socket.next().await {
            Frame::Closed(4403, _) => drop(self.n_requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            other => self.add(format!("{}: {other:?}", case.label)),
        }
    }

    fn check(&self, world: &World, case: &Case, body: &Value, text: &str) {
        self.n_requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let outcome = match &body["errors"] {
            Value::Null => "Allowed".to_owned(),
            errors => errors[0]["extensions"]["code"].as_str().unwrap_or("an error without a code").to_owned(),
        };
        let expected = match case.expected {
            Outcome::Allowed => "Allowed",
            Outcome::Refused(code) => code,
        };
        if outcome != expected {
            self.add(format!("{}: {outcome} instead of {expected}: {text} {}", case.label, case.variables));
        }
        if outcome == "Allowed" {
            let empty = case.paths.iter().find(|path| !is_reached(&body["data"], path));
            self.problems
                .lock()
                .expect("no panic")
                .extend(empty.map(|path| format!("{}: no value at {}: {text}", case.label, path.join("."))));
        }
        let is_non_member = !world.actors[case.actor].relation.can_see_home();
        if text.contains(FOREIGN) || text.contains(INVITING) || (is_non_member && text.contains(OWN)) {
            self.add(format!("{}: sees data of another home: {text}", case.label));
        }
        if let Some(name) = &case.same_response {
            let mut same_response = self.same_response.lock().expect("no panic");
            let (label, first) =
                same_response.entry(name.clone()).or_insert_with(|| (case.label.clone(), text.to_owned()));
            if first != text {
                let problem = format!("{label} and {} are distinguishable:\n  {first}\n  {text}", case.label);
                drop(same_response);
                self.add(problem);
            }
        }
    }
}

/// Whether there is a value at a path. Of a list, only the first item is checked.
pub(super) fn is_reached(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(items), _) => items.first().is_some_and(|item| is_reached(item, path)),
        (_, []) => true,
        (Value::Object(map), [name, rest @ ..]) => map.get(name).is_some_and(|value| is_reached(value, rest)),
        _ => false,
    }
}
