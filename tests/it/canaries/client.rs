//! A client that adds every response to the search.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::search::SecretSearch;
use crate::support::http::{Answer, request};

/// Headers of a request, without the token.
const JSON: [(&str, &str); 2] = [("content-type", "application/json"), ("accept", "application/graphql-response+json")];

/// A client of one server.
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) search: SecretSearch,
}

fn headers_and_body(answer: &Answer) -> Vec<u8> {
    let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
    [headers.as_bytes(), &answer.body].concat()
}

impl Client {
    /// Sends any request. Its response must contain no secret.
    pub(super) async fn raw(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = request(self.addr, method, path, headers, body).await;
        let what = format!("the answer to {method} {path} {}", String::from_utf8_lossy(body));
        self.search.add_output(what, headers_and_body(&answer), vec![]);
        answer
    }

    /// Executes an operation. Its response must contain no secret.
    pub(super) async fn ask(&mut self, token: Option<&str>, query: &str, variables: Value) -> Value {
        self.ask_for_secrets(token, query, variables, &[]).await.0
    }

    /// Executes an operation whose response contains new secrets at these JSON pointers. They are added to the search, and
    /// only this response may contain them. Returns them.
    pub(super) async fn ask_for_secrets(
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
                self.search.add_secret(name, &secret);
                secret
            })
            .collect();
        self.search.add_output(format!("the answer to {body}"), headers_and_body(&answer), found.clone());
        (value, found)
    }

    /// Executes an operation that must fail with this code.
    pub(super) async fn refused(&mut self, token: Option<&str>, query: &str, variables: Value, code: &str) {
        let answer = self.ask(token, query, variables.clone()).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{query} {variables}: {answer}");
    }
}
