//! From a device's PUBLISH to a GraphQL subscriber, the row committed in between.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::broker_alone::{BrokerAlone, RATES};
use crate::load::{Publisher, SentAt};
use crate::messages::{DEVICES, Numbers};
use crate::server::{HOME, PREFIX, Server};
use crate::socket::Subscriber;
use crate::stage::Stage;
use crate::stats::{Latencies, pair, thousands};
use crate::table::Table;

const TARGETS: [&str; 3] = ["", "p50 at most 0.5, p99 at most 3 ms", "p99 at most 10 ms"];

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, broker: &BrokerAlone) -> Result<()> {
    for (index, rate) in RATES.into_iter().enumerate() {
        let n = u64::from(rate * stage.size.seconds);
        let measured = run(stage, server, n, rate)?;
        let alone = broker.latencies.get(index);
        let limit = alone.map(|alone| format!("broker {}", pair(*alone))).unwrap_or_default();
        let ratio = alone.map(|alone| ratio(measured.0, alone.0));
        let what = format!("publish -> GraphQL subscriber, p50 / p99 at {}/s", thousands(rate.into()));
        table.row(&what, &pair(measured), &limit, ratio, TARGETS[index]);
    }
    Ok(())
}

fn ratio(ours: Duration, limit: Duration) -> f64 {
    ours.as_secs_f64() / limit.as_secs_f64()
}

fn run(stage: &Stage, server: &Server, n: u64, rate: u32) -> Result<(Duration, Duration)> {
    let token = server.token()?;
    let home = Subscriber::connect(server.addr, &token, "homeId", &server.home);
    let subscriber = stage.runtime.block_on(home)?;
    let mut subscribers = await_first_event(stage, 0..DEVICES, vec![subscriber])?;
    let load = Load::start(stage, 0..DEVICES, n, rate);
    let latencies = stage.runtime.block_on(load.listen(subscribers.remove(0), stage.numbers.clone()))?.1;
    load.finish()?;
    Ok(latencies.p50_p99())
}

/// A paced load in a thread of its own.
pub(crate) struct Load {
    numbers: Range<u64>,
    sent_at: Arc<SentAt>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Load {
    /// Sends `n` messages at this rate.
    pub(crate) fn start(stage: &Stage, devices: Range<usize>, n: u64, rate: u32) -> Self {
        let range = stage.numbers.take(n);
        let sent_at = SentAt::new(&range);
        let thread = thread::spawn({
            let (range, numbers, sent_at, port) =
                (range.clone(), stage.numbers.clone(), sent_at.clone(), stage.mqtt_port);
            move || Publisher::connect(port, PREFIX, HOME, devices, &numbers)?.paced(range, rate, &sent_at)
        });
        Self { numbers: range, sent_at, thread }
    }

    /// Hears all of it, and how old each event was.
    pub(crate) fn listen(
        &self,
        mut subscriber: Subscriber,
        numbers: Arc<Numbers>,
    ) -> impl Future<Output = Result<(Subscriber, Latencies)>> + Send + 'static {
        let (wanted, sent_at) = (self.numbers.clone(), self.sent_at.clone());
        async move {
            let (mut latencies, n) = (Latencies::default(), wanted.end - wanted.start);
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

/// The protocol does not say when a subscription stands: sends messages until each subscriber has
/// received one.
pub(crate) fn await_first_event(
    stage: &Stage,
    devices: Range<usize>,
    subscribers: Vec<Subscriber>,
) -> Result<Vec<Subscriber>> {
    /// Messages a second, by twos.
    const CALLS: u32 = 10;
    let received = Arc::new(AtomicBool::new(false));
    let (done, numbers, port) = (received.clone(), stage.numbers.clone(), stage.mqtt_port);
    let caller = thread::spawn(move || -> Result<()> {
        let mut publisher = Publisher::connect(port, PREFIX, HOME, devices, &numbers)?;
        while !done.load(Ordering::Acquire) {
            let range = numbers.take(2);
            publisher.paced(range.clone(), CALLS, &SentAt::new(&range))?;
        }
        Ok(())
    });
    let subscribers = stage.runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for mut subscriber in subscribers {
            let numbers = stage.numbers.clone();
            tasks.spawn(async move { subscriber.next_number(&numbers).await.map(|_| subscriber) });
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
