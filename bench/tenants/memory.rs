//! A server with 256 MiB, through bursts of sign-ins, responses that nobody reads, and a thousand sockets.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::Options;
use super::account::Account;
use super::attacks::{Attack, Attacker};
use super::http::connect;
use super::world::World;
use crate::socket::Subscriber;
use crate::stage::Stage;

const LIMIT: u64 = 256 << 20;
/// How far above its idle size, in MiB, the server may be a minute later.
const KEPT_MIB: u64 = 20;
const A_MINUTE: Duration = Duration::from_secs(60);
/// What a server does after its start is over.
const IDLE_AFTER: Duration = Duration::from_secs(5);
const ATTACKS_LAST: Duration = Duration::from_secs(15);
const SOCKETS_LAST: Duration = Duration::from_secs(10);
const USERS: u8 = 10;
/// Sockets of one user: as many as a user may have.
const SOCKETS: usize = 100;
const READINGS: &str = "subscription($id: ID!) { telemetry(homeId: $id) { id recordedAt sensors { powerW } } }";

pub(super) fn measure(stage: &Stage, options: &Options, runtime: &Runtime) -> Result<()> {
    let group = Group::create();
    match &group {
        Ok(group) => println!("limit: 256 MiB by the control group {}", group.0.display()),
        Err(error) => println!("no control group ({error:#}): nothing limits the server, see its peak"),
    }
    let folder = group.as_ref().ok().map(|group| group.0.clone());
    let world = World::start(stage, &options.broker_files, "memory", folder)?;
    let result = runtime.block_on(trial(&world));
    println!("server: {}", if world.server_lives() { "alive" } else { "DEAD" });
    world.stop_server()?;
    result
}

async fn trial(world: &World) -> Result<()> {
    let mut attacker = Attacker::prepare(Attack::UnreadResponses, world, &[]).await?;
    let mut users = Vec::new();
    for number in 0..USERS {
        let address = Ipv4Addr::new(127, 0, 1, number + 1);
        users.push(Account::create(world.addr, address, &format!("user{number}"), &[]).await?);
    }
    sleep(IDLE_AFTER).await;
    let idle = world.server_memory().0;
    print(world, "idle");
    for (what, attack) in [("A4, 60 sign-ins at once", Attack::SignInBurst), ("A3, unread", Attack::UnreadResponses)] {
        attacker = attacker.with_attack(attack);
        let note = attacker.run(world, Instant::now() + ATTACKS_LAST).await?;
        print(world, &format!("{what}: {note}"));
    }
    let sockets = open(&users).await;
    sleep(SOCKETS_LAST).await;
    print(world, &format!("{} sockets with a subscription", sockets.len()));
    drop(sockets);
    let ended = Instant::now();
    while ended.elapsed() < A_MINUTE && world.server_lives() {
        sleep(Duration::from_secs(1)).await;
        if world.server_memory().0 <= idle + KEPT_MIB {
            println!(
                "back to {} MB, idle size and {KEPT_MIB} MB, after {} s",
                idle + KEPT_MIB,
                ended.elapsed().as_secs()
            );
            break;
        }
    }
    sleep(A_MINUTE.saturating_sub(ended.elapsed())).await;
    print(world, "a minute later");
    ensure!(world.server_lives(), "the server did not survive");
    let kept = world.server_memory().0.saturating_sub(idle);
    println!("{kept} MB above the idle size: {}", if kept <= KEPT_MIB { "held" } else { "MISSED" });
    Ok(())
}

fn print(world: &World, when: &str) {
    let (now, peak) = world.server_memory();
    let state = if world.server_lives() { "" } else { ", DEAD" };
    println!("{when}: {now} MB, peak so far {peak} MB{state}");
}

async fn open(users: &[Account]) -> Vec<Subscriber> {
    let mut sockets = Vec::new();
    for user in users {
        for _ in 0..SOCKETS {
            let (addr, from) = (user.client.addr, user.client.from);
            let token = user.client.token.clone().unwrap_or_default();
            let Ok(stream) = connect(addr, from, None).await else { continue };
            if let Ok(mut socket) = Subscriber::open_on(stream, addr, &token).await
                && socket.subscribe(READINGS, &user.home).await.is_ok()
            {
                sockets.push(socket);
            }
        }
    }
    sockets
}

/// A control group with the limit, removed with the value.
struct Group(PathBuf);

impl Group {
    fn create() -> Result<Self> {
        let name = format!("smarthome-bench-{}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup");
        let has_memory = |text: String| text.split_whitespace().any(|controller| controller == "memory");
        let (folder, limits) = if fs::read_to_string(unified.join("cgroup.controllers")).is_ok_and(has_memory) {
            fs::write(unified.join("cgroup.subtree_control"), "+memory").context("delegate memory")?;
            (unified.join(name), ["memory.max", "memory.swap.max"])
        } else {
            (unified.join("memory").join(name), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"])
        };
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        let group = Self(folder);
        fs::write(group.0.join(limits[0]), LIMIT.to_string()).context("set the limit")?;
        // Without swap where swap is counted at all.
        let swap = if limits[1].contains("memsw") { LIMIT } else { 0 };
        if fs::write(group.0.join(limits[1]), swap.to_string()).is_err() {
            eprintln!("swap is not limited");
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
