//! GraphQL queries over kept-alive HTTP: fifty devices with their latest telemetry, and the last
//! hundred readings of one device.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Http, ask, graphql_request};
use crate::ingest;
use crate::messages::DEVICES;
use crate::server::Server;
use crate::stage::Stage;
use crate::stats::{per_second, thousands};
use crate::table::Table;

/// Sixteen fields a node in both.
const DEVICES_QUERY: &str = "query($id: ID!) { devices(homeId: $id, first: 50) { nodes { id key name latestTelemetry { \
    recordedAt sensors { gasPpm flame binLevel powerW energyKwh voltageV currentA frequencyHz powerFactor distanceCm \
    temperature humidity } } } } }";
const READINGS_QUERY: &str = "query($id: ID!) { device(id: $id) { telemetry(first: 100) { nodes { id recordedAt receivedAt \
    sensors { current gasPpm flame binLevel powerW energyKwh voltageV currentA frequencyHz powerFactor distanceCm \
    temperature humidity } } } } }";
const CONNECTIONS: [usize; 2] = [1, 16];

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server) -> Result<()> {
    // A hundred readings of every device, whatever was measured before.
    ingest::flood(stage, 100 * DEVICES as u64)?;
    let device = &server.devices[0];
    let lists = [
        ("50 devices with latest telemetry", DEVICES_QUERY, &server.home, "/devices/nodes", 50, "at least 3,000"),
        ("last 100 readings", READINGS_QUERY, device, "/device/telemetry/nodes", 100, "at least 1,700"),
    ];
    for (what, query, id, nodes, n, target) in lists {
        let token = server.token()?;
        let variables = json!({ "id": id });
        let answer = ask(server.addr, Some(&token), query, &variables)?;
        let got = answer.pointer(nodes).and_then(Value::as_array).map(Vec::len);
        ensure!(got == Some(n), "{what}: expected {n} nodes, got {answer}");
        let request = graphql_request(Some(&token), query, &variables);
        for connections in CONNECTIONS {
            let rate = rate(server.addr, &request, connections, Duration::from_secs(stage.size.seconds.into()) / 2)?;
            let measured = format!("{} requests/s", thousands(rate));
            let target = if connections == 1 { "" } else { target };
            table.row(&format!("{what}, {connections} connections"), &measured, "", None, target);
        }
    }
    Ok(())
}

fn rate(addr: SocketAddr, request: &[u8], connections: usize, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let one = || -> Result<u64> {
        let (mut http, mut n) = (Http::connect(addr)?, 0);
        while start.elapsed() < time {
            let (status, body) = http.exchange(request)?;
            ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(body));
            n += 1;
        }
        Ok(n)
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
    });
    Ok(per_second(counts.context("query")?.iter().sum(), start.elapsed()))
}
