//! Devices that answer each command and configuration at once, all behind one connection, and the broker's own round
//! trip between two plain clients. Plain sockets, so that neither thinks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::codec::{self, Frame, PUBACK, PUBLISH, Packets, Publish};
use crate::messages::key;
use crate::stats::Latencies;

/// An answer that takes longer is none.
const SILENCE: Duration = Duration::from_secs(10);

/// Answers `SUCCEEDED` to every command under a prefix and a home, until dropped.
pub(crate) struct Echo {
    stream: TcpStream,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(port: u16, prefix: &str, home: &str) -> Result<Self> {
        let mut stream = codec::connect(port, &format!("bench-echo-{prefix}"))?;
        codec::subscribe(&mut stream, &format!("{prefix}/{home}/+/commands"))?;
        Self::answering(stream)
    }

    /// The same, and `APPLIED` to every configuration.
    pub(crate) fn start_with_configurations(port: u16, prefix: &str, home: &str) -> Result<Self> {
        let mut stream = codec::connect(port, &format!("bench-echo-{prefix}"))?;
        for kind in ["commands", "config"] {
            codec::subscribe(&mut stream, &format!("{prefix}/{home}/+/{kind}"))?;
        }
        Self::answering(stream)
    }

    fn answering(stream: TcpStream) -> Result<Self> {
        let answered = Arc::<AtomicU64>::default();
        let thread = thread::spawn({
            let (stream, answered) = (stream.try_clone()?, answered.clone());
            move || answer(stream, &answered)
        });
        Ok(Self { stream, answered, thread: Some(thread) })
    }

    /// Answers sent so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The thread ends with the connection.
        let closed = self.stream.shutdown(Shutdown::Both);
        if let (Ok(()), Some(thread)) = (closed, self.thread.take())
            && thread.join().is_err()
        {
            eprintln!("the answering devices failed");
        }
    }
}

fn answer(mut stream: TcpStream, answered: &AtomicU64) {
    let (mut packets, mut bytes, mut out, mut packet_id) = (Packets::default(), vec![0; 64 * 1024], Vec::new(), 0u16);
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        packets.feed(&bytes[..n]);
        out.clear();
        while let Some((kind, body)) = packets.next() {
            let Some(publish) = (kind == PUBLISH).then(|| Publish::parse(body)).flatten() else { continue };
            out.extend(codec::puback(publish.packet_id));
            let Some(answer) = answer_to(publish.payload) else { continue };
            let topic = String::from_utf8_lossy(publish.topic);
            let device = topic.rsplit_once('/').map_or(&*topic, |(device, _)| device);
            packet_id = packet_id % u16::MAX + 1;
            out.extend(Frame::new(&format!("{device}/ack"), answer.to_string().as_bytes()).with_id(packet_id));
            answered.fetch_add(1, Ordering::Relaxed);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// What a device answers to a command or a configuration.
fn answer_to(payload: &[u8]) -> Option<Value> {
    let message: Value = serde_json::from_slice(payload).ok()?;
    match (&message["commandId"], &message["version"]) {
        (Value::String(id), _) => Some(json!({"commandId": id, "status": "SUCCEEDED"})),
        (_, Value::Number(version)) => Some(json!({"configVersion": version, "status": "APPLIED"})),
        _ => None,
    }
}

/// Says for each device that it is there.
pub(crate) fn say_online(port: u16, prefix: &str, home: &str, devices: usize) -> Result<()> {
    let mut stream = codec::connect(port, "bench-online")?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut out = Vec::new();
    for device in 0..devices {
        let topic = format!("{prefix}/{home}/{}/status", key(device));
        out.extend(Frame::new(&topic, br#"{"online":true}"#).with_id(u16::try_from(device)? + 1));
    }
    stream.write_all(&out)?;
    let (mut packets, mut bytes, mut acked) = (Packets::default(), vec![0; 64 * 1024], 0);
    while acked < devices {
        let n = stream.read(&mut bytes).context("the broker did not acknowledge the devices")?;
        if n == 0 {
            bail!("the broker closed the connection of the devices");
        }
        packets.feed(&bytes[..n]);
        while let Some((kind, _)) = packets.next() {
            acked += usize::from(kind == PUBACK);
        }
    }
    Ok(())
}

/// The broker alone: a client that asks on a commands topic and receives the answer on the ack topic.
pub(crate) struct Asker {
    stream: TcpStream,
    packets: Packets,
    next: u16,
}

impl Asker {
    /// The other end is an [`Echo`] of the same prefix and home.
    pub(crate) fn connect(port: u16, prefix: &str, home: &str) -> Result<Self> {
        let mut stream = codec::connect(port, "bench-asker")?;
        codec::subscribe(&mut stream, &format!("{prefix}/{home}/+/ack"))?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self { stream, packets: Packets::default(), next: 0 })
    }

    /// Asks one after the other, `rate` a second at most, each when the last one was answered.
    pub(crate) fn paced(&mut self, prefix: &str, home: &str, n: u32, rate: u32) -> Result<Latencies> {
        let (mut latencies, begun) = (Latencies::default(), Instant::now());
        for index in 0..n {
            wait_until(begun + Duration::from_secs(1) / rate * index);
            let asked = Instant::now();
            let request = self.request(prefix, home, usize::try_from(index)? % crate::messages::DEVICES);
            self.stream.write_all(&request)?;
            self.receive(1)?;
            latencies.push(asked.elapsed());
        }
        Ok(latencies)
    }

    /// Asks each of so many devices at once: the time until the last answer.
    pub(crate) fn burst(&mut self, prefix: &str, home: &str, devices: usize) -> Result<Duration> {
        let requests: Vec<u8> = (0..devices).flat_map(|device| self.request(prefix, home, device)).collect();
        let asked = Instant::now();
        self.stream.write_all(&requests)?;
        self.receive(devices)?;
        Ok(asked.elapsed())
    }

    /// As long as the server's own commands are.
    fn request(&mut self, prefix: &str, home: &str, device: usize) -> Vec<u8> {
        self.next = self.next % u16::MAX + 1;
        let payload = format!(
            concat!(
                r#"{{"commandId":"cmd_{:026}","timestamp":"2026-02-13T12:00:00.000Z","type":"SET_POWER","#,
                r#""payload":{{"power":true}},"source":"USER","correlationId":"00000000-0000-0000-0000-000000000000","#,
                r#""expiresAt":"2026-02-13T12:05:00.000Z"}}"#
            ),
            self.next
        );
        Frame::new(&format!("{prefix}/{home}/{}/commands", key(device)), payload.as_bytes()).with_id(self.next)
    }

    fn receive(&mut self, n: usize) -> Result<()> {
        let (mut received, mut bytes) = (0, vec![0; 64 * 1024]);
        while received < n {
            let read = self.stream.read(&mut bytes).context("the broker's round trip received no answer")?;
            if read == 0 {
                bail!("the broker closed the connection of its own round trip");
            }
            self.packets.feed(&bytes[..read]);
            let mut acks = Vec::new();
            while let Some((kind, body)) = self.packets.next() {
                if kind == PUBLISH {
                    received += 1;
                    acks.extend(codec::puback(Publish::parse(body).context("a PUBLISH of QoS 1")?.packet_id));
                }
            }
            self.stream.write_all(&acks)?;
        }
        Ok(())
    }
}

/// The pace is the load itself: nothing here waits for a state.
pub(crate) fn wait_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// When something happened, by the command it happened to.
pub(crate) type Moments = HashMap<String, Instant>;
