//! From a device's PUBLISH to a GraphQL subscriber, the row committed in between.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::broker_alone::{BrokerAlone, RATES};
use crate::cost::{Cost, Meter, micros};
use crate::load::{Publisher, SentAt};
use crate::messages::{DEVICES, Numbers};
use crate::round_trip;
use crate::server::{HOME, PREFIX, Server};
use crate::socket::{DEVICE_FIELDS, FIELDS, Subscriber};
use crate::stage::Stage;
use crate::stats::{Latencies, millis, pair, per_second, thousands};
use crate::table::Table;

/// From this rate on the costs are measured too.
const BUSY: u32 = 1_000;
const TARGETS: [&str; 3] = ["", "p99 at most 3 ms", "p99 at most 10 ms"];
const SELECTIONS: [(&str, &str); 2] = [("", FIELDS), (", with device", DEVICE_FIELDS)];

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, broker: &BrokerAlone) -> Result<()> {
    let trip = round_trip::measure(stage)?;
    table.row(
        "database alone, p50 of `select 1` / of one committed row",
        &pair((trip.select, trip.commit)),
        "",
        None,
        "",
    );
    // A device's first message looks it up and brings it online: that is not what the rates are about.
    Load::start(stage, PREFIX, 0..DEVICES, DEVICES as u64, BUSY).finish()?;
    for (index, rate) in RATES.into_iter().enumerate() {
        let n = u64::from(rate * stage.size.seconds);
        let busy = rate >= BUSY;
        let ingest = busy.then(|| ingest(stage, server, n, rate)).transpose()?;
        for (name, fields) in SELECTIONS.into_iter().take(if busy { 2 } else { 1 }) {
            let other = ingest.as_ref().map(|cost| cost.kinds.clone()).unwrap_or_default();
            let (latency, cost) = run(stage, server, fields, (n, rate), &other)?;
            let alone = broker.latencies.get(index);
            let limit = alone.map(|alone| format!("broker {}", pair(*alone))).unwrap_or_default();
            let ratio = alone.map(|alone| latency.0.as_secs_f64() / alone.0.as_secs_f64());
            let what = format!("publish -> GraphQL subscriber{name}, p50 / p99 at {}/s", thousands(rate.into()));
            table.row(&what, &pair(latency), &limit, ratio, TARGETS[index]);
            let Some(ingest) = &ingest else { continue };
            let above = latency.0.saturating_sub(trip.commit);
            let limit = format!("commit {}", millis(trip.commit));
            let target = if rate == BUSY { "at most 0.5 ms" } else { "" };
            table.row("the same: p50 above one committed row", &millis(above), &limit, None, target);
            let us = |cost: &Cost| format!("{:.1} / {:.1} us", micros(cost.server, n), micros(cost.database, n));
            let limit = format!("without a subscriber {}", us(ingest));
            table.row("the same: processor an event, server / PostgreSQL", &us(&cost), &limit, None, "");
            let statements = per_second(cost.statements, Duration::from_secs(n));
            table.row("the same: statements an event", &format!("{statements:.3}"), "", None, "0");
        }
    }
    Ok(())
}

/// What the same load costs without a subscriber.
fn ingest(stage: &Stage, server: &Server, n: u64, rate: u32) -> Result<Cost> {
    let meter = Meter::start(stage, server.process.id())?;
    Load::start(stage, PREFIX, 0..DEVICES, n, rate).finish()?;
    meter.stop(stage, &HashSet::new())
}

/// One subscriber of the home; the statements of `other` work are not counted.
fn run(
    stage: &Stage,
    server: &Server,
    fields: &str,
    (n, rate): (u64, u32),
    other: &HashSet<i64>,
) -> Result<((Duration, Duration), Cost)> {
    let endpoint = server.endpoint()?;
    let home = [server.home.clone()];
    let subscriber = stage.runtime.block_on(Subscriber::connect(&endpoint, "homeId", &home, fields))?;
    let mut subscribers = await_first_event(stage, PREFIX, 0..DEVICES, vec![subscriber])?;
    let meter = Meter::start(stage, endpoint.pid)?;
    let load = Load::start(stage, PREFIX, 0..DEVICES, n, rate);
    let received = load.listen(subscribers.remove(0), stage.numbers.clone(), n);
    let latencies = stage.runtime.block_on(received)?.1;
    load.finish()?;
    Ok((latencies.p50_p99(), meter.stop(stage, other)?))
}

/// A paced load in a thread of its own.
pub(crate) struct Load {
    numbers: Range<u64>,
    sent_at: Arc<SentAt>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Load {
    /// Sends `n` messages of these devices in turn at this rate.
    pub(crate) fn start(
        stage: &Stage,
        prefix: &'static str,
        devices: impl IntoIterator<Item = usize> + Send + 'static,
        n: u64,
        rate: u32,
    ) -> Self {
        let range = stage.numbers.take(n);
        let sent_at = SentAt::new(&range);
        let thread = thread::spawn({
            let (range, numbers, sent_at, port) =
                (range.clone(), stage.numbers.clone(), sent_at.clone(), stage.mqtt_port);
            move || Publisher::connect(port, prefix, HOME, devices, &numbers)?.paced(range, rate, &sent_at)
        });
        Self { numbers: range, sent_at, thread }
    }

    /// How many messages.
    pub(crate) fn len(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// Receives `n` of its events, and how old each one was.
    pub(crate) fn listen(
        &self,
        mut subscriber: Subscriber,
        numbers: Arc<Numbers>,
        n: u64,
    ) -> impl Future<Output = Result<(Subscriber, Latencies)>> + Send + 'static {
        let (wanted, sent_at) = (self.numbers.clone(), self.sent_at.clone());
        async move {
            let mut latencies = Latencies::default();
            while latencies.len() as u64 != n {
                let number = subscriber.next_number(&numbers).await?;
                if wanted.contains(&number) {
                    latencies.push(sent_at.age(number).context("an event of a message that was sent")?);
                }
            }
            Ok((subscriber, latencies))
        }
    }

    /// Waits until the last message is acknowledged.
    pub(crate) fn finish(self) -> Result<()> {
        self.thread.join().expect("the load does not panic")
    }
}

/// The protocol does not say when a subscription stands: sends messages until each subscription has
/// received one.
pub(crate) fn await_first_event(
    stage: &Stage,
    prefix: &'static str,
    devices: Range<usize>,
    subscribers: Vec<Subscriber>,
) -> Result<Vec<Subscriber>> {
    /// Messages a second, by twos.
    const CALLS: u32 = 10;
    let received = Arc::new(AtomicBool::new(false));
    let (done, numbers, port) = (received.clone(), stage.numbers.clone(), stage.mqtt_port);
    let caller = thread::spawn(move || -> Result<()> {
        let mut publisher = Publisher::connect(port, prefix, HOME, devices, &numbers)?;
        while !done.load(Ordering::Acquire) {
            let range = numbers.take(2);
            publisher.paced(range.clone(), CALLS, &SentAt::new(&range))?;
        }
        Ok(())
    });
    let subscribers = stage.runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for mut subscriber in subscribers {
            tasks.spawn(async move { subscriber.all_received().await.map(|()| subscriber) });
        }
        let mut standing = Vec::new();
        while let Some(subscriber) = tasks.join_next().await {
            standing.push(subscriber??);
        }
        anyhow::Ok(standing)
    });
    received.store(true, Ordering::Release);
    caller.join().expect("the caller does not panic")?;
    subscribers
}
