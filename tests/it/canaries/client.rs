//! A client that keeps every answer it gets, for the hunt.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::hunt::Hunt;
use crate::support::http::{Answer, request};

/// Headers of a request, without the token.
const JSON: [(&str, &str); 2] = [("content-type", "application/json"), ("accept", "application/graphql-response+json")];

/// Speaks to one server.
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) hunt: Hunt,
}

fn whole(answer: &Answer) -> Vec<u8> {
    let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
    [headers.as_bytes(), &answer.body].concat()
}

impl Client {
    /// Any request at all; nothing secret may be in its answer.
    pub(super) async fn raw(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = request(self.addr, method, path, headers, body).await;
        let what = format!("the answer to {method} {path} {}", String::from_utf8_lossy(body));
        self.hunt.place(what, whole(&answer), vec![]);
        answer
    }

    /// An operation; nothing secret may be in its answer.
    pub(super) async fn ask(&mut self, token: Option<&str>, query: &str, variables: Value) -> Value {
        self.given(token, query, variables, &[]).await.0
    }

    /// An operation whose answer gives secrets, by their places in it: they are secrets from then on, and this
    /// answer alone may have them.
    pub(super) async fn given(
        &mut self,
        token: Option<&str>,
        query: &str,
        variables: Value,
        secrets: &[(&'static str, &str)],
    ) -> (Value, Vec<String>) {
        let body = json!({"query": query, "variables": variables}).to_string();
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = JSON.to_vec();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let answer = request(self.addr, "POST", "/graphql", &headers, body.as_bytes()).await;
        let value = answer.json();
        let found: Vec<String> = secrets
            .iter()
            .map(|(name, pointer)| {
                let secret = value.pointer(pointer).and_then(Value::as_str);
                let secret = secret.unwrap_or_else(|| panic!("no {name} at {pointer}: {value}")).to_owned();
                self.hunt.secret(name, &secret);
                secret
            })
            .collect();
        self.hunt.place(format!("the answer to {body}"), whole(&answer), found.clone());
        (value, found)
    }

    /// The same, and it must be refused with this code.
    pub(super) async fn refused(&mut self, token: Option<&str>, query: &str, variables: Value, code: &str) {
        let answer = self.ask(token, query, variables.clone()).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{query} {variables}: {answer}");
    }
}
