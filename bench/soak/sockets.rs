//! Subscribers that come and go: each second one socket more, which closes or vanishes after a while. Some never read.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use super::Shared;
use crate::messages::DEVICES;
use crate::server::{Endpoint, PREFIX};
use crate::socket::{FIELDS, Subscriber};

/// Time between two new sockets.
const NEW_EVERY: Duration = Duration::from_secs(1);
/// How long a socket lives.
const LIFE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Tally {
    pub(super) opened: u64,
    /// Sockets that did not read.
    pub(super) unread: u64,
    pub(super) events: u64,
}

/// What a socket follows, in turn.
#[derive(Clone, Copy)]
enum Kind {
    Home,
    Device,
    Commands,
    /// The home, without reading.
    Unread,
}

const KINDS: [Kind; 8] = {
    use Kind::{Commands, Device, Home, Unread};
    [Home, Device, Commands, Device, Unread, Device, Commands, Device]
};

/// Opens sockets until the end.
pub(super) fn run(shared: &Shared<'_>) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(open_in_turn(shared))
}

async fn open_in_turn(shared: &Shared<'_>) -> Result<Tally> {
    let (mut tally, mut sockets, mut pace) = (Tally::default(), JoinSet::new(), interval(NEW_EVERY));
    let server = &shared.subject.server;
    while !shared.is_over() {
        tokio::select! {
            Some(ended) = sockets.join_next() => tally.events += ended.context("a socket panicked")??,
            _ = pace.tick() => {
                let index = usize::try_from(tally.opened)?;
                let kind = KINDS[index % KINDS.len()];
                let token = shared.token();
                let endpoint = Endpoint { addr: server.addr, pid: server.process.id(), token, prefix: PREFIX };
                let (home, device) = (server.home.clone(), server.devices[index % DEVICES].clone());
                sockets.spawn(follow(endpoint, kind, home, device, index % 2 == 0));
                tally.opened += 1;
                tally.unread += u64::from(matches!(kind, Kind::Unread));
            }
        }
    }
    Ok(tally)
}

/// The events that a socket received in its life.
async fn follow(endpoint: Endpoint, kind: Kind, home: String, device: String, closes: bool) -> Result<u64> {
    let end = Instant::now() + LIFE;
    let mut subscriber = match kind {
        Kind::Home | Kind::Unread => Subscriber::connect(&endpoint, "homeId", &[home], FIELDS).await?,
        Kind::Device => Subscriber::connect(&endpoint, "deviceId", &[device], FIELDS).await?,
        Kind::Commands => Subscriber::commands(endpoint.addr, &endpoint.token, &home).await?,
    };
    if matches!(kind, Kind::Unread) {
        sleep_until(end).await;
        return Ok(0);
    }
    let mut events = 0;
    while let Ok(event) = timeout_at(end, subscriber.next()).await {
        event?;
        events += 1;
    }
    if closes {
        subscriber.close().await?;
    }
    Ok(events)
}
