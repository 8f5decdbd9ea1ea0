//! Asking, and judging what comes.

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::plan::Cell;
use super::rights::{Outcome, Standing};
use super::world::{FOREIGN, INVITING, OWN, World};
use crate::support::ws::{Frame, Socket, Subscription};

/// Questions at a time.
const AT_ONCE: usize = 16;

/// What is wrong, and the answers that must be alike.
#[derive(Default)]
pub(super) struct Verdict {
    wrong: Mutex<Vec<String>>,
    alike: Mutex<HashMap<String, (String, String)>>,
    n_asked: std::sync::atomic::AtomicUsize,
}

impl Verdict {
    pub(super) fn add(&self, problem: String) {
        self.wrong.lock().expect("no panic").push(problem);
    }

    /// Fails with all that is wrong.
    pub(super) fn speak(self) -> usize {
        let wrong = self.wrong.into_inner().expect("no panic");
        let shown = wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{} answers are not as the policy says:\n{shown}", wrong.len());
        self.n_asked.into_inner()
    }

    /// Asks by POST.
    pub(super) async fn post(&self, world: &World, cells: &[Cell]) {
        stream::iter(cells)
            .for_each_concurrent(AT_ONCE, async |cell| {
                let answer = world.actors[cell.actor].user.post(&cell.operation, cell.variables.clone()).await;
                let text = format!("{} {}", answer.status, answer.text());
                self.judge(world, cell, &answer.json(), &text);
            })
            .await;
    }

    /// Asks by WebSocket: the first event is the answer.
    pub(super) async fn subscribe(&self, world: &World, cells: &[Cell]) {
        stream::iter(cells)
            .for_each_concurrent(AT_ONCE, async |cell| {
                let user = &world.actors[cell.actor].user;
                let (addr, variables) = (world.app.addr(), cell.variables.clone());
                if world.actors[cell.actor].standing == Standing::Revoked {
                    return self.shut_out(world, cell).await;
                }
                let mut stream = Subscription::start(addr, user.token(), &cell.operation, variables).await;
                let body = match stream.frame().await {
                    Frame::Json(mut message) if message["type"] == "error" => {
                        serde_json::json!({"errors": message["payload"].take()})
                    }
                    Frame::Json(mut message) if message["type"] == "next" => message["payload"].take(),
                    other => {
                        self.add(format!("{}: neither an event nor an error: {other:?}", cell.label));
                        return;
                    }
                };
                let text = body.to_string();
                self.judge(world, cell, &body, &text);
            })
            .await;
    }

    /// A token that is not good opens no socket at all.
    async fn shut_out(&self, world: &World, cell: &Cell) {
        let token = world.actors[cell.actor].user.token();
        let mut socket = Socket::open(world.app.addr(), "/graphql", "graphql-transport-ws").await;
        socket.send(&serde_json::json!({"type": "connection_init", "payload": {"token": token}})).await;
        match socket.next().await {
            Frame::Closed(4403, _) => drop(self.n_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            other => self.add(format!("{}: {other:?}", cell.label)),
        }
    }

    fn judge(&self, world: &World, cell: &Cell, body: &Value, text: &str) {
        self.n_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let outcome = match &body["errors"] {
            Value::Null => "Allowed".to_owned(),
            errors => errors[0]["extensions"]["code"].as_str().unwrap_or("an error without a code").to_owned(),
        };
        let expected = match cell.expected {
            Outcome::Allowed => "Allowed",
            Outcome::Refused(code) => code,
        };
        if outcome != expected {
            self.add(format!("{}: {outcome} instead of {expected}: {text} {}", cell.label, cell.variables));
        }
        if outcome == "Allowed" {
            let empty = cell.paths.iter().find(|path| !is_reached(&body["data"], path));
            self.wrong
                .lock()
                .expect("no panic")
                .extend(empty.map(|path| format!("{}: nothing stands at {}: {text}", cell.label, path.join("."))));
        }
        let is_outside = !world.actors[cell.actor].standing.is_inside();
        if text.contains(FOREIGN) || text.contains(INVITING) || (is_outside && text.contains(OWN)) {
            self.add(format!("{}: sees another home's things: {text}", cell.label));
        }
        if let Some(name) = &cell.alike {
            let mut alike = self.alike.lock().expect("no panic");
            let (label, first) = alike.entry(name.clone()).or_insert_with(|| (cell.label.clone(), text.to_owned()));
            if first != text {
                let problem = format!("{label} and {} are told apart:\n  {first}\n  {text}", cell.label);
                drop(alike);
                self.add(problem);
            }
        }
    }
}

/// Whether something stands at a path; of a list, in its first item.
fn is_reached(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(items), _) => items.first().is_some_and(|item| is_reached(item, path)),
        (_, []) => true,
        (Value::Object(map), [name, rest @ ..]) => map.get(name).is_some_and(|value| is_reached(value, rest)),
        _ => false,
    }
}
