//! Every accepted command ends in a status that agrees with what its device saw and said, whatever is
//! killed meanwhile.
//!
//! The judge knows nothing of the code: what the API says at the end is compared with the observed of
//! simulated devices. `CONTROL_FAULTS=60 cargo nextest run control_chaos` is the long version.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use smarthome::simulator::{Fleet, FleetConfig, ObservedCommand, SentAnswer, VirtualDevice};
use tokio_util::sync::CancellationToken;

use super::support::app::Database;
use super::support::broker::Broker;
use super::support::server::Server;
use super::support::user::{Device, User};
use super::support::{eventually, http, soon, within};

/// Faults of the version that every run of the suite has.
const FAULTS: u32 = 6;
const DEVICES: usize = 20;
/// Each sends one command after the other, so a device's commands come from several.
const SENDERS: u64 = 4;
/// Time between two commands of a sender.
const PACE: Duration = Duration::from_millis(25);
/// A command that is sent on the last moment arrives a little after it.
const ON_THE_WIRE: TimeDelta = TimeDelta::milliseconds(250);
/// Until then every device has found an emptied broker again and has subscribed.
const BACK: TimeDelta = TimeDelta::seconds(5);
/// The longest life and the longest time for an answer below, and some for a slow machine.
const LAST_STATUS: Duration = Duration::from_secs(60);
/// What the devices do: some refuse, some are silent, some say it twice, none at once.
const ANSWERS: &str = "fail=0.1,silence=0.05,dup=0.2,no-ack=0.3,delay=0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_as_its_device_saw_it_whatever_is_killed() {
    let database = Database::create().await;
    let mut broker = Broker::start().await;
    let mut server = Server::start(&database.url(), broker.port(), &[("RATE_LIMITS", "off")]).await;
    let owner = User::register(server.addr()).await;
    let home = owner.home().await;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        devices.push(owner.device(server.prefix(), &home, &format!("d{n}")).await);
    }
    let fleet = start_fleet(broker.port(), server.prefix(), &devices);
    eventually("all devices are connected", || {
        std::future::ready((fleet.report().connects >= DEVICES as u64).then_some(()))
    })
    .await;

    let load = Load::default();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send_all(sender, owner.clone(), server.addr(), ids(&devices), load.clone())))
        .collect();
    let mut faults = Faults::default();
    for fault in 0..n_faults() {
        load.advances_by(fastrand::u64(5..60)).await;
        faults.strike(fault, &mut server, &mut broker, &load).await;
    }
    load.advances_by(5).await;
    load.stop.store(true, Ordering::Relaxed);
    let mut accepted = HashSet::new();
    for sender in senders {
        accepted.extend(soon("the last command is accepted", sender).await.expect("a sender"));
    }

    let commands = within(LAST_STATUS, "every command has a final status", || async {
        let commands = commands(&owner, &devices).await;
        commands.iter().all(Command::is_final).then_some(commands)
    })
    .await;
    let report = fleet.report();
    println!("{} commands: {:?}\n{faults}\n{report}", commands.len(), count(&commands));
    assert_eq!(report.dropped_answers, 0, "{report}");

    let listed: HashSet<_> = commands.iter().map(|command| command.id.clone()).collect();
    let lost: Vec<_> = accepted.difference(&listed).collect();
    let extra: Vec<_> = listed.difference(&accepted).collect();
    assert!(lost.is_empty() && extra.is_empty(), "lost {lost:?}, made twice {extra:?}");
    let wrong = judge(&commands, &fleet, &faults);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    fleet.stop();
    server.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "the length of the run is the developer's choice")]
fn n_faults() -> u32 {
    std::env::var("CONTROL_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS)
}

fn ids(devices: &[Device]) -> Vec<String> {
    devices.iter().map(|device| device.id.clone()).collect()
}

/// Devices whose session the broker keeps: what is confirmed waits there for them.
fn start_fleet(port: u16, prefix: &str, devices: &[Device]) -> Fleet {
    let broker = format!("mqtt://127.0.0.1:{port}").parse().expect("a URL");
    let fleet = devices.iter().map(|device| VirtualDevice::new(device.key.clone())).collect();
    let config = FleetConfig {
        prefix: prefix.to_owned(),
        rate: 50.0,
        answers: ANSWERS.parse().expect("known words"),
        session_expiry: Some(Duration::from_secs(3_600)),
        ..FleetConfig::new(broker, devices[0].home.key.clone(), fleet)
    };
    Fleet::start(config, &CancellationToken::new()).expect("the fleet starts")
}

/// How often what was struck.
#[derive(Default)]
struct Faults {
    server_killed: u32,
    broker_stopped: u32,
    /// What was under way between the two may be gone with the broker's memory.
    emptied: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (killed, stopped, emptied) = (self.server_killed, self.broker_stopped, self.emptied.len());
        write!(f, "killed the server {killed} times, stopped the broker {stopped} times and emptied it {emptied} times")
    }
}

impl Faults {
    async fn strike(&mut self, fault: u32, server: &mut Server, broker: &mut Broker, load: &Load) {
        match fault % 6 {
            2 => {
                broker.stop();
                load.advances_by(fastrand::u64(1..40)).await;
                broker.restart().await;
                self.broker_stopped += 1;
            }
            5 => {
                let from = now();
                broker.kill();
                broker.empty();
                load.advances_by(fastrand::u64(1..40)).await;
                broker.restart().await;
                // With what server and devices still held, which they give again.
                server.ready().await;
                self.emptied.push((from, now()));
            }
            _ => {
                server.kill();
                server.restart().await;
                self.server_killed += 1;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the judge compares with the wall clock of other processes")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// What the senders have done and are to do.
#[derive(Clone, Default)]
struct Load {
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn advances_by(&self, n: u64) {
        let goal = self.accepted.load(Ordering::Relaxed) + n;
        let reached = || std::future::ready((self.accepted.load(Ordering::Relaxed) >= goal).then_some(()));
        eventually("more commands are accepted", reached).await;
    }
}

/// Sends until told to stop, each command until it is accepted, by the same key; their ids.
async fn send_all(sender: u64, owner: User, addr: SocketAddr, devices: Vec<String>, load: Load) -> Vec<String> {
    let (mut accepted, mut pace) = (Vec::new(), tokio::time::interval(PACE));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0u64.. {
        pace.tick().await;
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let device = &devices[fastrand::usize(..devices.len())];
        let input = input(device, &format!("{sender}-{n}"));
        let id = eventually("a command is accepted", || send(addr, &owner, &input)).await;
        accepted.push(id);
        load.accepted.fetch_add(1, Ordering::Relaxed);
    }
    accepted
}

/// Of each kind some: such that replace one another and such that do not, short lives and long ones.
fn input(device: &str, key: &str) -> Value {
    let (kind, payload) = match fastrand::u8(..3) {
        0 => ("SET_POWER", json!({"power": fastrand::bool()})),
        1 => ("SET_BRIGHTNESS", json!({"brightness": fastrand::u8(..=100)})),
        _ => ("BLINK", json!({"times": 3})),
    };
    let expires_in = if fastrand::u8(..4) == 0 { 2 } else { 30 };
    json!({"deviceId": device, "type": kind, "payload": payload, "idempotencyKey": key, "timeoutSeconds": 5,
           "expiresInSeconds": expires_in})
}

/// One try; `None` where the server was away or said that it can't now.
async fn send(addr: SocketAddr, owner: &User, input: &Value) -> Option<String> {
    let query = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id status } }";
    let body = json!({"query": query, "variables": {"input": input}}).to_string();
    let bearer = format!("Bearer {}", owner.token().expect("signed in"));
    let headers = [("content-type", "application/json"), ("authorization", &bearer)];
    let answer = http::attempt(addr, "/graphql", &headers, body.as_bytes()).await?.json();
    if let Some(id) = answer["data"]["sendCommand"]["id"].as_str() {
        return Some(id.to_owned());
    }
    // Under its key either may be repeated.
    let code = &answer["errors"][0]["extensions"]["code"];
    assert!(code == "UNAVAILABLE" || code == "OUTCOME_UNKNOWN", "{input}: {answer}");
    None
}

/// A command as the API tells it.
#[derive(Debug)]
struct Command {
    id: String,
    device: usize,
    status: String,
    created_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl Command {
    fn is_final(&self) -> bool {
        !["PENDING", "SENT", "ACKED"].contains(&self.status.as_str())
    }
}

/// All commands of all devices, each device's oldest first.
async fn commands(owner: &User, devices: &[Device]) -> Vec<Command> {
    let query = "query($id: ID!, $after: String) { device(id: $id) { commands(first: 500, after: $after) {
                 nodes { id status createdAt sentAt finishedAt error } pageInfo { hasNextPage endCursor } } } }";
    let mut all = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        let (mut after, mut of_device) = (Value::Null, Vec::new());
        loop {
            let data = owner.query(query, json!({"id": device.id, "after": after})).await;
            let page = &data["device"]["commands"];
            let time = |value: &Value| value.as_str().map(|text| text.parse().expect("a time"));
            let command = |node: &Value| Command {
                id: node["id"].as_str().expect("an id").to_owned(),
                device: number,
                status: node["status"].as_str().expect("a status").to_owned(),
                created_at: time(&node["createdAt"]).expect("a time"),
                sent_at: time(&node["sentAt"]),
                finished_at: time(&node["finishedAt"]),
                error: node["error"].as_str().map(str::to_owned),
            };
            of_device.extend(page["nodes"].as_array().expect("a list").iter().map(command));
            if page["pageInfo"]["hasNextPage"] != true {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        all.extend(of_device.into_iter().rev());
    }
    all
}

fn count(commands: &[Command]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for command in commands {
        *counts.entry(command.status.as_str()).or_default() += 1;
    }
    counts
}

/// What the API says against what the devices saw and said.
fn judge(commands: &[Command], fleet: &Fleet, faults: &Faults) -> Vec<String> {
    let mut observed: HashMap<String, Vec<(usize, ObservedCommand)>> = HashMap::new();
    for (device, arrival) in fleet.observed_commands().all() {
        observed.entry(arrival.command_id.clone()).or_default().push((device, arrival));
    }
    let mut wrong = Vec::new();
    let got: HashSet<String> = observed.keys().cloned().collect();
    for (place, command) in commands.iter().enumerate() {
        let seen = observed.remove(&command.id).unwrap_or_default();
        let is_passed = commands[place..].iter().any(|newer| newer.device == command.device && got.contains(&newer.id));
        wrong.extend(verdict(command, &seen, is_passed, faults).map(|why| format!("{why}: {command:?} {seen:?}")));
    }
    wrong.extend(observed.into_iter().map(|(id, seen)| format!("nobody sent {id}: {seen:?}")));
    wrong.extend(out_of_order(commands, fleet, faults));
    wrong
}

fn verdict(
    command: &Command,
    seen: &[(usize, ObservedCommand)],
    is_passed: bool,
    faults: &Faults,
) -> Option<&'static str> {
    let said = |what: SentAnswer| seen.iter().any(|(_, arrival)| arrival.answers.contains(&what));
    // Under way from then until its end.
    let may_be_gone = |since: Option<DateTime<Utc>>| {
        let lived = since.zip(command.finished_at);
        lived.is_some_and(|(since, end)| faults.emptied.iter().any(|(from, until)| since <= *until && end >= *from))
    };
    // The broker had nobody to give it to, and then somebody for a newer one.
    let is_left_behind = is_passed && command.error.as_ref().is_some_and(|error| error.contains("subscribed"));
    if seen.iter().any(|(device, _)| *device != command.device) {
        return Some("another device got it");
    }
    let is_late =
        |arrival: &ObservedCommand| arrival.expires_at.is_none_or(|at| arrival.received_at > at + ON_THE_WIRE);
    if seen.iter().any(|(_, arrival)| is_late(arrival)) {
        return Some("it came after its time");
    }
    match command.status.as_str() {
        "SUCCEEDED" if !said(SentAnswer::Succeeded) => Some("its device never said so"),
        "FAILED" if !said(SentAnswer::Failed) => Some("its device never said so"),
        "CANCELLED" if !seen.is_empty() => Some("it had left"),
        "TIMED_OUT" if seen.is_empty() && !is_left_behind && !may_be_gone(command.sent_at) => {
            Some("it was sent and never came")
        }
        // An answer that the broker confirmed is lost only with the broker's memory.
        "TIMED_OUT" | "EXPIRED" if said(SentAnswer::Succeeded) || said(SentAnswer::Failed) => {
            let answered = seen.iter().filter(|(_, arrival)| !arrival.answers.is_empty());
            let last = answered.map(|(_, arrival)| arrival.received_at).max();
            (!may_be_gone(last)).then_some("its device's answer was not counted")
        }
        "SUCCEEDED" | "FAILED" | "CANCELLED" | "TIMED_OUT" | "EXPIRED" => None,
        _ => Some("no such status is final"),
    }
}

/// Each device got its commands for the first time in the order in which they were accepted.
fn out_of_order(commands: &[Command], fleet: &Fleet, faults: &Faults) -> Vec<String> {
    let places: HashMap<_, _> =
        commands.iter().enumerate().map(|(place, command)| (command.id.as_str(), place)).collect();
    let mut wrong = Vec::new();
    for device in 0..DEVICES {
        let mut last = None;
        for arrival in fleet.observed_commands().of(device).iter().filter(|arrival| !arrival.is_repeat) {
            let place = places.get(arrival.command_id.as_str()).copied();
            // What an emptied broker lost goes again, and a newer one may have come before.
            let is_excused = place.is_some_and(|place| {
                let since = commands[place].created_at;
                faults.emptied.iter().any(|(from, until)| since <= *until + BACK && arrival.received_at >= *from)
            });
            if place < last && !is_excused {
                wrong.push(format!("device {device} got {} after a newer one", arrival.command_id));
            }
            last = place.max(last);
        }
    }
    wrong
}
