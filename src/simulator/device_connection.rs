//! The MQTT connection of one device: connects, sends, answers, reconnects.
//!
//! A message of QoS 1 is done when the broker confirms it; messages that a broken connection left unconfirmed are
//! sent again. A disconnected device measures nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rumqttc::{AsyncClient, MqttOptions, PublishNoticeError, QoS, SubscribeFilterInput};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::client::{self, ClientEvent, MAX_IN_FLIGHT};
use super::command_events::ReceivedIds;
use super::delayed::DelayedAnswers;
use super::device::Device;
use super::outbox::{Message, Outbox};
use super::report::count;
use super::schedule::Schedule;
use super::shared::Shared;
use crate::backoff::Backoff;

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(20);
/// Received messages that are not processed yet.
const EVENT_CAPACITY: usize = 64;
/// Time for the last confirmations at a stop.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A message that the client has, and its outcome.
pub(crate) type InFlight = BoxFuture<'static, (Message, Result<(), PublishNoticeError>)>;

/// The reason why a connection ended.
enum End {
    Stopped,
    Lost,
    /// A fault broke it without a DISCONNECT.
    Cut,
}

pub(crate) struct DeviceConnection {
    pub(crate) device: Device,
    pub(crate) schedule: Schedule,
    pub(crate) options: MqttOptions,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: Outbox,
    pub(crate) delayed: DelayedAnswers,
    pub(crate) received_ids: ReceivedIds,
    /// The devices connect one after the other: a broker's accept queue is short.
    pub(crate) first_connect_after: Duration,
}

impl DeviceConnection {
    /// Runs until the fleet stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        let mut pause = self.first_connect_after;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            let (end, was_connected) = self.connect(&stop).await;
            if matches!(end, End::Stopped) {
                return;
            }
            count(&self.shared.counters.disconnects, 1);
            if was_connected {
                backoff.reset();
            }
            pause = backoff.next_delay();
        }
    }

    /// One connection from CONNECT to its end, and whether the broker accepted it.
    async fn connect(&mut self, stop: &CancellationToken) -> (End, bool) {
        // Room for every message in flight, the SUBSCRIBE and the DISCONNECT.
        let capacity = usize::from(MAX_IN_FLIGHT) + 2;
        let (client, event_loop) = AsyncClient::builder(self.options.clone()).capacity(capacity).build();
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let polling = AbortOnDropHandle::new(tokio::spawn(client::poll(event_loop, sender)));
        let first = tokio::select! {
            () = stop.cancelled() => return (End::Stopped, false),
            event = events.recv() => event,
        };
        if !matches!(first, Some(ClientEvent::Connected)) {
            if let Some(ClientEvent::Lost(reason)) = first {
                tracing::debug!(reason, "a simulated device could not connect");
            }
            return (End::Lost, false);
        }
        count(&self.shared.counters.connects, 1);
        self.subscribe(&client);
        self.publish_status(true);
        self.schedule.start(Instant::now());
        let mut in_flight = FuturesUnordered::new();
        let end = self.serve(stop, &client, &mut events, &mut in_flight).await;
        if matches!(end, End::Stopped) {
            self.disconnect(&client, in_flight, events).await;
            return (end, true);
        }
        // Without the polling task every awaited confirmation fails at once.
        drop(polling);
        // The broker counts as delivered what the client has received.
        while let Ok(ClientEvent::Received { topic, payload }) = events.try_recv() {
            self.receive(&topic, &payload);
        }
        drop(client);
        while let Some((message, result)) = in_flight.next().await {
            self.record_outcome(message, &result);
        }
        self.outbox.sort();
        (end, true)
    }

    /// Sends and receives until the connection ends.
    async fn serve(
        &mut self,
        stop: &CancellationToken,
        client: &AsyncClient,
        events: &mut mpsc::Receiver<ClientEvent>,
        in_flight: &mut FuturesUnordered<InFlight>,
    ) -> End {
        let cut_at = self.device.faults.connection_lifetime().map(|lifetime| Instant::now() + lifetime);
        loop {
            self.send_queued(client, in_flight);
            let (due, answer_due) = (self.schedule.next(), self.delayed.next());
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => return End::Cut,
                event = events.recv() => match event {
                    Some(ClientEvent::Received { topic, payload }) => self.receive(&topic, &payload),
                    Some(ClientEvent::Connected) => {}
                    Some(ClientEvent::Lost(reason)) => {
                        tracing::debug!(reason, "a simulated device lost its connection");
                        return End::Lost;
                    }
                    None => return End::Lost,
                },
                Some((message, result)) = in_flight.next(), if !in_flight.is_empty() => {
                    self.record_outcome(message, &result);
                }
                () = sleep_until(answer_due.unwrap_or_else(Instant::now)), if answer_due.is_some() => {
                    self.send_due_answers();
                }
                () = sleep_until(due) => self.publish_due(in_flight.len()),
            }
        }
    }

    fn subscribe(&self, client: &AsyncClient) {
        let topics = [&self.device.topics.commands, &self.device.topics.config];
        let filters = topics.map(|topic| SubscribeFilterInput::new(topic, QoS::AtLeastOnce));
        if let Err(error) = client.try_subscribe_many(filters) {
            tracing::warn!(%error, "a simulated device could not subscribe");
        }
    }

    /// Sends `online: false`, waits for the last confirmations, and disconnects.
    async fn disconnect(
        &mut self,
        client: &AsyncClient,
        mut in_flight: FuturesUnordered<InFlight>,
        mut events: mpsc::Receiver<ClientEvent>,
    ) {
        let deadline = Instant::now() + DISCONNECT_TIMEOUT;
        self.publish_status(false);
        loop {
            self.send_queued(client, &mut in_flight);
            if in_flight.is_empty() {
                break;
            }
            tokio::select! {
                () = sleep_until(deadline) => return,
                Some((message, result)) = in_flight.next() => self.record_outcome(message, &result),
                // Commands and configurations are ignored now, and delayed answers are dropped.
                event = events.recv() => match event {
                    Some(ClientEvent::Received { .. } | ClientEvent::Connected) => {}
                    Some(ClientEvent::Lost(_)) | None => return,
                },
            }
        }
        if client.disconnect_with_timeout(DISCONNECT_TIMEOUT).await.is_ok() {
            // The polling task ends when it has sent the DISCONNECT.
            while let Ok(Some(_)) = timeout_at(deadline, events.recv()).await {}
        }
    }
}
