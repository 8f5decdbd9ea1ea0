//! The connection to the broker: reads messages, queues them for ingest and publishes to devices.
//!
//! Backpressure: when the queue is full, the link stops reading, TCP slows the broker down, and the broker keeps the
//! rest. The task awaits only the broker and space in the queue, so pings leave in time.

mod close;
mod intake;
mod reconnect;
mod send_half;
mod session_losses;
mod subscription;

use std::collections::VecDeque;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::acks::PubAcks;
use super::bypass::{Arrived, Bypass, Connector, PublishPacket};
use super::options::{self, OUTGOING_IN_FLIGHT, TlsFileError};
use super::probe::probe;
use super::publish::Publisher;
use super::received_message::BrokerEvent;
use crate::clock::Clock;
use crate::latch::Latch;
use crate::metrics::Metrics;
use crate::settings::MqttSettings;
use crate::traces::Traces;
use intake::{Arrival, Intake, Stalled};
use reconnect::Reconnect;
use send_half::SendHalf;
use session_losses::SessionLosses;
use subscription::SubscribeRetry;

/// Requests that wait in the client: one for each of our publishes, and some for subscriptions.
const CLIENT_QUEUE: usize = OUTGOING_IN_FLIGHT as usize + 16;

/// The task that owns the connection to the broker.
///
/// Each connection has a client of its own. A message that waited in the client of a lost connection is dropped with
/// it, because its expiry may pass before the next connection; the outbox publishes it again.
pub struct Link {
    /// With the client id of the session.
    settings: MqttSettings,
    /// This server's own client id, where it continues the session of another one.
    own_client_id: Option<String>,
    metrics: Metrics,
    traces: Traces,
    clock: Clock,
    /// Has the TLS files as they were read last.
    connector: Connector,
    events: EventLoop,
    /// Messages that are not queued yet.
    received: VecDeque<PublishPacket>,
    send_half: SendHalf,
    intake: Intake,
    losses: SessionLosses,
    subscribe_retry: SubscribeRetry,
    reconnect: Reconnect,
    /// Set unless a connection was lost and the writer has yet to ask the database whether this server still ingests.
    verified: Latch,
    unverified: watch::Sender<Latch>,
    /// Until the first connection: the broker has to discard the session that it has.
    starts_clean: bool,
}

/// The session at the broker that a link uses.
#[derive(Debug, Clone)]
pub struct LinkSession {
    pub client_id: String,
    /// Whether the broker has to discard what it holds in it.
    pub starts_clean: bool,
}

/// The ends of the link's channels.
pub struct LinkHandles {
    pub events: mpsc::Receiver<BrokerEvent>,
    pub acks: PubAcks,
    /// Whether the link is up and subscribed.
    pub connected: watch::Receiver<bool>,
    /// Takes the number of the last lost session that ingest has recorded, see
    /// [`SessionLoss`](super::SessionLoss::number).
    pub recorded_losses: watch::Sender<u64>,
    /// The latch to set once the database confirms that this server still ingests: the link connects again only then.
    pub unverified: watch::Receiver<Latch>,
    /// Set when the broker has refused the client id for some time, and accepts this server's own.
    pub refused: Latch,
    /// Set when another client has taken over the session.
    pub taken_over: Latch,
}

impl Link {
    /// Prepares the link for a session; [`Link::run`] connects. The publisher sends by the last link that was made.
    pub fn new(
        mut settings: MqttSettings,
        session: LinkSession,
        publisher: &Publisher,
        clock: Clock,
        metrics: Metrics,
        traces: Traces,
    ) -> Result<(Self, LinkHandles), TlsFileError> {
        let LinkSession { client_id, starts_clean } = session;
        let own = std::mem::replace(&mut settings.client_id, client_id);
        let own_client_id = (own != settings.client_id).then_some(own);
        let bypass = Bypass::new(metrics.clone(), traces.clone());
        let tls = options::tls(&settings)?;
        let connector = Connector { broker: settings.broker.clone(), tls, bypass: bypass.clone() };
        let (client, events) = client(options::link(&settings, connector.clone(), starts_clean));
        let (send_half, connected) = SendHalf::new(client, bypass, publisher.active_client(), metrics.clone());
        let (intake, received) = Intake::new(settings.prefix.clone(), clock.clone(), metrics.clone(), traces.clone());
        let (losses, recorded_losses) = SessionLosses::new(publisher.active_client().session_losses(), clock.now());
        let reconnect = Reconnect::default();
        let (acks, refused, taken_over) = (send_half.acks(), reconnect.refused(), reconnect.taken_over());
        let verified = Latch::default();
        verified.set();
        let (unverified, to_verify) = watch::channel(verified.clone());
        let handles = LinkHandles {
            events: received,
            acks,
            connected,
            recorded_losses,
            unverified: to_verify,
            refused,
            taken_over,
        };
        let link = Self {
            settings,
            own_client_id,
            metrics,
            traces,
            clock,
            connector,
            events,
            received: VecDeque::new(),
            send_half,
            intake,
            losses,
            subscribe_retry: SubscribeRetry::default(),
            reconnect,
            verified,
            unverified,
            starts_clean,
        };
        Ok((link, handles))
    }

    /// Keeps the link up until `stop`. Then ends a shared subscription if it `may_leave` the group, waits until the writer has
    /// `drained` the queue, sends the last acknowledgements and disconnects.
    pub async fn run(mut self, stop: CancellationToken, drained: Latch, may_leave: impl AsyncFnOnce() -> bool) {
        stop.run_until_cancelled(async {
            loop {
                self.step().await;
            }
        })
        .await;
        Box::pin(self.close_gracefully(drained, may_leave)).await;
    }

    async fn step(&mut self) {
        self.verified.wait().await;
        tokio::select! {
            biased;
            () = self.losses.recovered() => self.on_session_recovered(),
            () = self.send_half.puback_timed_out() => {
                tracing::warn!("the broker did not confirm a message in time: opening another connection");
                self.disconnect();
            }
            () = self.subscribe_retry.due() => self.subscribe(),
            arrived = self.connector.bypass.receive(&mut self.events) => self.on_arrived(arrived).await,
        }
    }

    async fn on_arrived(&mut self, arrived: Arrived) {
        self.received = arrived.packets.into();
        let arrival = self.intake.arrival();
        while let Some(packet) = self.received.pop_front() {
            if let Err(Stalled) = self.on_publish(packet, arrival).await {
                return self.on_stalled(arrived.event).await;
            }
        }
        match arrived.event {
            Some(event) => self.on_event(event).await,
            // The broker sends message by message. Reading each as it comes costs more than storing it.
            None if self.intake.has_batch() => self.connector.bypass.pause_reading(),
            None => {}
        }
    }

    async fn on_stalled(&mut self, event: Option<Result<Event, ConnectionError>>) {
        tracing::warn!("ingest has stalled: disconnecting, the broker keeps messages until the queue is half empty");
        match event {
            Some(Err(error)) => self.on_connection_lost(&error).await,
            _ => self.disconnect(),
        }
        self.intake.half_empty().await;
    }

    async fn on_publish(&mut self, packet: PublishPacket, arrival: Arrival) -> Result<(), Stalled> {
        if is_of_broker(&packet) {
            self.record_broker_state(&packet.topic, &packet.payload);
            return Ok(());
        }
        self.intake.accept(packet, &self.send_half, arrival).await
    }

    async fn on_event(&mut self, event: Result<Event, ConnectionError>) {
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(connack))) => self.on_connected(connack.session_present).await,
            Ok(Event::Incoming(Incoming::SubAck(suback))) => self.on_subscribed(&suback.return_codes),
            Ok(Event::Incoming(Incoming::UnsubAck(_))) => self.on_up(),
            Ok(Event::Incoming(Incoming::Publish(_))) => {
                tracing::error!(
                    "the broker sends a message with QoS 2, which was not granted: end the session at the broker"
                );
                self.metrics.mqtt_connection_errors.inc();
                self.disconnect();
                sleep(reconnect::MAX_PAUSE).await;
            }
            Ok(_) => {}
            Err(error) => self.on_connection_lost(&error).await,
        }
    }

    async fn on_connected(&mut self, session_present: bool) {
        self.starts_clean = false;
        self.reconnect.accepted();
        if !session_present {
            self.metrics.mqtt_sessions_lost.inc();
            let loss = self.losses.add();
            self.intake.send(BrokerEvent::SessionLost(loss)).await;
        }
        // A new session delivers nothing before the subscription. Before ingest has dropped the packet ids of the lost
        // one, new messages could be taken for redeliveries.
        if !self.losses.is_recovering() {
            self.on_session_recovered();
        }
    }

    fn on_session_recovered(&mut self) {
        self.send_half.set_session_losses(self.losses.count());
        self.subscribe();
    }

    async fn on_connection_lost(&mut self, error: &ConnectionError) {
        self.disconnect();
        self.metrics.mqtt_connection_errors.inc();
        self.reconnect.failed(error, &self.settings.client_id);
        if self.reconnect.is_refused_for_long() && self.accepts_own_client_id().await {
            // Unless the next attempt succeeds, the client id is the reason, and not the account.
            return self.reconnect.own_id_accepted();
        }
        self.reconnect.wait().await;
    }

    /// Whether the broker accepts this server under its own client id, where the link uses another one.
    async fn accepts_own_client_id(&mut self) -> bool {
        match &self.own_client_id {
            Some(own) => probe(&MqttSettings { client_id: own.clone(), ..self.settings.clone() }).await.is_ok(),
            None => false,
        }
    }

    /// Drops the connection and every message that waits in its client.
    fn disconnect(&mut self) {
        if self.settings.shared_group.is_none() && self.send_half.is_connected() {
            // The server that ingests now may have taken over the session, because this one has lost its locks. Connecting again
            // would take it back, and each would end the other's connection. Before `set_connected`, which wakes the writer.
            self.verified = Latch::default();
            self.unverified.send_replace(self.verified.clone());
        }
        if self.send_half.set_connected(false) {
            // After `set_connected`: what is recorded as published by this time was published on this connection.
            self.losses.last_connected_at = self.clock.now();
        }
        self.subscribe_retry.cancel();
        self.received.clear();
        self.connector.bypass = Bypass::new(self.metrics.clone(), self.traces.clone());
        match options::tls(&self.settings) {
            Ok(tls) => self.connector.tls = tls,
            Err(error) => tracing::error!(%error, "can't read the TLS files again: using those read before"),
        }
        let (client, events) = client(options::link(&self.settings, self.connector.clone(), self.starts_clean));
        self.events = events;
        self.send_half.replace_client(client, self.connector.bypass.clone());
    }
}

/// Whether the broker reports about itself.
fn is_of_broker(packet: &PublishPacket) -> bool {
    packet.topic.starts_with(b"$SYS/")
}

fn client(options: MqttOptions) -> (AsyncClient, EventLoop) {
    AsyncClient::builder(options).capacity(CLIENT_QUEUE).build()
}
