//! The yardstick of ingest: the shortest program that keeps the promise. Subscribe, parse, insert a
//! batch, acknowledge it in order, and nothing else: no device table, no reconnect, no subscribers.
//!
//! One thread, one task that reads and one that writes; a batch is whatever came while the last one
//! was being committed.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::codec::{self, PUBLISH, Packets, Publish};
use crate::load::flood_in_background;
use crate::rows::{self, BATCH, Columns, Parser};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;
use crate::yardstick::Yardstick;

const PREFIX: &str = "yardstick";
/// Messages read and not yet committed; then reading stops.
const MOST_WAITING: usize = 4 * BATCH;

/// Messages a second.
pub(crate) fn measure(stage: &Stage, table: &mut Table, yardstick: &Yardstick, insert: Option<f64>) -> Result<f64> {
    let n = stage.size.messages;
    let mut rates = Vec::new();
    for _ in 0..stage.size.rounds {
        yardstick.empty(stage)?;
        let client = stage.connect(yardstick.database())?;
        let range = stage.numbers.take(n);
        let mut stream = codec::connect(stage.mqtt_port, "bench-pipe")?;
        codec::subscribe(&mut stream, &format!("{PREFIX}/+/+/telemetry"))?;
        stream.set_nonblocking(true)?;
        let start = Instant::now();
        let load = flood_in_background(stage.mqtt_port, PREFIX, "1", &stage.numbers, range);
        stage.runtime.block_on(run(stream, &client, n))?;
        rates.push(per_second(n, start.elapsed()));
        load.join().expect("the load does not panic")?;
        let stored: i64 = stage.runtime.block_on(client.query_one("select count(*) from telemetry", &[]))?.get(0);
        ensure!(u64::try_from(stored)? == n, "the bare pipe stored {stored} of {n} messages");
    }
    let rate = median(rates);
    let limit = insert.map(|insert| format!("{} rows/s alone", thousands(insert))).unwrap_or_default();
    let what = "bare pipe: subscribe, INSERT, acknowledge";
    table.row(what, &format!("{}/s", thousands(rate)), &limit, insert.map(|insert| rate / insert), "");
    Ok(rate)
}

#[derive(Default)]
struct Queue {
    rows: Mutex<(Columns, Vec<u8>)>,
    filled: Notify,
    emptied: Notify,
}

async fn run(stream: std::net::TcpStream, client: &tokio_postgres::Client, n: u64) -> Result<()> {
    let (reading, writing) = tokio::net::TcpStream::from_std(stream)?.into_split();
    let queue = Arc::new(Queue::default());
    let reader = tokio::spawn(read(reading, queue.clone(), n));
    write(writing, client, &queue, n).await?;
    reader.await?
}

async fn read(mut stream: OwnedReadHalf, queue: Arc<Queue>, n: u64) -> Result<()> {
    let (mut packets, mut parser, mut bytes) = (Packets::default(), Parser::new(), vec![0; 64 * 1024]);
    let mut left = n;
    while left > 0 {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            bail!("the broker closed the pipe's connection");
        }
        packets.feed(&bytes[..read]);
        let waiting = {
            let mut rows = queue.rows.lock().expect("no panic while locked");
            let received_at = SystemTime::now();
            while let Some((kind, body)) = packets.next() {
                if kind == PUBLISH {
                    let publish = Publish::parse(body).context("a PUBLISH of QoS 1")?;
                    parser.push(&mut rows.0, publish.payload, received_at)?;
                    rows.1.extend(codec::puback(publish.packet_id));
                    left -= 1;
                }
            }
            rows.0.len()
        };
        queue.filled.notify_one();
        if waiting >= MOST_WAITING {
            queue.emptied.notified().await;
        }
    }
    Ok(())
}

async fn write(mut stream: OwnedWriteHalf, client: &tokio_postgres::Client, queue: &Queue, n: u64) -> Result<()> {
    let statement = rows::prepare(client).await?;
    let mut left = n;
    while left > 0 {
        queue.filled.notified().await;
        let (rows, acks) = std::mem::take(&mut *queue.rows.lock().expect("no panic while locked"));
        if rows.len() == 0 {
            continue;
        }
        queue.emptied.notify_one();
        rows::insert(client, &statement, &rows).await?;
        left = left.saturating_sub(rows.len() as u64);
        stream.write_all(&acks).await?;
    }
    Ok(())
}
