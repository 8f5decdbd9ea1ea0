//! Thousands of devices that the broker must learn of.

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::Instant;

use crate::tenants::account::Account;

const REQUESTS: usize = 4;
const A_REQUEST: usize = 1_000;

pub(super) async fn register_many(account: &Account) -> Result<String> {
    let query = "mutation($input: RegisterDevicesInput!) { registerDevices(input: $input) { device { id } } }";
    let (mut client, begun) = (account.client.clone(), Instant::now());
    for batch in 0..REQUESTS {
        let devices: Vec<_> =
            (0..A_REQUEST).map(|n| json!({"key": format!("d{batch}-{n}"), "name": "Device"})).collect();
        let input = json!({"homeId": account.home, "devices": devices});
        client.ask(query, &json!({ "input": input })).await.context("register a thousand devices")?;
    }
    Ok(format!("{} devices in {:.1} s", REQUESTS * A_REQUEST, begun.elapsed().as_secs_f64()))
}
