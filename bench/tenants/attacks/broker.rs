//! A device that subscribes to everything, and one that fills the broker while the server is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::load::work_until;
use crate::codec::{Frame, Packets, subscribe_packet};
use crate::server::PREFIX;
use crate::tenants::account::Account;
use crate::tenants::device;
use crate::tenants::world::World;

/// Bytes of all messages of one size.
const BYTES: usize = 600_000_000;
/// Bytes of a message: first more than the shipped files allow, then as much as they do.
const SIZES: [usize; 2] = [1_000_000, 130_000];
/// The broker has taken what it takes.
const TAKEN: Duration = Duration::from_secs(2);

/// Filters that match the commands of all homes.
const EVERYTHING: [&str; 3] = ["#", "smarthome/#", "+/+/+/commands"];
/// The last byte of a SUBACK that grants a subscription: at most QoS 2.
const GRANTED: u8 = 2;

/// Subscribes to the topics of all homes; the connection, and what the broker said.
pub(super) async fn subscribe_to_all(account: &Account, world: &World) -> Result<(TcpStream, String)> {
    let mut stream = device::enter(world.mqtt_port, &account.devices[0], super::ENTRY).await?;
    let (mut packets, mut bytes, mut answers) = (Packets::default(), [0; 512], Vec::new());
    for filter in EVERYTHING {
        stream.write_all(&subscribe_packet(filter)).await?;
        let reason = loop {
            if let Some((_, body)) = packets.next() {
                break body.last().copied().unwrap_or(u8::MAX);
            }
            let n = stream.read(&mut bytes).await?;
            ensure!(n > 0, "the broker closed the connection");
            packets.feed(&bytes[..n]);
        };
        answers.push(format!("{filter} {}", if reason <= GRANTED { "granted" } else { "refused" }));
    }
    Ok((stream, answers.join(", ")))
}

/// Stops the server, sends messages of each size as long as the broker takes them, and starts the server again.
pub(super) async fn send_while_away(account: &Account, world: &World) -> Result<String> {
    let login = &account.devices[0];
    // The broker knows the device.
    drop(device::enter(world.mqtt_port, login, super::ENTRY).await?);
    world.stop_server()?;
    let topic = format!("{PREFIX}/{}/{}/telemetry", account.home_key, login.key);
    let (before, begun) = (world.broker_memory().0, Instant::now());
    let mut sent = Vec::new();
    for size in SIZES {
        let stream = device::enter(world.mqtt_port, login, super::ENTRY).await?;
        sent.push(format!("{} of {} KB", flood(stream, &topic, size).await, size / 1_000));
    }
    let after = world.broker_memory().0;
    let seconds = begun.elapsed().as_secs_f64();
    world.start_server()?;
    Ok(format!("{} in {seconds:.1} s, broker {before} -> {after} MB", sent.join(", ")))
}

/// How many messages were written before the broker closed the connection.
async fn flood(stream: TcpStream, topic: &str, size: usize) -> usize {
    let (mut reading, mut writing) = stream.into_split();
    let drained = tokio::spawn(async move {
        let mut bytes = vec![0; 16 << 10];
        while matches!(reading.read(&mut bytes).await, Ok(1..)) {}
    });
    let payload = vec![b'x'; size];
    let mut written = 0;
    for n in 0..BYTES / size {
        let message = Frame::new(topic, &payload).with_id(u16::try_from(n + 1).expect("few messages"));
        if writing.write_all(&message).await.is_err() {
            break;
        }
        written += 1;
    }
    // Until the broker has closed the connection, or has had the time to take them all.
    work_until(Instant::now() + TAKEN, drained).await;
    written
}
