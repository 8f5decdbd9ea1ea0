//! A device at the broker, with its own account: it answers commands and sends readings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::SecondsFormat;
use serde_json::{Value, json};
use smarthome::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::account::Login;
use crate::codec::{self, CONNACK, Frame, PUBLISH, Packets, Publish};
use crate::server::PREFIX;

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);
/// Pause between two readings of a device.
const READING_EVERY: Duration = Duration::from_secs(1);

/// What a device does with a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Acknowledges it as done.
    Acknowledges,
    /// Sends a reading that shows its effect.
    ShowsEffect,
    /// Receives it, and no more.
    Ignores,
    /// Does not subscribe to commands.
    Connected,
}

/// Connects; `None` where the broker refuses the login.
pub(super) async fn connect(port: u16, login: &Login) -> Result<Option<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect to the broker")?;
    stream.set_nodelay(true)?;
    let packet = codec::connect_packet(&login.client_id, Some((&login.username, &login.password)));
    stream.write_all(&packet).await?;
    let (mut packets, mut bytes) = (Packets::default(), [0; 512]);
    loop {
        match stream.read(&mut bytes).await {
            Ok(n @ 1..) => packets.feed(&bytes[..n]),
            _ => return Ok(None),
        }
        if let Some((kind, body)) = packets.next() {
            return Ok((kind == CONNACK && body.get(1) == Some(&0)).then_some(stream));
        }
    }
}

/// Connects as soon as the broker knows the device.
pub(super) async fn enter(port: u16, login: &Login, patience: Duration) -> Result<TcpStream> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if let Some(stream) = connect(port, login).await? {
            return Ok(stream);
        }
        tokio::time::sleep(RETRY).await;
    }
    bail!("the broker did not accept {} within {} s", login.username, patience.as_secs())
}

/// A connected device. It runs until its connection is closed.
pub(super) struct Device {
    pub(super) login: Login,
    /// When its connection was closed.
    pub(super) closed: JoinHandle<Instant>,
    /// Readings that it has sent.
    pub(super) sent: Arc<AtomicU64>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.closed.abort();
    }
}

impl Device {
    /// Connects as soon as the broker knows the device.
    pub(super) async fn start(port: u16, login: &Login, behaviour: Behaviour, patience: Duration) -> Result<Self> {
        let mut stream = enter(port, login, patience).await?;
        let topics = format!("{PREFIX}/{}/{}", login.home_key(), login.key);
        if behaviour != Behaviour::Connected {
            stream.write_all(&codec::subscribe_packet(&format!("{topics}/commands"))).await?;
        }
        let sent = Arc::new(AtomicU64::new(0));
        let session = Session { stream, topics, key: login.key.clone(), behaviour, next: 0, sent: sent.clone() };
        Ok(Self { login: login.clone(), closed: tokio::spawn(session.run()), sent })
    }

    /// When the connection was closed, unless it takes longer.
    pub(super) async fn cut_within(&mut self, patience: Duration) -> Option<Instant> {
        timeout(patience, &mut self.closed).await.ok()?.ok()
    }
}

struct Session {
    stream: TcpStream,
    topics: String,
    key: String,
    behaviour: Behaviour,
    next: u16,
    sent: Arc<AtomicU64>,
}

impl Session {
    async fn run(mut self) -> Instant {
        let (mut packets, mut bytes) = (Packets::default(), vec![0; 16 << 10]);
        let mut readings = interval(READING_EVERY);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reports = matches!(self.behaviour, Behaviour::Acknowledges | Behaviour::ShowsEffect);
        loop {
            let out = tokio::select! {
                read = self.stream.read(&mut bytes) => match read {
                    Ok(n @ 1..) => {
                        packets.feed(&bytes[..n]);
                        self.answers(&mut packets)
                    }
                    _ => return Instant::now(),
                },
                _ = readings.tick(), if reports => self.reading(0),
            };
            if self.stream.write_all(&out).await.is_err() {
                return Instant::now();
            }
        }
    }

    fn answers(&mut self, packets: &mut Packets) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((kind, body)) = packets.next() {
            let Some(publish) = (kind == PUBLISH).then(|| Publish::parse(body)).flatten() else { continue };
            out.extend(codec::puback(publish.packet_id));
            let command: Value = serde_json::from_slice(publish.payload).unwrap_or_default();
            match self.behaviour {
                Behaviour::Acknowledges => {
                    let answer = json!({"commandId": command["commandId"], "status": "SUCCEEDED"});
                    out.extend(self.publish("ack", &answer));
                }
                Behaviour::ShowsEffect => out.extend(self.reading(60)),
                Behaviour::Ignores | Behaviour::Connected => {}
            }
        }
        out
    }

    fn reading(&mut self, power: u8) -> Vec<u8> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let now = Clock::system().now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let sensors = json!({"powerW": power, "temperature": 21.5});
        self.publish("telemetry", &json!({"timestamp": now, "deviceId": self.key, "sensors": sensors}))
    }

    fn publish(&mut self, kind: &str, payload: &Value) -> Vec<u8> {
        self.next = self.next % u16::MAX + 1;
        Frame::new(&format!("{}/{kind}", self.topics), payload.to_string().as_bytes()).with_id(self.next)
    }
}
