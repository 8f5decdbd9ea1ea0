//! The server's INSERT alone: rows prepared in memory, a thousand per statement, into the server's partitioned table. No
//! program that stores over one connection can be faster.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};

use crate::messages::{DEVICES, payload};
use crate::rows::{BATCH, Columns, Parser, insert, prepare};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;
use crate::yardstick::Yardstick;

/// Rows a second.
pub(crate) fn measure(stage: &Stage, table: &mut Table, yardstick: &Yardstick) -> Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..stage.size.rounds {
        yardstick.empty(stage)?;
        let batches = batches(stage);
        let client = stage.connect(yardstick.database())?;
        let time: Duration = stage.runtime.block_on(async {
            let statement = prepare(&client).await?;
            let start = Instant::now();
            for batch in &batches {
                let stored = insert(&client, &statement, batch).await?;
                ensure!(stored == batch.len() as u64, "{stored} of {} rows were stored", batch.len());
            }
            anyhow::Ok(start.elapsed())
        })?;
        rates.push(per_second(stage.size.messages, time));
    }
    let rate = median(rates);
    table.row("the same INSERT alone, UNNEST of 1,000 rows", &format!("{} rows/s", thousands(rate)), "", None, "");
    Ok(rate)
}

fn batches(stage: &Stage) -> Vec<Columns> {
    let mut stamper = stage.numbers.stamper();
    let mut parser = Parser::new();
    let mut payloads: Vec<Vec<u8>> = (0..DEVICES).map(|device| payload(device).into_bytes()).collect();
    let numbers: Vec<u64> = stage.numbers.take(stage.size.messages).collect();
    let batch = |numbers: &[u64]| {
        let mut rows = Columns::default();
        for (device, number) in (0..).zip(numbers) {
            let payload = &mut payloads[device % DEVICES];
            stamper.stamp(payload, *number);
            parser.push(&mut rows, payload, SystemTime::now()).expect("our own payload");
        }
        rows
    };
    numbers.chunks(BATCH).map(batch).collect()
}
