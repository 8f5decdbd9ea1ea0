//! A thousand people look at one device: what each of them costs, and how fast frames go out when
//! they must.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::live::{Load, await_first_event};
use crate::process;
use crate::server::Server;
use crate::socket::Subscriber;
use crate::stage::Stage;
use crate::stats::{Latencies, pair, per_second, thousands};
use crate::table::Table;

const SUBSCRIBERS: u32 = 1_000;
const CALM: u32 = 10;
/// Events a second that ask for more frames than anybody sends.
const PUSHED: u32 = 200;

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server) -> Result<()> {
    let pid = server.process.id();
    let (before, _) = process::memory_kib(pid)?;
    let token = server.token()?;
    let subscribers = stage.runtime.block_on(async {
        let mut subscribers = Vec::new();
        for _ in 0..SUBSCRIBERS {
            subscribers.push(Subscriber::connect(server.addr, &token, "deviceId", &server.devices[0]).await?);
        }
        anyhow::Ok(subscribers)
    })?;

    let subscribers = await_first_event(stage, DEVICE, subscribers)?;
    let (subscribers, calm) = run(stage, server, subscribers, CALM, stage.size.seconds)?;
    let (after, _) = process::memory_kib(pid)?;
    let what = format!("fan-out, {} subscribers x {CALM}/s, p50 / p99", thousands(SUBSCRIBERS.into()));
    table.row(&what, &pair(calm.latency), "", None, "p99 at most 10 ms");
    let share = 100.0 * calm.cpu.as_secs_f64() / calm.time.as_secs_f64();
    table.row("the same: processor of the server", &format!("{share:.0} % of a core"), "", None, "at most 15 %");
    let each = f64::from(u32::try_from(after.saturating_sub(before))?) / f64::from(SUBSCRIBERS);
    table.row("the same: memory", &format!("{each:.1} KB a subscriber"), "", None, "at most 20 KB");

    let (subscribers, pushed) = run(stage, server, subscribers, PUSHED, stage.size.seconds.div_ceil(3))?;
    let rate = per_second(pushed.frames, pushed.time);
    table.row("fan-out when pushed", &format!("{} frames/s", thousands(rate)), "", None, "at least 100,000");
    drop(subscribers);
    Ok(())
}

struct Run {
    latency: (Duration, Duration),
    frames: u64,
    cpu: Duration,
    time: Duration,
}

/// Which of the home's devices they look at.
const DEVICE: std::ops::Range<usize> = 0..1;

fn run(
    stage: &Stage,
    server: &Server,
    subscribers: Vec<Subscriber>,
    rate: u32,
    seconds: u32,
) -> Result<(Vec<Subscriber>, Run)> {
    let cpu = process::cpu(server.process.id(), false);
    let start = Instant::now();
    let load = Load::start(stage, DEVICE, u64::from(rate * seconds), rate);
    let (subscribers, latencies) = stage.runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for subscriber in subscribers {
            tasks.spawn(load.listen(subscriber, stage.numbers.clone()));
        }
        let (mut subscribers, mut latencies) = (Vec::new(), Latencies::default());
        while let Some(received) = tasks.join_next().await {
            let (subscriber, received) = received??;
            latencies.extend(received);
            subscribers.push(subscriber);
        }
        anyhow::Ok((subscribers, latencies))
    })?;
    let time = start.elapsed();
    let cpu = process::cpu(server.process.id(), false).saturating_sub(cpu);
    load.finish()?;
    let frames = latencies.len() as u64;
    Ok((subscribers, Run { latency: latencies.p50_p99(), frames, cpu, time }))
}
