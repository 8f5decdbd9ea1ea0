//! Every accepted command ends in a status that agrees with what its device received and answered, while the server
//! and the broker are killed.
//!
//! The check is independent of the code: it compares the statuses of the API with the commands that simulated devices
//! received. `CONTROL_FAULTS=60 cargo nextest run control_chaos` is the long version; `TEST_SEED` repeats the random
//! choices of a run.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use smarthome::simulator::{Fleet, FleetConfig, ReceivedCommand, SentAnswer, VirtualDevice};
use tokio_util::sync::CancellationToken;

use super::support::app::Database;
use super::support::broker::Broker;
use super::support::observed_commands::{ObservedCommand, ObservedCommands};
use super::support::server::Server;
use super::support::user::{Device, User};
use super::support::{eventually, http, rng, soon, until, within};

/// Faults in a normal run of the suite.
const FAULTS: u32 = 6;
const DEVICES: usize = 20;
/// Each sends one command after the other to random devices, so a device gets commands of several senders.
const SENDERS: u64 = 4;
/// Time between two commands of a sender.
const PACE: Duration = Duration::from_millis(25);
/// A command that is sent at the last moment arrives a little after its expiry.
const TRANSIT_TIME: TimeDelta = TimeDelta::milliseconds(250);
/// After it has connected again to a broker that lost its data, a device is subscribed within this time.
const RESUBSCRIBE_TIME: TimeDelta = TimeDelta::seconds(5);
/// The longest expiry and the longest timeout below, and a margin for a slow machine.
const LAST_STATUS: Duration = Duration::from_secs(60);
/// The answers of the devices: some fail, some are missing, some come twice, all are delayed.
const ANSWERS: &str = "fail=0.1,silence=0.05,dup=0.2,no-ack=0.3,delay=0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_in_the_status_that_its_device_saw() {
    let database = Database::create().await;
    let mut broker = Broker::start().await;
    let mut server = Server::start(&database.url(), broker.port(), &[("RATE_LIMITS", "off")]).await;
    let owner = User::register(server.addr()).await;
    let home = owner.home().await;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        devices.push(owner.device(server.prefix(), &home, &format!("d{n}")).await);
    }
    let observed = ObservedCommands::default();
    let fleet = start_fleet(broker.port(), server.prefix(), &devices, &observed);
    // A device publishes `online: true` after its SUBSCRIBE: the server shows it once the device is subscribed.
    eventually("all devices are online", || are_online(&owner, &devices)).await;
    let mut rng = rng();

    let load = Load::default();
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let (owner, load) = (owner.clone(), load.clone());
            let devices = devices.iter().map(|device| device.id.clone()).collect();
            tokio::spawn(Sender { number, rng: rng.fork(), owner, addr: server.addr(), devices, load }.run())
        })
        .collect();
    let mut faults = Faults::default();
    for fault in 0..n_faults() {
        load.advances_by(rng.u64(5..60)).await;
        let mut victims = Victims { server: &mut server, broker: &mut broker, fleet: &fleet, load: &load };
        faults.cause(fault, rng.u64(1..40), &mut victims).await;
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
    let wrong = differences(&commands, &observed, &faults);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    fleet.stop();
    server.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "the length of the run is the developer's choice")]
fn n_faults() -> u32 {
    std::env::var("CONTROL_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS)
}

async fn are_online(owner: &User, devices: &[Device]) -> Option<()> {
    for device in devices {
        let data = owner.query("query($id: ID!) { device(id: $id) { online } }", json!({"id": device.id})).await;
        data["device"]["online"].as_bool().filter(|online| *online)?;
    }
    Some(())
}

/// Devices with a persistent session: confirmed messages wait for them at the broker.
fn start_fleet(port: u16, prefix: &str, devices: &[Device], observed: &ObservedCommands) -> Fleet {
    let broker = format!("mqtt://127.0.0.1:{port}").parse().expect("a URL");
    let fleet = devices.iter().map(|device| VirtualDevice::new(device.key.clone())).collect();
    let config = FleetConfig {
        prefix: prefix.to_owned(),
        rate: 50.0,
        answers: ANSWERS.parse().expect("known words"),
        session_expiry: Some(Duration::from_secs(3_600)),
        ..FleetConfig::new(broker, devices[0].home.key.clone(), fleet)
    };
    Fleet::start_with(config, &CancellationToken::new(), Some(observed.listener())).expect("the fleet starts")
}

/// The processes that faults stop, and the load that goes on meanwhile.
struct Victims<'a> {
    server: &'a mut Server,
    broker: &'a mut Broker,
    fleet: &'a Fleet,
    load: &'a Load,
}

/// The faults caused so far.
#[derive(Default)]
struct Faults {
    server_killed: u32,
    broker_stopped: u32,
    /// From the end of a broker to the reconnection of every client to its successor without data. Messages in
    /// flight between the two may be lost.
    emptied: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (killed, stopped, emptied) = (self.server_killed, self.broker_stopped, self.emptied.len());
        write!(f, "killed the server {killed} times, stopped the broker {stopped} times and emptied it {emptied} times")
    }
}

impl Faults {
    /// Whether the broker lost its data, or the devices were not subscribed again, at some time between the two.
    fn may_have_lost(&self, since: DateTime<Utc>, end: DateTime<Utc>) -> bool {
        self.emptied.iter().any(|(from, until)| since <= *until + RESUBSCRIBE_TIME && end >= *from)
    }

    /// Causes the fault of this number. The broker is away until so many more commands are accepted.
    async fn cause(&mut self, number: u32, n_commands: u64, victims: &mut Victims<'_>) {
        let Victims { server, broker, fleet, load } = victims;
        match number % 6 {
            2 => {
                broker.stop();
                load.advances_by(n_commands).await;
                broker.restart().await;
                self.broker_stopped += 1;
            }
            5 => {
                let (from, connects) = (now(), fleet.report().connects);
                broker.kill();
                broker.empty();
                load.advances_by(n_commands).await;
                broker.restart().await;
                // Server and devices then publish again what they still hold.
                server.ready().await;
                until("every device has connected again", || fleet.report().connects >= connects + DEVICES as u64)
                    .await;
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

#[expect(clippy::disallowed_methods, reason = "the check compares with the wall clock of other processes")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The progress of the senders.
#[derive(Clone, Default)]
struct Load {
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn advances_by(&self, n: u64) {
        let goal = self.accepted.load(Ordering::Relaxed) + n;
        until("more commands are accepted", || self.accepted.load(Ordering::Relaxed) >= goal).await;
    }
}

struct Sender {
    number: u64,
    rng: fastrand::Rng,
    owner: User,
    addr: SocketAddr,
    devices: Vec<String>,
    load: Load,
}

impl Sender {
    /// Sends until the load stops, each command with the same idempotency key until it is accepted; their ids.
    async fn run(mut self) -> Vec<String> {
        let (mut accepted, mut pace) = (Vec::new(), tokio::time::interval(PACE));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for n in 0u64.. {
            pace.tick().await;
            if self.load.stop.load(Ordering::Relaxed) {
                break;
            }
            let input = self.input(n);
            let id = eventually("a command is accepted", || send(self.addr, &self.owner, &input)).await;
            accepted.push(id);
            self.load.accepted.fetch_add(1, Ordering::Relaxed);
        }
        accepted
    }

    /// A random command: superseding or not, with a short or a long expiry.
    fn input(&mut self, n: u64) -> Value {
        let Self { number, rng, devices, .. } = self;
        let device = &devices[rng.usize(..devices.len())];
        let (kind, payload) = match rng.u8(..3) {
            0 => ("SET_POWER", json!({"power": rng.bool()})),
            1 => ("SET_BRIGHTNESS", json!({"brightness": rng.u8(..=100)})),
            _ => ("BLINK", json!({"times": 3})),
        };
        let expires_in = if rng.u8(..4) == 0 { 2 } else { 30 };
        json!({"deviceId": device, "type": kind, "payload": payload, "idempotencyKey": format!("{number}-{n}"),
               "timeoutSeconds": 5, "expiresInSeconds": expires_in})
    }
}

/// One attempt; `None` if the server is down or unavailable.
async fn send(addr: SocketAddr, owner: &User, input: &Value) -> Option<String> {
    let query = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id status } }";
    let body = json!({"query": query, "variables": {"input": input}}).to_string();
    let bearer = format!("Bearer {}", owner.token().expect("signed in"));
    let headers = [("content-type", "application/json"), ("authorization", &bearer)];
    let answer = http::attempt(addr, "/graphql", &headers, body.as_bytes()).await?.json();
    if let Some(id) = answer["data"]["sendCommand"]["id"].as_str() {
        return Some(id.to_owned());
    }
    // With its idempotency key, the request may be repeated after either error.
    let code = &answer["errors"][0]["extensions"]["code"];
    assert!(code == "UNAVAILABLE" || code == "OUTCOME_UNKNOWN", "{input}: {answer}");
    None
}

/// A command as the API shows it.
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

/// The differences between the API and what the devices received.
fn differences(commands: &[Command], received: &ObservedCommands, faults: &Faults) -> Vec<String> {
    let mut observed: HashMap<String, Vec<ObservedCommand>> = HashMap::new();
    for arrival in received.all() {
        observed.entry(arrival.received.command_id.clone()).or_default().push(arrival);
    }
    let mut wrong = Vec::new();
    let got: HashSet<String> = observed.keys().cloned().collect();
    for (place, command) in commands.iter().enumerate() {
        let seen = observed.remove(&command.id).unwrap_or_default();
        let is_overtaken =
            commands[place..].iter().any(|newer| newer.device == command.device && got.contains(&newer.id));
        wrong.extend(verdict(command, &seen, is_overtaken, faults).map(|why| format!("{why}: {command:?} {seen:?}")));
    }
    wrong.extend(observed.into_iter().map(|(id, seen)| format!("no sender sent {id}: {seen:?}")));
    wrong.extend(out_of_order(commands, received, faults));
    wrong
}

fn verdict(command: &Command, seen: &[ObservedCommand], is_overtaken: bool, faults: &Faults) -> Option<&'static str> {
    let has_answered = |answer: SentAnswer| seen.iter().any(|arrival| arrival.answers.contains(&answer));
    let may_be_lost = |since: Option<DateTime<Utc>>| {
        let lived = since.zip(command.finished_at);
        lived.is_some_and(|(since, end)| faults.may_have_lost(since, end))
    };
    // Nobody was subscribed, and then a newer command was delivered.
    let is_left_behind = is_overtaken && command.error.as_ref().is_some_and(|error| error.contains("subscribed"));
    if seen.iter().any(|arrival| arrival.received.device != command.device) {
        return Some("another device received it");
    }
    let is_late = |ReceivedCommand { expires_at, received_at, .. }: &ReceivedCommand| {
        expires_at.is_none_or(|at| *received_at > at + TRANSIT_TIME)
    };
    if seen.iter().any(|arrival| is_late(&arrival.received)) {
        return Some("it arrived after its expiry");
    }
    match command.status.as_str() {
        "SUCCEEDED" if !has_answered(SentAnswer::Succeeded) => Some("its device never answered so"),
        "FAILED" if !has_answered(SentAnswer::Failed) => Some("its device never answered so"),
        "CANCELLED" if !seen.is_empty() => Some("it was delivered"),
        "TIMED_OUT" if seen.is_empty() && !is_left_behind && !may_be_lost(command.sent_at) => {
            Some("it was sent and never arrived")
        }
        // An answer that the broker confirmed is lost only with the data of the broker.
        "TIMED_OUT" | "EXPIRED" if has_answered(SentAnswer::Succeeded) || has_answered(SentAnswer::Failed) => {
            let answered = seen.iter().filter(|arrival| !arrival.answers.is_empty());
            let last = answered.map(|arrival| arrival.received.received_at).max();
            (!may_be_lost(last)).then_some("its device's answer was not counted")
        }
        "SUCCEEDED" | "FAILED" | "CANCELLED" | "TIMED_OUT" | "EXPIRED" => None,
        _ => Some("no such status is final"),
    }
}

/// Commands that a device first received in another order than the order of their acceptance.
fn out_of_order(commands: &[Command], received: &ObservedCommands, faults: &Faults) -> Vec<String> {
    let places: HashMap<_, _> =
        commands.iter().enumerate().map(|(place, command)| (command.id.as_str(), place)).collect();
    let mut wrong = Vec::new();
    for device in 0..DEVICES {
        let mut last = None;
        let arrivals = received.of(device).into_iter().map(|arrival| arrival.received);
        for arrival in arrivals.filter(|arrival| !arrival.is_repeat) {
            let place = places.get(arrival.command_id.as_str()).copied();
            // A command that the broker lost is sent again, possibly after a newer one.
            let is_excused =
                place.is_some_and(|place| faults.may_have_lost(commands[place].created_at, arrival.received_at));
            if place < last && !is_excused {
                wrong.push(format!("device {device} received {} after a newer one", arrival.command_id));
            }
            last = place.max(last);
        }
    }
    wrong
}
