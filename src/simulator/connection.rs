//! One MQTT connection and the devices it carries: connects, speaks, answers, comes back.
//!
//! A message of QoS 1 or 2 is forgotten only when the broker confirmed it; what a broken link left
//! unconfirmed goes again. While there is no link nothing is measured, as in the seed's sketch.

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

use super::device::Device;
use super::faults::Dice;
use super::fleet::Shared;
use super::link::{self, Heard};
use super::outbox::{Message, Outbox};
use super::report::count;
use super::schedule::Schedule;
use super::waiting::WaitingAnswers;

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(20);
/// What was heard and not yet answered.
const HEARD_CAPACITY: usize = 64;
/// Filters in one SUBSCRIBE; brokers bound the packet.
const FILTERS_A_PACKET: usize = 100;
/// How long a goodbye may wait for confirmations.
const GOODBYE: Duration = Duration::from_secs(5);

/// A message the client has, and what will become of it.
pub(crate) type OnTheWay = BoxFuture<'static, (Message, Result<(), PublishNoticeError>)>;

/// Why a link ended.
enum End {
    /// The fleet is done.
    Goodbye,
    /// The broker or the network broke it.
    Lost,
    /// A fault cut it.
    Cut,
}

/// See the module.
pub(crate) struct Connection {
    pub(crate) devices: Vec<Device>,
    pub(crate) schedule: Schedule,
    pub(crate) options: MqttOptions,
    pub(crate) dice: Dice,
    pub(crate) rng: fastrand::Rng,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: Outbox,
    pub(crate) waiting: WaitingAnswers,
    /// A fleet does not knock in one instant: brokers have a short queue at the door.
    pub(crate) first_connect_after: Duration,
}

impl Connection {
    /// Runs until the fleet stops or has sent what it was to send.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(self.first_connect_after) => {}
        }
        while !stop.is_cancelled() {
            let (end, was_up) = self.live(&stop).await;
            if matches!(end, End::Goodbye) {
                return;
            }
            count(&self.shared.counters.disconnects, 1);
            if was_up {
                back_off = FIRST_BACK_OFF;
            }
            // Jitter: a fleet that lost its broker must not come back in one instant.
            let pause = back_off.mul_f64(0.5 + self.rng.f64());
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One link, from CONNECT to its end.
    async fn live(&mut self, stop: &CancellationToken) -> (End, bool) {
        let packets = self.devices.len() * 2 / FILTERS_A_PACKET + 1;
        let window = usize::from(self.shared.config.window);
        let (client, poll) = AsyncClient::builder(self.options.clone()).capacity(window + packets + 1).build();
        let (tx, mut heard) = mpsc::channel(HEARD_CAPACITY);
        let task = AbortOnDropHandle::new(tokio::spawn(link::poll(poll, tx)));

        let up = tokio::select! {
            () = stop.cancelled() => return (End::Goodbye, false),
            news = heard.recv() => news,
        };
        if !matches!(up, Some(Heard::Connected)) {
            if let Some(Heard::Lost(reason)) = up {
                tracing::debug!(reason, "a simulated device could not connect");
            }
            return (End::Lost, false);
        }
        count(&self.shared.counters.connects, 1);
        let cut_at = self.dice.link_life().map(|life| Instant::now() + life);
        self.subscribe(&client);
        self.announce(true);
        self.schedule.start(Instant::now());

        let mut on_the_way = FuturesUnordered::new();
        let end = loop {
            self.speak_when_flooding(on_the_way.len() + self.outbox.len());
            self.hand_over(&client, &mut on_the_way);
            if self.shared.is_spent() && self.outbox.is_empty() && on_the_way.is_empty() {
                break End::Goodbye;
            }
            let due = self.schedule.next();
            let answer_due = self.waiting.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Goodbye,
                () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => break End::Cut,
                news = heard.recv() => match news {
                    Some(Heard::Message { topic, payload }) => self.hear(&topic, &payload),
                    Some(Heard::Connected) => {}
                    Some(Heard::Lost(reason)) => {
                        tracing::debug!(reason, "a simulated device lost its link");
                        break End::Lost;
                    }
                    None => break End::Lost,
                },
                Some((message, result)) = on_the_way.next(), if !on_the_way.is_empty() => self.settle(message, &result),
                () = sleep_until(answer_due.unwrap_or_else(Instant::now)), if answer_due.is_some() => {
                    self.say_what_is_due();
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.speak(on_the_way.len());
                }
            }
        };
        if matches!(end, End::Goodbye) {
            self.say_goodbye(&client, on_the_way, heard).await;
            return (end, true);
        }
        // Without the polling task every confirmation that is still awaited fails, at once.
        drop(task);
        // What the client took the broker counts as delivered.
        while let Ok(Heard::Message { topic, payload }) = heard.try_recv() {
            self.hear(&topic, &payload);
        }
        drop(client);
        while let Some((message, result)) = on_the_way.next().await {
            self.settle(message, &result);
        }
        self.outbox.sort();
        (end, true)
    }

    fn subscribe(&self, client: &AsyncClient) {
        for devices in self.devices.chunks(FILTERS_A_PACKET / 2) {
            let topics = devices.iter().flat_map(|device| [&device.topics.commands, &device.topics.config]);
            let filters = topics.map(|topic| SubscribeFilterInput::new(topic, QoS::AtLeastOnce));
            if let Err(error) = client.try_subscribe_many(filters) {
                tracing::warn!(%error, "a simulated device could not subscribe");
            }
        }
    }

    /// Says `online: false`, waits for the confirmations that are still due, and disconnects.
    async fn say_goodbye(
        &mut self,
        client: &AsyncClient,
        mut on_the_way: FuturesUnordered<OnTheWay>,
        mut heard: mpsc::Receiver<Heard>,
    ) {
        let deadline = Instant::now() + GOODBYE;
        self.announce(false);
        loop {
            self.hand_over(client, &mut on_the_way);
            if on_the_way.is_empty() {
                break;
            }
            tokio::select! {
                () = sleep_until(deadline) => return,
                Some((message, result)) = on_the_way.next() => self.settle(message, &result),
                // Commands and configurations come too late now, and answers that are not due are never said.
                news = heard.recv() => match news {
                    Some(Heard::Message { .. } | Heard::Connected) => {}
                    Some(Heard::Lost(_)) | None => return,
                },
            }
        }
        if client.disconnect_with_timeout(GOODBYE).await.is_ok() {
            // The polling task ends when the DISCONNECT is out.
            while let Ok(Some(_)) = timeout_at(deadline, heard.recv()).await {}
        }
    }
}
