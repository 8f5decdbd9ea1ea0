//! One account attacks, ten others go on with ordinary work: what they meet in a quiet window and in the attacked one.
//! README.md beside this folder explains the columns.

mod account;
mod attacks;
mod away;
mod device;
mod figures;
mod http;
mod memory;
mod person;
mod quiet;
mod report;
mod tabs;
mod world;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::server::text;
use crate::stage::Stage;
use attacks::{ALL, Attack, Attacker};
use device::Device;
use figures::{Devices, Memory, Processor, Window};
use quiet::{Neighbour, Quiet};
use report::{Case, Report};
use world::World;

const QUIET_WINDOW: Duration = Duration::from_secs(5);
const ATTACKED_WINDOW: Duration = Duration::from_secs(12);
/// The stolen device is reported so long after a window has begun.
const THEFT_AFTER: Duration = Duration::from_secs(2);
/// Longest wait for a stolen device to be cut off, and for a new one to be let in.
const DEVICES_PATIENCE: Duration = Duration::from_secs(125);
/// Longest wait until all readings of quiet devices are stored.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// What is measured.
pub(crate) struct Options {
    /// Names of attacks; empty for all.
    pub(crate) names: Vec<String>,
    /// The folder of the broker's files.
    pub(crate) broker_files: PathBuf,
    /// The trial under a limit on memory instead.
    pub(crate) memory: bool,
}

pub(crate) fn measure(stage: &Stage, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    world::prepare(stage)?;
    if options.memory {
        return memory::measure(stage, options, &runtime);
    }
    let mut report = Report::default();
    for (name, what, attack) in ALL {
        if !options.names.is_empty() && !options.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("-- {name}: {what}");
        let world = World::start(stage, &options.broker_files, name, None)?;
        match runtime.block_on(one(stage, &world, attack)) {
            Ok(case) => report.add(name, what, case),
            Err(error) => report.failed(name, &error),
        }
    }
    report.print();
    Ok(())
}

/// One attack: the same work before and during it.
async fn one(stage: &Stage, world: &World, attack: Attack) -> Result<Case> {
    let mut neighbours = quiet::move_in(world).await.context("the quiet accounts")?;
    let mut attacker = Attacker::prepare(attack, world, &neighbours).await.context("prepare the attack")?;
    let (quiet, _) = window(stage, world, &mut neighbours, None).await.context("the quiet window")?;
    let before = attacker.before(stage, world).await.context("before the window")?;
    let (attacked, during) = window(stage, world, &mut neighbours, Some(&attacker)).await?;
    Ok(Case { quiet, attacked, notes: [before, during].into_iter().filter(|note| !note.is_empty()).collect() })
}

async fn window(
    stage: &Stage,
    world: &World,
    neighbours: &mut [Neighbour],
    attacker: Option<&Attacker>,
) -> Result<(Window, String)> {
    let (server, broker) = (world.server_memory().0, world.broker_memory().0);
    let work = Quiet::start(neighbours).await?;
    let (begun, used) = (Instant::now(), world.processor());
    let until = begun + if attacker.is_some() { ATTACKED_WINDOW } else { QUIET_WINDOW };
    let attack = async {
        match attacker {
            Some(attacker) => attacker.run(world, until).await,
            None => Ok(String::new()),
        }
    };
    let stolen = neighbours[0].stolen.remove(0);
    let devices = async { tokio::join!(report_theft(world, stolen, &neighbours[0]), come_back(world, &neighbours[0])) };
    let processor = async {
        sleep_until(until).await;
        Processor::between(used, world.processor(), begun.elapsed())
    };
    let (note, (devices, returned), processor) = tokio::join!(attack, devices, processor);
    let note = note.unwrap_or_else(|error| format!("the attack failed: {error:#}"));
    let figures = work.end().await;
    let readings_lost = readings_lost(stage, world, neighbours).await?;
    let devices = Devices { returned: returned?, readings_lost, ..devices? };
    let memory = |before, (after, peak)| Memory { before, peak, after };
    let (server, broker) = (memory(server, world.server_memory()), memory(broker, world.broker_memory()));
    Ok((Window { figures, processor, devices, server, broker }, note))
}

/// The device that was away.
async fn come_back(world: &World, owner: &Neighbour) -> Result<Option<Duration>> {
    let login = owner.away.as_ref().context("a device that is away")?;
    away::return_and_hear(world, owner.account.client.clone(), login).await
}

/// The owner of a stolen device gives it another password, and registers a new device.
async fn report_theft(world: &World, mut stolen: Device, owner: &Neighbour) -> Result<Devices> {
    sleep(THEFT_AFTER).await;
    let mut client = owner.account.client.clone();
    let rotate = "mutation($d: ID!) { rotateDeviceCredentials(input: {deviceId: $d, graceSeconds: 0}) { username } }";
    let reported = Instant::now();
    let deadline = reported + DEVICES_PATIENCE;
    // An owner whose session was ended signs in again.
    while client.ask(rotate, &json!({"d": stolen.login.id})).await.is_err() && Instant::now() < deadline {
        sleep(Duration::from_millis(500)).await;
        let (query, variables) = account::sign_in(&owner.account.email, account::PASSWORD);
        if let Ok(data) = client.ask(query, &variables).await {
            client.token = Some(text(&data["login"]["accessToken"])?);
        }
    }
    let cut = stolen.cut_within(deadline.saturating_duration_since(Instant::now())).await;
    let new = enter_new(world, client, owner, &stolen.login.key).await;
    Ok(Devices { cut: cut.map(|at| at - reported), new, ..Devices::default() })
}

async fn enter_new(world: &World, mut client: http::Client, owner: &Neighbour, old: &str) -> Option<Duration> {
    let query = "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) { \
                 device { id key } credentials { username password clientId } } }";
    let input = json!({"homeId": owner.account.home, "key": format!("instead-of-{old}"), "name": "New"});
    let registered = Instant::now();
    let made = client.ask(query, &json!({ "i": input })).await.ok()?;
    let login = account::login_of(&made["registerDevice"]).ok()?;
    device::enter(world.mqtt_port, &login, DEVICES_PATIENCE).await.ok()?;
    Some(registered.elapsed())
}

/// Readings that quiet devices have sent and that are not stored, once no more arrive.
async fn readings_lost(stage: &Stage, world: &World, neighbours: &[Neighbour]) -> Result<i64> {
    let (client, connection) = stage.database(&world.database)?.connect(tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let homes: Vec<_> = neighbours.iter().map(|neighbour| neighbour.account.home_key.as_str()).collect();
    let begun = Instant::now();
    let lost = loop {
        let devices = neighbours.iter().flat_map(|neighbour| &neighbour.devices);
        let sent: u64 = devices.map(|device| device.sent.load(Ordering::Relaxed)).sum();
        sleep(Duration::from_millis(300)).await;
        let count = "select count(*) from telemetry where home_id in (select id from homes where key = any($1))";
        let stored: i64 = client.query_one(count, &[&homes]).await?.get(0);
        let lost = i64::try_from(sent)? - stored;
        if lost <= 0 || begun.elapsed() > STORED_WITHIN {
            break lost.max(0);
        }
    };
    drop(client);
    connection.await??;
    Ok(lost)
}
