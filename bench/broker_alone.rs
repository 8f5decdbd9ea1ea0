//! The broker alone: what it passes from one publisher to one QoS 1 subscriber. Nothing that receives
//! by MQTT can be faster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::codec::{self, PUBLISH, Packets, Publish};
use crate::load::{Publisher, SentAt, flood_in_background};
use crate::messages::{DEVICES, Numbers};
use crate::stage::Stage;
use crate::stats::{Latencies, median, pair, per_second, thousands};
use crate::table::Table;

const PREFIX: &str = "bare";
pub(crate) const RATES: [u32; 3] = [100, 1_000, 5_000];
/// A subscriber that receives nothing for this long counts as lost.
const SILENCE: Duration = Duration::from_secs(10);

/// What later measurements are compared with.
#[derive(Default)]
pub(crate) struct BrokerAlone {
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    /// p50 and p99 at each of [`RATES`].
    pub(crate) latencies: Vec<(Duration, Duration)>,
}

pub(crate) fn measure(stage: &Stage, table: &mut Table) -> Result<BrokerAlone> {
    if !table.wants("broker") {
        return Ok(BrokerAlone::default());
    }
    let mut rates = Vec::new();
    for _ in 0..stage.size.rounds {
        let range = stage.numbers.take(stage.size.messages);
        let mut subscriber = subscriber(stage.mqtt_port)?;
        let start = Instant::now();
        let load = flood_in_background(stage.mqtt_port, PREFIX, "1", &stage.numbers, range.clone());
        receive(&mut subscriber, range.end - range.start, |_| {})?;
        rates.push(per_second(range.end - range.start, start.elapsed()));
        load.join().expect("the load does not panic")?;
    }
    let rate = median(rates);
    table.row("broker alone, publish -> one QoS 1 subscriber", &format!("{}/s", thousands(rate)), "", None, "");

    let mut latencies = Vec::new();
    for rate in RATES {
        let range = stage.numbers.take(u64::from(rate * stage.size.seconds));
        let latency = latency(stage, range, rate)?.p50_p99();
        table.row(
            &format!("broker alone, latency p50 / p99 at {}/s", thousands(rate.into())),
            &pair(latency),
            "",
            None,
            "",
        );
        latencies.push(latency);
    }
    Ok(BrokerAlone { rate: Some(rate), latencies })
}

fn subscriber(port: u16) -> Result<TcpStream> {
    let mut stream = codec::connect(port, "bench-subscriber")?;
    codec::subscribe(&mut stream, &format!("{PREFIX}/+/+/telemetry"))?;
    stream.set_read_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// Takes and acknowledges `n` messages.
fn receive(stream: &mut TcpStream, n: u64, mut received: impl FnMut(&Publish<'_>)) -> Result<()> {
    let (mut packets, mut bytes, mut acks) = (Packets::default(), vec![0; 64 * 1024], Vec::new());
    let mut left = n;
    while left > 0 {
        let read = stream.read(&mut bytes).context("the subscriber received nothing for too long")?;
        if read == 0 {
            bail!("the broker closed the subscriber's connection");
        }
        packets.feed(&bytes[..read]);
        acks.clear();
        while let Some((kind, body)) = packets.next() {
            if kind == PUBLISH {
                let publish = Publish::parse(body).context("a PUBLISH of QoS 1")?;
                acks.extend(codec::puback(publish.packet_id));
                received(&publish);
                left = left.saturating_sub(1);
            }
        }
        stream.write_all(&acks)?;
    }
    Ok(())
}

fn latency(stage: &Stage, range: Range<u64>, rate: u32) -> Result<Latencies> {
    let sent_at = SentAt::new(&range);
    let mut stream = subscriber(stage.mqtt_port)?;
    let listener = thread::spawn({
        let (sent_at, numbers, n) = (sent_at.clone(), stage.numbers.clone(), range.end - range.start);
        move || -> Result<Latencies> {
            let mut latencies = Latencies::default();
            receive(&mut stream, n, |publish| latencies.extend(one(&numbers, &sent_at, publish)))?;
            Ok(latencies)
        }
    });
    Publisher::connect(stage.mqtt_port, PREFIX, "1", 0..DEVICES, &stage.numbers)?.paced(range, rate, &sent_at)?;
    listener.join().expect("the listener does not panic")
}

fn one(numbers: &Numbers, sent_at: &SentAt, publish: &Publish<'_>) -> Latencies {
    let mut latencies = Latencies::default();
    if let Some(age) = numbers.of(publish.payload).and_then(|number| sent_at.age(number)) {
        latencies.push(age);
    }
    latencies
}
