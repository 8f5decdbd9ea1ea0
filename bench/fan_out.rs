//! A thousand people look at one device: what each of them costs, and how fast frames go out when
//! they must. The Node server does the same on the same tables.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::bare_frames;
use crate::cost::Meter;
use crate::live::{Load, await_first_event};
use crate::node::Node;
use crate::process;
use crate::server::{Endpoint, Server};
use crate::socket::{DEVICE_FIELDS, FIELDS, Subscriber};
use crate::stage::Stage;
use crate::stats::{Latencies, pair, per_second, thousands};
use crate::table::Table;

const SUBSCRIBERS: u32 = 1_000;
const CALM: u32 = 10;
/// About the size of an event with device in its frame.
const FRAME_BYTES: usize = 250;
/// Events a second that ask for more frames than anybody sends.
const PUSHED: u32 = 200;
/// Which of the home's devices they look at.
const DEVICE: std::ops::Range<usize> = 0..1;

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, node: Option<&Node>) -> Result<()> {
    let device = &server.devices[0];
    let push = stage.size.seconds.div_ceil(3);
    let ours = group(stage, &server.endpoint()?, (device, DEVICE_FIELDS), push)?;
    // It sends a tenth of the frames: a second of events keeps it busy for long enough.
    let theirs = node.map(|node| group(stage, &node.endpoint(), (device, DEVICE_FIELDS), 1)).transpose()?;
    let limit = |text: &dyn Fn(&Group) -> String| {
        theirs.as_ref().map(|group| format!("Node {}", text(group))).unwrap_or_default()
    };
    let ratio = |figure: &dyn Fn(&Group) -> f64| theirs.as_ref().map(|group| figure(&ours) / figure(group));
    let (n, latency) = (thousands(SUBSCRIBERS.into()), |group: &Group| pair(group.calm.latency));
    let what = format!("fan-out, {n} subscribers x {CALM}/s, with device, p50 / p99");
    let p99 = ratio(&|group| group.calm.latency.1.as_secs_f64());
    table.row(&what, &latency(&ours), &limit(&latency), p99, "p99 at most 10 ms or half of Node");
    let share = |group: &Group| format!("{:.1} % of a core", group.calm.share());
    let target = "at most 15 %";
    table.row("the same: processor of the server", &share(&ours), &limit(&share), ratio(&|g| g.calm.share()), target);
    let bare = bare_frames::share(stage, SUBSCRIBERS, CALM, FRAME_BYTES)?;
    let alone = format!("bare loop {bare:.1} %");
    table.row("the same beside a bare loop of writes", &share(&ours), &alone, Some(ours.calm.share() / bare), "");
    let statements = |group: &Group| format!("{:.3}", group.calm.statements);
    table.row("the same: statements a frame", &statements(&ours), "", None, "0");
    let memory = |group: &Group| format!("{:.1} KB a subscriber", group.memory);
    table.row("the same: memory", &memory(&ours), &limit(&memory), ratio(&|group| group.memory), "at most 20 KB");
    let pushed = |group: &Group| format!("{} frames/s", thousands(group.pushed.rate()));
    let target = "at least 100,000";
    table.row("the same when pushed", &pushed(&ours), &limit(&pushed), ratio(&|group| group.pushed.rate()), target);

    let fields = group(stage, &server.endpoint()?, (device, FIELDS), push)?;
    let what = format!("fan-out, {n} subscribers x {CALM}/s, five fields, p50 / p99");
    table.row(&what, &latency(&fields), "", None, "p99 at most 10 ms");
    table.row("the same: processor of the server", &share(&fields), "", None, "at most 15 %");
    table.row("the same when pushed", &pushed(&fields), "", None, "at least 100,000");
    Ok(())
}

/// What the subscribers of one program received.
struct Group {
    calm: Run,
    pushed: Run,
    /// KiB a subscriber.
    memory: f64,
}

struct Run {
    latency: (Duration, Duration),
    frames: u64,
    cpu: Duration,
    time: Duration,
    /// For each frame, without those of ingest.
    statements: f64,
}

impl Run {
    fn share(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }

    fn rate(&self) -> f64 {
        per_second(self.frames, self.time)
    }
}

/// Connects the subscribers of a device with this selection and measures both loads.
fn group(stage: &Stage, endpoint: &Endpoint, (device, fields): (&str, &str), push: u32) -> Result<Group> {
    let before = process::memory_kib(endpoint.pid)?.0;
    let meter = Meter::start(stage, endpoint.pid)?;
    Load::start(stage, endpoint.prefix, DEVICE, u64::from(CALM * stage.size.seconds.div_ceil(5)), CALM).finish()?;
    let ingest = meter.stop(stage, &HashSet::new())?.kinds;

    let subscribers = stage.runtime.block_on(async {
        let mut subscribers = Vec::new();
        for _ in 0..SUBSCRIBERS {
            subscribers.push(Subscriber::connect(endpoint, "deviceId", &[device.to_owned()], fields).await?);
        }
        anyhow::Ok(subscribers)
    })?;
    let subscribers = await_first_event(stage, endpoint.prefix, DEVICE, subscribers)?;
    let load = |rate: u32, seconds: u32| Load::start(stage, endpoint.prefix, DEVICE, (rate * seconds).into(), rate);
    let meter = Meter::start(stage, endpoint.pid)?;
    let (subscribers, calm) = run(stage, endpoint, subscribers, load(CALM, stage.size.seconds))?;
    let statements = meter.stop(stage, &ingest)?.statements;
    let calm = Run { statements: per_second(statements, Duration::from_secs(calm.frames)), ..calm };
    let memory = process::memory_kib(endpoint.pid)?.0.saturating_sub(before);
    let memory = f64::from(u32::try_from(memory)?) / f64::from(SUBSCRIBERS);
    let (subscribers, pushed) = run(stage, endpoint, subscribers, load(PUSHED, push))?;
    drop(subscribers);
    Ok(Group { calm, pushed, memory })
}

fn run(stage: &Stage, endpoint: &Endpoint, subscribers: Vec<Subscriber>, load: Load) -> Result<(Vec<Subscriber>, Run)> {
    let cpu = process::cpu(endpoint.pid, false);
    let start = Instant::now();
    let (subscribers, latencies) = stage.runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for subscriber in subscribers {
            tasks.spawn(load.listen(subscriber, stage.numbers.clone(), load.len()));
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
    let cpu = process::cpu(endpoint.pid, false).saturating_sub(cpu);
    load.finish()?;
    let frames = latencies.len() as u64;
    Ok((subscribers, Run { latency: latencies.p50_p99(), frames, cpu, time, statements: 0.0 }))
}
