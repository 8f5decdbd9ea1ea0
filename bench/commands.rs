//! From the mutation to the device and back: `sendCommand`, the row, the broker, a device that answers
//! at once, the row again, and the event of `SUCCEEDED` at a subscriber.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Http, ask, graphql_request};
use crate::echo::{Asker, Echo, Moments, say_online, wait_until};
use crate::messages::DEVICES;
use crate::server::{HOME, PREFIX, Server, text};
use crate::socket::Subscriber;
use crate::stage::Stage;
use crate::stats::{Latencies, pair, thousands};
use crate::table::Table;

/// The broker's own round trip, which the server does not see.
const BARE: &str = "bare";
/// Commands a second where the way of each one is measured: no queue anywhere.
const RATE: u32 = 100;
/// HTTP connections that send a burst.
const SENDERS: usize = 16;
const SEND: &str = "mutation($device: ID!) { sendCommand(input: {deviceId: $device, type: \"SET_POWER\", \
                    payload: {power: true}}) { id status } }";
/// A server that does not know its devices by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server) -> Result<()> {
    let n = RATE * 2 * stage.size.seconds;
    let (broker, broker_burst) = broker_alone(stage, n)?;
    let what = format!("broker alone, request -> answer between two clients, p50 / p99 at {RATE}/s");
    table.row(&what, &pair(broker), "", None, "");

    let _devices = Echo::start(stage.mqtt_port, PREFIX, HOME)?;
    let token = server.token()?;
    introduce(stage, server, &token)?;
    let rounds = paced(stage, server, &token, n)?;
    let what =
        format!("mutation -> device -> SUCCEEDED at a subscriber, p50 / p99 of {} at {RATE}/s", thousands(n.into()));
    let ratio = rounds.0.as_secs_f64() / broker.0.as_secs_f64();
    table.row(&what, &pair(rounds), &format!("broker {}", pair(broker)), Some(ratio), "");

    // A second sign of life: the first run took a while.
    introduce(stage, server, &token)?;
    let (sent, succeeded) = burst(stage, server, &token)?;
    let seconds = |d: Duration| format!("{:.3} s", d.as_secs_f64());
    let what = format!(
        "{0} commands to {0} devices: last one sent / succeeded",
        thousands(f64::from(u32::try_from(DEVICES)?))
    );
    let measured = format!("{} / {}", seconds(sent), seconds(succeeded));
    let ratio = succeeded.as_secs_f64() / broker_burst.as_secs_f64();
    table.row(&what, &measured, &format!("broker {}", seconds(broker_burst)), Some(ratio), "");
    Ok(())
}

fn broker_alone(stage: &Stage, n: u32) -> Result<((Duration, Duration), Duration)> {
    let _devices = Echo::start(stage.mqtt_port, BARE, HOME)?;
    let mut asker = Asker::connect(stage.mqtt_port, BARE, HOME)?;
    let latencies = asker.paced(BARE, HOME, n, RATE)?.p50_p99();
    Ok((latencies, asker.burst(BARE, HOME, DEVICES)?))
}

/// Says that all devices are there, and waits until the server knows it of the last one.
fn introduce(stage: &Stage, server: &Server, token: &str) -> Result<()> {
    say_online(stage.mqtt_port, PREFIX, HOME, DEVICES)?;
    let last = server.devices.last().context("a device")?;
    let begun = Instant::now();
    let query = "query($id: ID!) { device(id: $id) { online } }";
    while ask(server.addr, Some(token), query, &json!({"id": last}))?["device"]["online"] != true {
        ensure!(begun.elapsed() < PATIENCE, "the server does not know that its devices are online");
        thread::park_timeout(LOOK);
    }
    Ok(())
}

/// When the first `SENT` and the first `SUCCEEDED` event of each command arrived.
#[derive(Default)]
struct Received {
    sent: Moments,
    succeeded: Moments,
}

/// Hears updates until so many commands have succeeded, without the commands of [`listener`]. These may still have updates: of a
/// late answer, or of the broker's confirmation, which may come after the answer.
async fn listen(mut subscriber: Subscriber, n: usize, tried: HashSet<String>) -> Result<Received> {
    let mut received = Received::default();
    while received.succeeded.len() < n {
        let (id, status) = subscriber.next_command().await?;
        if tried.contains(&id) {
            continue;
        }
        let now = Instant::now();
        match status.as_str() {
            "PENDING" => {}
            // The answer may be there before the broker's confirmation.
            "SENT" | "ACKED" => {
                received.sent.entry(id).or_insert(now);
            }
            "SUCCEEDED" => {
                received.sent.entry(id.clone()).or_insert(now);
                received.succeeded.entry(id).or_insert(now);
            }
            other => bail!("command {id} became {other}"),
        }
    }
    Ok(received)
}

/// Starts a listener and waits until its subscription has delivered one command.
fn listener(stage: &Stage, server: &Server, token: &str, n: usize) -> Result<JoinHandle<Result<Received>>> {
    const TRIES: usize = 50;
    stage.runtime.block_on(async {
        let mut subscriber = Subscriber::commands(server.addr, token, &server.home).await?;
        let mut tried = HashSet::new();
        for _ in 0..TRIES {
            let (addr, token, device) = (server.addr, token.to_owned(), server.devices[0].clone());
            let sent = tokio::task::spawn_blocking(move || send(&mut Http::connect(addr)?, &token, &device)).await??;
            tried.insert(sent.clone());
            let received = async {
                loop {
                    if subscriber.next_command().await? == (sent.clone(), "SUCCEEDED".to_owned()) {
                        return anyhow::Ok(());
                    }
                }
            };
            if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), received).await {
                received?;
                return Ok(tokio::spawn(listen(subscriber, n, tried)));
            }
        }
        bail!("no command succeeded")
    })
}

fn send(http: &mut Http, token: &str, device: &str) -> Result<String> {
    let (status, body) = http.exchange(&graphql_request(Some(token), SEND, &json!({ "device": device })))?;
    let answer: Value = serde_json::from_slice(body).with_context(|| format!("{status}, no JSON"))?;
    text(&answer["data"]["sendCommand"]["id"]).with_context(|| format!("sendCommand: {answer}"))
}

/// One after the other: the time of each from just before its mutation to the event of its success.
fn paced(stage: &Stage, server: &Server, token: &str, n: u32) -> Result<(Duration, Duration)> {
    let listener = listener(stage, server, token, usize::try_from(n)?)?;
    let sender = thread::spawn({
        let (addr, token, devices) = (server.addr, token.to_owned(), server.devices.clone());
        move || -> Result<Moments> {
            let (mut http, mut asked, begun) = (Http::connect(addr)?, Moments::new(), Instant::now());
            for (index, device) in (0..n).zip(devices.iter().cycle()) {
                wait_until(begun + Duration::from_secs(1) / RATE * index);
                let now = Instant::now();
                asked.insert(send(&mut http, &token, device)?, now);
            }
            Ok(asked)
        }
    });
    let received = stage.runtime.block_on(listener)??;
    let asked = sender.join().expect("the sender does not panic")?;
    let mut latencies = Latencies::default();
    for (id, at) in &received.succeeded {
        latencies.push(at.duration_since(*asked.get(id).context("an event of a command that was sent")?));
    }
    Ok(latencies.p50_p99())
}

/// One to each device, as fast as the connections take them: until the last has left, and the last has
/// succeeded.
fn burst(stage: &Stage, server: &Server, token: &str) -> Result<(Duration, Duration)> {
    let listener = listener(stage, server, token, DEVICES)?;
    let begun = Instant::now();
    let senders: Vec<_> = server
        .devices
        .chunks(DEVICES.div_ceil(SENDERS))
        .map(|devices| {
            let (addr, token, devices) = (server.addr, token.to_owned(), devices.to_vec());
            thread::spawn(move || send_all(addr, &token, &devices))
        })
        .collect();
    let received = stage.runtime.block_on(listener)??;
    for sender in senders {
        sender.join().expect("a sender does not panic")?;
    }
    let last = |moments: &Moments| moments.values().max().map(|at| at.duration_since(begun)).context("an event");
    Ok((last(&received.sent)?, last(&received.succeeded)?))
}

fn send_all(addr: SocketAddr, token: &str, devices: &[String]) -> Result<()> {
    let mut http = Http::connect(addr)?;
    devices.iter().try_for_each(|device| send(&mut http, token, device).map(drop))
}
