//! Large responses: left unread, and asked for as often as an account may.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::{Load, work_until};
use crate::client::graphql_request;
use crate::codec::{Frame, PUBACK, Packets};
use crate::server::PREFIX;
use crate::tenants::account::Account;
use crate::tenants::device;
use crate::tenants::http::{Client, connect};
use crate::tenants::world::World;

const READINGS: u16 = 500;
/// Bytes of a reading beside the known sensors.
const NOTE: usize = 15_800;
const UNREAD: usize = 120;
/// Receive buffer of a client that reads nothing, in bytes.
const RECEIVE: u32 = 4 << 10;
const LARGE: &str = "query($id: ID!) { device(id: $id) { telemetry(first: 500) { nodes { id extra } } } }";
/// Pause before a refused client asks again.
const AGAIN: Duration = Duration::from_millis(500);
/// Times that a heavy query asks for the same page.
const PAGES: usize = 20;

/// Readings of the attacker's first device, 8 MiB together, sent by the device.
pub(super) async fn store_readings(attacker: &super::Attacker, world: &World) -> Result<()> {
    let login = &attacker.account.devices[0];
    let mut stream = device::enter(world.mqtt_port, login, super::ENTRY).await?;
    let topic = format!("{PREFIX}/{}/{}/telemetry", attacker.account.home_key, login.key);
    for n in 0..READINGS {
        let note = format!("{n:05}{}", "x".repeat(NOTE));
        let payload = json!({"deviceId": login.key, "sensors": {"temperature": n, "note": note}}).to_string();
        stream.write_all(&Frame::new(&topic, payload.as_bytes()).with_id(n + 1)).await?;
    }
    let (mut packets, mut bytes, mut n_acked) = (Packets::default(), vec![0; 4 << 10], 0);
    while n_acked < READINGS {
        let n = stream.read(&mut bytes).await?;
        ensure!(n > 0, "the broker closed the connection of the attacker's device");
        packets.feed(&bytes[..n]);
        while let Some((kind, _)) = packets.next() {
            n_acked += u16::from(kind == PUBACK);
        }
    }
    // The broker has them; the server stores them after that.
    let mut client = attacker.account.client.clone();
    let begun = Instant::now();
    loop {
        let page = client.ask(LARGE, &json!({"id": login.id})).await.context("the attacker's readings")?;
        let n_stored = page["device"]["telemetry"]["nodes"].as_array().map_or(0, Vec::len);
        if n_stored == usize::from(READINGS) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "only {n_stored} of the attacker's readings are stored");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Asks for the 8 MiB on many connections, and reads nothing. A connection that the server closes is replaced.
pub(super) async fn leave_unread(account: &Account, until: Instant) -> String {
    let request = graphql_request(account.client.token.as_deref(), LARGE, &json!({"id": account.devices[0].id}));
    let mut tasks = JoinSet::new();
    for _ in 0..UNREAD {
        let (client, request) = (account.client.clone(), request.clone());
        tasks.spawn(async move {
            let mut asked = 0;
            work_until(until, unread(&client, &request, &mut asked)).await;
            asked
        });
    }
    let asked: usize = tasks.join_all().await.into_iter().sum();
    format!("{asked} responses asked for on {UNREAD} connections")
}

async fn unread(client: &Client, request: &[u8], asked: &mut usize) {
    loop {
        if let Ok(mut stream) = connect(client.addr, client.from, Some(RECEIVE)).await
            && stream.write_all(request).await.is_ok()
        {
            *asked += 1;
            // The first bytes stay in the buffer: a refusal is followed by another request, a response is left there.
            let mut head = [0; 12];
            if matches!(stream.peek(&mut head).await, Ok(12..)) && head.ends_with(b"200") {
                std::future::pending::<()>().await;
            }
        }
        sleep(AGAIN).await;
    }
}

/// Twenty pages of readings with each query, up to fifty queries a second.
pub(super) async fn query_heavily(account: &Account, connections: usize, until: Instant) -> String {
    let device = &account.devices[0].id;
    let page = |n| format!("d{n}: device(id: \"{device}\") {{ telemetry(first: 500) {{ nodes {{ id }} }} }}");
    let query = format!("{{ {} }}", (0..PAGES).map(page).collect::<Vec<_>>().join(" "));
    let request = graphql_request(account.client.token.as_deref(), &query, &json!({}));
    let load = Load { requests: vec![request], repeat: true, connections, burst: connections, per_second: 50 };
    load.send(&account.client, until).await.text("heavy queries")
}
