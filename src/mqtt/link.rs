//! The link to the broker: polls packets, reads them, hands them on through a bounded queue.
//!
//! When the queue is full, reading stops and TCP pushes back on the broker, which keeps the rest.
//! Nothing but `poll` and a place in the queue is ever awaited here.

mod subscription;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rumqttc::{
    AsyncClient, ConnectionError, DisconnectReasonCode, Event, EventLoop, Incoming, MqttOptions, Publish, StateError,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Generation};
use super::delivery::{BrokerEvent, Delivery, Packet, SessionLoss, digest};
use super::options::{self, KEEP_ALIVE_S, OUTGOING_IN_FLIGHT, TlsFileError};
use super::payload::{self, Content};
use super::publish::{ActiveClient, Publisher};
use super::rejection::Rejection;
use super::topic::ReceivedTopic;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::MqttSettings;

/// Messages waiting for the writer.
const QUEUE_MESSAGES: usize = 8_192;
/// Bytes of memory that messages waiting for the writer take.
const QUEUE_BYTES: usize = 16 << 20;
/// Longest wait for a place in the queue before the link is let go: pings must be answered within
/// the keep-alive. The session stays, and so does everything in it.
const MAX_STALL: Duration = Duration::from_secs(KEEP_ALIVE_S as u64 / 2);
/// Longest delay of a message that must not leave after its time; its last second is never used.
const MAX_DELAY: Duration = Duration::from_millis(500);
/// One for each packet id of the protocol, one for each message of ours and some for subscriptions: an
/// acknowledgement always finds a place.
const CLIENT_QUEUE: usize = 65_535 + OUTGOING_IN_FLIGHT as usize + 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the writer to drain the queue at the stop.
const DRAIN: Duration = Duration::from_secs(6);
/// Longest wait for our last acknowledgements and DISCONNECT to leave at the stop.
const GOODBYE: Duration = Duration::from_secs(2);

/// Whether the broker let us go because somebody else came with our client id.
fn is_taken_over(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        })
    )
}

/// The running connection's owner. Each connection has a client of its own, so that nothing which waited
/// in one for the broker can leave by the next, its time passed: what was not confirmed is known to the
/// database and goes again from there.
pub struct Link {
    client: AsyncClient,
    events: EventLoop,
    options: MqttOptions,
    acks: Acks,
    active: ActiveClient,
    generation: Generation,
    queue: mpsc::Sender<BrokerEvent>,
    space: Arc<Semaphore>,
    connected: watch::Sender<bool>,
    settings: MqttSettings,
    clock: Clock,
    metrics: Metrics,
    last_received: DateTime<Utc>,
    /// Since when the broker may have lost what it was given.
    last_up: DateTime<Utc>,
    /// Sessions that turned out to be lost, and how many of them are acknowledged_losses for good.
    session_losses: u64,
    acknowledged_losses: watch::Receiver<u64>,
    /// When a refused subscription is asked for again.
    subscribe_at: Option<Instant>,
    backoff: Duration,
    /// Why the last attempt failed, so that a long outage is logged once.
    last_error: Option<String>,
}

/// The link's other end.
pub struct LinkHandles {
    /// What comes from the broker.
    pub deliveries: mpsc::Receiver<BrokerEvent>,
    /// How to acknowledge it.
    pub acks: Acks,
    /// Whether the link is up and subscribed.
    pub connected: watch::Receiver<bool>,
    /// To be told the number of the last lost session that is acknowledged_losses for good.
    pub acknowledged_losses: watch::Sender<u64>,
    /// Reaches devices.
    pub publisher: Publisher,
}

impl Link {
    /// Prepares the link; nothing is sent before [`Link::run`].
    pub fn new(settings: MqttSettings, clock: Clock, metrics: Metrics) -> Result<(Self, LinkHandles), TlsFileError> {
        let options = options::resuming(&settings)?;
        let (client, events) = AsyncClient::builder(options.clone()).capacity(CLIENT_QUEUE).build();
        let acks = Acks::new(client.clone());
        let (queue, deliveries) = mpsc::channel(QUEUE_MESSAGES);
        let (connected, watched) = watch::channel(false);
        let (acknowledged_losses, acknowledged) = watch::channel(0);
        let publisher = Publisher::new(settings.prefix.clone(), clock.clone(), metrics.clone());
        let active = publisher.active();
        let ends = LinkHandles { deliveries, acks: acks.clone(), connected: watched, acknowledged_losses, publisher };
        let link = Self {
            client,
            events,
            options,
            acks,
            active,
            generation: 0,
            queue,
            space: Arc::new(Semaphore::new(QUEUE_BYTES)),
            connected,
            settings,
            last_up: clock.now(),
            clock,
            metrics,
            last_received: DateTime::UNIX_EPOCH,
            session_losses: 0,
            acknowledged_losses: acknowledged,
            subscribe_at: None,
            backoff: BACKOFF_FIRST,
            last_error: None,
        };
        Ok((link, ends))
    }

    /// Keeps the link up until `stop`; then lets the writer drain the queue until it says `drained`,
    /// sends its last acknowledgements and says goodbye.
    pub async fn run(mut self, stop: CancellationToken, drained: CancellationToken) {
        loop {
            let (subscribe_at, is_recovering) = (self.subscribe_at, self.is_recovering());
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = self.acknowledged_losses.changed(), if is_recovering => {
                    // An older loss than the last says nothing of the present session.
                    if !self.is_recovering() {
                        self.active.set_session_losses(self.session_losses);
                        self.subscribe();
                    }
                    continue;
                }
                () = self.active.ack_timed_out() => {
                    tracing::warn!("the broker does not confirm what it is sent: trying another connection");
                    self.disconnect();
                    continue;
                }
                () = sleep_until(subscribe_at.unwrap_or_else(Instant::now)), if subscribe_at.is_some() => {
                    self.subscribe();
                    continue;
                }
                event = self.events.poll() => event,
            };
            match event {
                Ok(Event::Incoming(Incoming::Publish(publish))) if publish.topic.starts_with(b"$SYS/") => {
                    self.note_clients(&publish.payload);
                }
                Ok(Event::Incoming(Incoming::Publish(publish))) => {
                    let enqueued = tokio::select! {
                        () = stop.cancelled() => break,
                        enqueued = self.enqueue(publish) => enqueued,
                    };
                    if !enqueued {
                        self.disconnect();
                        tracing::warn!("storing has stalled: let the broker keep its messages meanwhile");
                        let room = self.queue.clone();
                        tokio::select! {
                            () = stop.cancelled() => break,
                            _ = room.reserve_many(QUEUE_MESSAGES / 2) => {}
                        }
                    }
                }
                Ok(Event::Incoming(Incoming::ConnAck(connack))) => {
                    // The client has its session now and keeps it in memory over reconnects.
                    if let Ok(options) = options::build(&self.settings) {
                        self.events.options = options;
                    }
                    if !connack.session_present {
                        self.metrics.mqtt_sessions_lost.inc();
                        self.session_losses += 1;
                        let loss = SessionLoss { number: self.session_losses, before: self.last_up };
                        tokio::select! {
                            () = stop.cancelled() => break,
                            _ = self.queue.send(BrokerEvent::SessionLost(loss)) => {}
                        }
                    }
                    // In a new session nothing may come before the old one's packet ids are acknowledged_losses:
                    // after a crash they would stand for messages that never were.
                    if !self.is_recovering() {
                        self.subscribe();
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(suback))) => self.subscribed(&suback.return_codes),
                Ok(_) => {}
                Err(error) => {
                    self.disconnect();
                    self.metrics.mqtt_connection_errors.inc();
                    self.log_loss(&error.to_string());
                    if is_taken_over(&error) {
                        // Another server with our client id: to fight for the session would lose both of us.
                        tracing::error!(client_id = %self.settings.client_id, "another client uses our MQTT_CLIENT_ID");
                        self.backoff = BACKOFF_MAX;
                    }
                    let pause = self.backoff.mul_f64(0.5 + fastrand::f64());
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
        self.close_gracefully(drained).await;
    }

    /// Whether what we know of a lost session is still to be acknowledged_losses.
    fn is_recovering(&self) -> bool {
        *self.acknowledged_losses.borrow() < self.session_losses
    }

    /// Drops the connection, and with it everything that is still to go by it.
    fn disconnect(&mut self) {
        let was_up = *self.connected.borrow();
        self.set_connected(false);
        if was_up {
            // After the line before: what is recorded as sent by then was sent by this connection.
            self.last_up = self.clock.now();
        }
        self.subscribe_at = None;
        match options::resuming(&self.settings) {
            Ok(options) => self.options = options,
            Err(error) => tracing::error!(%error, "going on with the certificates read before"),
        }
        let (client, events) = AsyncClient::builder(self.options.clone()).capacity(CLIENT_QUEUE).build();
        (self.client, self.events) = (client, events);
        self.generation = self.acks.next_generation(self.client.clone());
    }

    fn log_loss(&mut self, error: &str) {
        if self.last_error.as_deref() != Some(error) {
            tracing::warn!(error, "no link to the MQTT broker; trying again");
            self.last_error = Some(error.to_owned());
        }
    }

    fn set_connected(&self, up: bool) {
        self.active.set(up.then(|| self.client.clone()));
        self.connected.send_replace(up);
        self.metrics.mqtt_connected.set(i64::from(up));
    }

    /// Waits for a place in the queue; `None` where the link is better let go. Nothing leaves meanwhile: so
    /// nothing is taken that is to leave, and what is in the client must not leave after its time.
    fn wait<T>(&self, place: impl Future<Output = T> + Send) -> impl Future<Output = Option<T>> + Send {
        self.metrics.ingest_queue_full.inc();
        self.active.pause_publishing();
        let active = self.active.clone();
        let client = self.connected.borrow().then(|| self.client.clone());
        let began = Instant::now();
        async move {
            let place = timeout(MAX_STALL, place).await.ok()?;
            if began.elapsed() > MAX_DELAY && active.has_expiring_message() {
                return None;
            }
            if let Some(client) = client {
                active.resume_publishing(client);
            }
            Some(place)
        }
    }

    /// Reads a message and waits for its place in the queue; false when there was none in time.
    async fn enqueue(&mut self, publish: Publish) -> bool {
        let now = self.clock.now();
        let next = self.last_received + TimeDelta::microseconds(1);
        // A clock that was set back is followed; only its small steps are smoothed.
        self.last_received = if next - now > TimeDelta::seconds(1) { now } else { now.max(next) };
        let received_at = self.last_received;
        let topic = ReceivedTopic::read(&self.settings.prefix, publish.topic.clone());
        let content = topic
            .kind()
            .ok_or(Rejection::BadTopic)
            .and_then(|kind| payload::parse(kind, &publish.payload, received_at));
        // What it takes in memory, not on the wire: read, a message may be many times its text.
        let size = (publish.payload.len() + publish.topic.len()).clamp(256, 2 * payload::MAX_PAYLOAD_BYTES)
            + content.as_ref().map_or(0, Content::held);
        let size = u32::try_from(size).expect("bounded");
        let space = match self.space.clone().try_acquire_many_owned(size) {
            Ok(space) => space,
            Err(_) => match self.wait(self.space.clone().acquire_many_owned(size)).await {
                Some(space) => space.expect("never closed"),
                None => return false,
            },
        };
        let place = match self.queue.try_reserve() {
            Ok(place) => place,
            Err(_) => match self.wait(self.queue.reserve()).await {
                Some(Ok(place)) => place,
                // The writer is gone: so are we, soon.
                Some(Err(_)) | None => return false,
            },
        };
        self.metrics.mqtt_received.inc();
        let receipt = Acks::receipt(&self.client, self.generation, &publish);
        let payload_digest = digest(&[&publish.payload]);
        let packet = (publish.pkid != 0).then(|| Packet {
            id: publish.pkid,
            is_redelivery: publish.dup,
            message_digest: digest(&[&publish.topic, &payload_digest.to_le_bytes()]),
        });
        // Of what can't be used a preview is all that is ever looked at; a slice would hold all of it.
        let (topic, payload) = match &content {
            Ok(_) => (topic, publish.payload),
            Err(_) => {
                let preview = &publish.payload[..publish.payload.len().min(super::PREVIEW_BYTES)];
                (topic.detach(), Bytes::copy_from_slice(preview))
            }
        };
        place.send(BrokerEvent::Message(Box::new(Delivery {
            topic,
            payload,
            content,
            received_at,
            retained: publish.retain,
            payload_digest,
            packet,
            receipt,
            _queue_bytes: space,
        })));
        true
    }

    /// The writer sees the queue's end, commits what it has and says so; until then its
    /// acknowledgements still go out. What the broker sends meanwhile is left to the next life.
    async fn close_gracefully(self, drained: CancellationToken) {
        self.set_connected(false);
        let Self { client, mut events, queue, .. } = self;
        drop(queue);
        let _ = timeout(DRAIN, async {
            while !drained.is_cancelled() {
                tokio::select! {
                    () = drained.cancelled() => {}
                    event = events.poll() => if event.is_err() { break },
                }
            }
        })
        .await;
        if client.try_disconnect().is_ok() {
            let _ = timeout(GOODBYE, async { while events.poll().await.is_ok() {} }).await;
        }
    }
}
