//! Twelve thousand commands of one account: with effects that never come, or to devices that are away.

use tokio::time::Instant;

use super::load::Load;
use crate::client::graphql_request;
use crate::tenants::account::{Account, Login};

/// Each may have a hundred open commands.
pub(super) const DEVICES: usize = 120;
const COMMANDS: usize = 12_000;
const A_REQUEST: usize = 20;

/// Sends them, twenty with a request, as fast as the account may.
pub(super) async fn send_many(account: &Account, devices: &[Login], expect: bool, until: Instant) -> String {
    let expect = if expect { ", expect: {never: 1}" } else { "" };
    let command = |n: usize| {
        let device = &devices[n % devices.len()].id;
        format!(
            "c{n}: sendCommand(input: {{deviceId: \"{device}\", type: \"REPORT\", payload: {{}}, expiresInSeconds: 3600, \
             timeoutSeconds: 86400{expect}}}) {{ id }}"
        )
    };
    let request = |first: usize| {
        let commands: Vec<_> = (first..first + A_REQUEST).map(command).collect();
        let query = format!("mutation {{ {} }}", commands.join(" "));
        graphql_request(account.client.token.as_deref(), &query, &serde_json::json!({}))
    };
    let requests = (0..COMMANDS).step_by(A_REQUEST).map(request).collect();
    let load = Load { requests, repeat: false, connections: 20, burst: 500, per_second: 50 };
    load.send(&account.client, until).await.text("requests of 20 commands")
}
