//! GraphQL queries over kept-alive HTTP: fifty devices with their latest telemetry, and the last
//! hundred readings of one device; beside them an empty list and no list at all. The Node server answers the same
//! requests in turns.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Http, ask, graphql_request};
use crate::cost::{Meter, micros};
use crate::ingest;
use crate::messages::DEVICES;
use crate::node::Node;
use crate::server::{Endpoint, Server};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;

/// Sixteen fields a node in both.
pub(crate) const DEVICES_QUERY: &str = "query($id: ID!) { devices(homeId: $id, first: 50) { nodes { id key name latestTelemetry { \
    recordedAt sensors { gasPpm flame binLevel powerW energyKwh voltageV currentA frequencyHz powerFactor distanceCm \
    temperature humidity } } } } }";
pub(crate) const READINGS_QUERY: &str = "query($id: ID!) { device(id: $id) { telemetry(first: 100) { nodes { id recordedAt receivedAt \
    sensors { current gasPpm flame binLevel powerW energyKwh voltageV currentA frequencyHz powerFactor distanceCm \
    temperature humidity } } } } }";
/// No device of the run is a camera.
const EMPTY_QUERY: &str =
    "query($id: ID!) { devices(homeId: $id, first: 50, filter: { type: CAMERA }) { nodes { id key name } } }";
const MANY: usize = 16;

struct List<'a> {
    what: &'static str,
    query: &'static str,
    /// Of the home or the device.
    id: &'a str,
    /// Where its nodes are in the answer, and how many.
    nodes: &'static str,
    n: usize,
    target: &'static str,
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, node: Option<&Node>) -> Result<()> {
    // A hundred readings of every device, whatever was measured before.
    ingest::flood(stage, 100 * DEVICES as u64)?;
    let lists = [
        List {
            what: "50 devices with latest telemetry",
            query: DEVICES_QUERY,
            id: &server.home,
            nodes: "/devices/nodes",
            n: 50,
            target: "at least 4 times Node",
        },
        List {
            what: "last 100 readings",
            query: READINGS_QUERY,
            id: &server.devices[0],
            nodes: "/device/telemetry/nodes",
            n: 100,
            target: "at least 4 times Node",
        },
    ];
    for list in lists {
        compare(stage, table, server, node, &list)?;
    }
    let empty =
        List { what: "an empty list", query: EMPTY_QUERY, id: &server.home, nodes: "/devices/nodes", n: 0, target: "" };
    compare(stage, table, server, None, &empty)
}

/// Rates and costs of one list, ours and Node's in turns.
fn compare(stage: &Stage, table: &mut Table, server: &Server, node: Option<&Node>, list: &List<'_>) -> Result<()> {
    let time = Duration::from_secs(stage.size.seconds.into()) / 2;
    let ours = Requests::prepare(server.endpoint()?, list)?;
    let others = node.map(|node| Requests::prepare(node.endpoint(), list)).transpose()?;
    let (_, alone) = ours.send(1, time)?;
    table.row(&format!("{}, 1 connection", list.what), &requests(alone), "", None, "");
    let (mut figures, mut theirs) = (Figures::default(), Figures::default());
    for _ in 0..stage.size.rounds {
        figures.measure(stage, &ours, time)?;
        if let Some(others) = &others {
            theirs.measure(stage, others, time)?;
        }
    }
    let compared = node.is_some();
    let limit = |text: String| if compared { format!("Node {text}") } else { String::new() };
    let (rate, other) = (median(figures.rates.clone()), median(theirs.rates.clone()));
    let what = format!("{}, {MANY} connections", list.what);
    table.row(&what, &requests(rate), &limit(requests(other)), compared.then_some(rate / other), list.target);
    let what = "the same: processor a request, server / PostgreSQL";
    let ratio = compared.then(|| figures.processor() / theirs.processor());
    table.row(what, &figures.costs(), &limit(theirs.costs()), ratio, "");
    let what = "the same: statements a request";
    table.row(what, &figures.statements(), &limit(theirs.statements()), None, "");
    Ok(())
}

fn requests(rate: f64) -> String {
    format!("{} requests/s", thousands(rate))
}

/// One figure a round.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    server: Vec<f64>,
    database: Vec<f64>,
    statements: Vec<f64>,
}

impl Figures {
    fn measure(&mut self, stage: &Stage, requests: &Requests, time: Duration) -> Result<()> {
        let meter = Meter::start(stage, requests.endpoint.pid)?;
        let (n, rate) = requests.send(MANY, time)?;
        let cost = meter.stop(stage, &HashSet::new())?;
        self.rates.push(rate);
        self.server.push(micros(cost.server, n));
        self.database.push(micros(cost.database, n));
        self.statements.push(per_second(cost.statements, Duration::from_secs(n)));
        Ok(())
    }

    fn costs(&self) -> String {
        format!("{:.0} / {:.0} us", median(self.server.clone()), median(self.database.clone()))
    }

    fn processor(&self) -> f64 {
        median(self.server.clone()) + median(self.database.clone())
    }

    fn statements(&self) -> String {
        format!("{:.2}", median(self.statements.clone()))
    }
}

/// A request that was answered as expected, ready to be sent many times.
struct Requests {
    endpoint: Endpoint,
    request: Vec<u8>,
}

impl Requests {
    fn prepare(endpoint: Endpoint, list: &List<'_>) -> Result<Self> {
        let variables = json!({ "id": list.id });
        let answer = ask(endpoint.addr, Some(&endpoint.token), list.query, &variables)?;
        let got = answer.pointer(list.nodes).and_then(Value::as_array).map(Vec::len);
        ensure!(got == Some(list.n), "{}: expected {} nodes, got {answer}", list.what, list.n);
        let request = graphql_request(Some(&endpoint.token), list.query, &variables);
        Ok(Self { endpoint, request })
    }

    /// Sends it over so many connections for this long: how many were answered, and how many a second.
    fn send(&self, connections: usize, time: Duration) -> Result<(u64, f64)> {
        let start = Instant::now();
        let counts = thread::scope(|scope| {
            let one = || scope.spawn(|| send(self.endpoint.addr, &self.request, start, time));
            let threads: Vec<_> = (0..connections).map(|_| one()).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
        });
        let n = counts.context("query")?.iter().sum();
        Ok((n, per_second(n, start.elapsed())))
    }
}

fn send(addr: SocketAddr, request: &[u8], start: Instant, time: Duration) -> Result<u64> {
    let (mut http, mut n) = (Http::connect(addr)?, 0);
    while start.elapsed() < time {
        let (status, body) = http.exchange(request)?;
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(body));
        n += 1;
    }
    Ok(n)
}
