//! A thousand sockets of a hundred accounts follow a home when the server is restarted. All connect again and resume after
//! the last reading that they received: how long until each one receives readings, and what that takes of the server, whose
//! rate limits are on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::ask;
use crate::live::await_first_event;
use crate::load::{Publisher, SentAt};
use crate::messages::DEVICES;
use crate::process;
use crate::server::{self, DATABASE, Endpoint, HOME, PREFIX, Server, text};
use crate::socket::{FIELDS, Subscriber};
use crate::stage::Stage;
use crate::stats::{Latencies, pair, thousands};
use crate::table::Table;

const SOCKETS: usize = 1_000;
/// Longest wait until each socket has one.
const FIRST_READING: Duration = Duration::from_secs(30);
const ACCOUNTS: usize = 100;
/// Readings of the home in a second, also while the server is away.
const RATE: u32 = 20;
/// A client that is refused more often fails the run.
const MAX_RETRIES: u32 = 4;
const PASSWORD: &str = "a password for the benchmark alone";
const JOIN: &str = "insert into memberships (home_id, user_id, role) \
                    select $1::text::bigint, id, 'MEMBER' from users where email like 'reconnect-%'";

/// When a client connects again after its socket was closed.
#[derive(Clone, Copy)]
enum Wait {
    /// As soon as the server is ready: all at once.
    UntilReady,
    /// As graphql-ws does by itself: one second and a random part of three, each time doubled.
    GraphqlWs,
}

/// What a client needs.
struct Client {
    endpoint: Arc<Endpoint>,
    resume: Arc<str>,
    wait: Wait,
    ready: watch::Receiver<Option<Instant>>,
    /// Gets a permit with the client's first reading.
    have_read: Arc<Semaphore>,
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &mut Server) -> Result<()> {
    let tokens = accounts(stage, server)?;
    let n = thousands(1_000.0);
    for (wait, how, target) in
        [(Wait::UntilReady, "at once", "at most 2 s"), (Wait::GraphqlWs, "with the waits of graphql-ws", "")]
    {
        let storm = restart(stage, server, &tokens, wait)?;
        server.process.terminate()?;
        server.process = server::start_at(stage, &stage.url(DATABASE)?, server.addr, "off")?.0;
        let what = format!("{n} sockets reconnect {how}, until the last one has an event");
        table.row(&what, &format!("{:.2} s", storm.time.as_secs_f64()), "", None, target);
        let latency = pair(storm.latencies.p50_p99());
        table.row("the same: from an attempt to an event, p50 / p99", &latency, "", None, "");
        table.row("the same: attempts that the running server refused", &storm.refused.to_string(), "", None, "0");
        let share = 100.0 * storm.server.as_secs_f64() / storm.time.as_secs_f64();
        let cpu = format!("{:.2} s, {share:.0} % of a core", storm.server.as_secs_f64());
        let database = format!("PostgreSQL {:.2} s", storm.database.as_secs_f64());
        table.row("the same: processor of the server", &cpu, &database, None, "less than one core");
    }
    Ok(())
}

/// Accounts that may read the home, by an access token of each.
fn accounts(stage: &Stage, server: &Server) -> Result<Vec<String>> {
    let query = "mutation($input: RegisterInput!) { register(input: $input) { accessToken } }";
    let register = |number| {
        let email = format!("reconnect-{number}@example.com");
        let input = json!({"email": email, "password": PASSWORD, "name": "Member"});
        text(&ask(server.addr, None, query, &json!({ "input": input }))?["register"]["accessToken"])
    };
    let tokens = (0..ACCOUNTS).map(register).collect::<Result<_>>()?;
    let sql = stage.connect(DATABASE)?;
    stage.runtime.block_on(sql.execute(JOIN, &[&server.home]))?;
    Ok(tokens)
}

/// What a restart cost, from the first 200 of `/readyz` to the last socket's event.
struct Cost {
    time: Duration,
    latencies: Latencies,
    /// Attempts that the running server refused.
    refused: u32,
    server: Duration,
    database: Duration,
}

fn restart(stage: &Stage, server: &mut Server, tokens: &[String], wait: Wait) -> Result<Cost> {
    let endpoint = |token: &String| Endpoint { addr: server.addr, pid: 0, token: token.clone(), prefix: PREFIX };
    let endpoints: Vec<_> = tokens.iter().map(|token| Arc::new(endpoint(token))).collect();
    let home = [server.home.clone()];
    let subscribers = stage.runtime.block_on(async {
        let mut subscribers = Vec::new();
        for endpoint in endpoints.iter().cycle().take(SOCKETS) {
            subscribers.push(Subscriber::connect(endpoint, "homeId", &home, FIELDS).await?);
        }
        anyhow::Ok(subscribers)
    })?;
    let subscribers = await_first_event(stage, PREFIX, 0..DEVICES, subscribers)?;
    let readings = Readings::start(stage);

    let (tell, ready) = watch::channel(None);
    let query =
        format!("subscription($id: ID!) {{ telemetry(homeId: \"{}\", after: $id) {{ {FIELDS} }} }}", server.home);
    let resume: Arc<str> = query.into();
    let have_read = Arc::new(Semaphore::new(0));
    let clients = endpoints.iter().cycle().zip(subscribers).map(|(endpoint, subscriber)| {
        let (endpoint, resume) = (endpoint.clone(), resume.clone());
        let client = Client { endpoint, resume, wait, ready: ready.clone(), have_read: have_read.clone() };
        client.follow(subscriber)
    });
    let clients: Vec<_> = clients.collect();
    let (postmaster, url, runtime) = (stage.postmaster()?, stage.url(DATABASE)?, &stage.runtime);
    let (at, database, live) = thread::scope(|scope| {
        // Dropped at a failure, which ends the clients.
        let tell = tell;
        let live = scope.spawn(|| runtime.block_on(all(clients)));
        // Each needs the id of a reading to resume after.
        let all_have = runtime.block_on(async { timeout(FIRST_READING, have_read.acquire_many(SOCKETS as u32)).await });
        drop(all_have.context("a socket gets no reading")??);
        server.process.terminate()?;
        let database = process::family_cpu(postmaster);
        server.process = server::start_at(stage, &url, server.addr, "on")?.0;
        let at = Instant::now();
        tell.send_replace(Some(at));
        anyhow::Ok((at, database, live.join().expect("no client panics")?))
    })?;
    let cpu = process::cpu(server.process.id(), false);
    let database = process::family_cpu(postmaster).saturating_sub(database);
    readings.stop()?;
    let last = live.iter().map(|client| client.live).max().context("sockets")?;
    let mut latencies = Latencies::default();
    live.iter().for_each(|client| latencies.push(client.live - client.attempt));
    let refused = live.iter().map(|client| client.refused).sum();
    Ok(Cost { time: last.saturating_duration_since(at), latencies, refused, server: cpu, database })
}

/// Runs all clients until each one receives readings again.
async fn all(clients: Vec<impl Future<Output = Result<Live>> + Send + 'static>) -> Result<Vec<Live>> {
    let mut tasks: JoinSet<_> = clients.into_iter().collect();
    let mut live = Vec::new();
    while let Some(client) = tasks.join_next().await {
        live.push(client??);
    }
    Ok(live)
}

/// A client that receives readings again, and when it began to connect.
struct Live {
    attempt: Instant,
    live: Instant,
    refused: u32,
    _subscriber: Subscriber,
}

impl Client {
    /// Receives until the server closes the socket, and connects again until that succeeds.
    async fn follow(mut self, mut subscriber: Subscriber) -> Result<Live> {
        let mut last = String::new();
        while let Ok(event) = subscriber.next().await {
            let event: Value = serde_json::from_str(&event)?;
            if let Some(id) = event["payload"]["data"]["telemetry"]["id"].as_str() {
                if last.is_empty() {
                    self.have_read.add_permits(1);
                }
                id.clone_into(&mut last);
            }
        }
        drop(subscriber);
        let (mut retries, mut refused) = (0, 0);
        loop {
            match self.wait {
                Wait::UntilReady if refused == 0 => drop(self.ready.wait_for(Option::is_some).await?),
                _ => {
                    let random = fastrand::u64(300..3_000);
                    tokio::time::sleep(Duration::from_millis(1_000 * 2u64.pow(retries) + random)).await;
                }
            }
            retries += 1;
            let attempt = Instant::now();
            match self.resume(&last).await {
                Ok(subscriber) => {
                    return Ok(Live { attempt, live: Instant::now(), refused, _subscriber: subscriber });
                }
                Err(error) if retries == MAX_RETRIES => return Err(error),
                Err(_) => refused += u32::from(self.ready.borrow().is_some_and(|at| at < attempt)),
            }
        }
    }

    async fn resume(&self, last: &str) -> Result<Subscriber> {
        let mut subscriber = Subscriber::open(self.endpoint.addr, &self.endpoint.token).await?;
        subscriber.subscribe(&self.resume, last).await?;
        subscriber.all_received().await?;
        Ok(subscriber)
    }
}

/// A few readings a second of all devices in turn.
struct Readings {
    is_done: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Readings {
    fn start(stage: &Stage) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let (done, numbers, port) = (is_done.clone(), stage.numbers.clone(), stage.mqtt_port);
        let thread = thread::spawn(move || {
            let mut publisher = Publisher::connect(port, PREFIX, HOME, 0..DEVICES, &numbers)?;
            while !done.load(Ordering::Acquire) {
                let range = numbers.take(2);
                publisher.paced(range.clone(), RATE, &SentAt::new(&range))?;
            }
            Ok(())
        });
        Self { is_done, thread }
    }

    fn stop(self) -> Result<()> {
        self.is_done.store(true, Ordering::Release);
        self.thread.join().expect("the load does not panic")
    }
}
