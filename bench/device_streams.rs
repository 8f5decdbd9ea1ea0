//! A screen that shows fifty devices of a busy home, one subscription each on one socket: the server should work for
//! those devices' events, not for the home's.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cost::{Meter, micros};
use crate::live::{Load, await_first_event};
use crate::messages::DEVICES;
use crate::server::{Endpoint, PREFIX, Server};
use crate::socket::{DEVICE_FIELDS, Subscriber};
use crate::stage::Stage;
use crate::stats::{pair, thousands};
use crate::table::Table;

const STREAMS: usize = 50;
/// Events of the home a second.
const RATE: u32 = 5_000;
/// Every so many events one belongs to a device that may be shown: each of them has one a second.
const SHOWN: usize = RATE as usize / STREAMS;

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server) -> Result<()> {
    let endpoint = server.endpoint()?;
    let one = run(stage, server, &endpoint, 1)?;
    let fifty = run(stage, server, &endpoint, STREAMS)?;
    let rate = thousands(RATE.into());
    let what = format!("{STREAMS} device streams on one socket, home at {rate}/s: processor of the server");
    let ratio = fifty.share / one.share;
    let limit = format!("1 stream {:.1} %", one.share);
    table.row(&what, &format!("{:.1} % of a core", fifty.share), &limit, Some(ratio), "about 1");
    let more = fifty.server.saturating_sub(one.server);
    let measured = format!("{:.0} us", micros(more, fifty.events.saturating_sub(one.events)));
    table.row("the same: processor for each event of the further streams", &measured, "", None, "");
    table.row("the same: p50 / p99", &pair(fifty.latency), &pair(one.latency), None, "");
    Ok(())
}

struct Run {
    server: Duration,
    /// The same in percent of a core.
    share: f64,
    /// That were delivered.
    events: u64,
    latency: (Duration, Duration),
}

fn run(stage: &Stage, server: &Server, endpoint: &Endpoint, streams: usize) -> Result<Run> {
    let devices = &server.devices[..streams];
    let subscriber = Subscriber::connect(endpoint, "deviceId", devices, DEVICE_FIELDS);
    let subscriber = stage.runtime.block_on(subscriber)?;
    let mut subscribers = await_first_event(stage, PREFIX, 0..streams, vec![subscriber])?;
    let n = u64::from(RATE * stage.size.seconds);
    let events = n / u64::from(RATE) * streams as u64;
    let meter = Meter::start(stage, endpoint.pid)?;
    let start = Instant::now();
    let load = Load::start(stage, PREFIX, senders(), n, RATE);
    let received = load.listen(subscribers.remove(0), stage.numbers.clone(), events);
    let (_, latencies) = stage.runtime.block_on(received)?;
    load.finish()?;
    let (time, server) = (start.elapsed(), meter.stop(stage, &HashSet::new())?.server);
    let share = 100.0 * server.as_secs_f64() / time.as_secs_f64();
    Ok(Run { server, share, events, latency: latencies.p50_p99() })
}

/// Which device sends, for one second of the home.
fn senders() -> impl Iterator<Item = usize> + Send {
    let others = (STREAMS..DEVICES).cycle();
    (0..RATE as usize).zip(others).map(|(index, other)| if index % SHOWN == 0 { index / SHOWN } else { other })
}
