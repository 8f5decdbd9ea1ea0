//! One MQTT connection and the devices it carries: connects, speaks, answers, comes back.
//!
//! A message of QoS 1 or 2 is forgotten only when the broker confirmed it; what a broken link left
//! unconfirmed goes again. While there is no link nothing is measured, as in the seed's sketch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rumqttc::{AsyncClient, MqttOptions, PublishNoticeError, PublishOptions, QoS, SubscribeFilterInput};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::device::Device;
use super::faults::Dice;
use super::fleet::Shared;
use super::link::{self, Heard};
use super::report::count;
use super::schedule::{Due, Schedule};

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(20);
/// What was heard and not yet answered.
const HEARD_CAPACITY: usize = 64;
/// Filters in one SUBSCRIBE; brokers bound the packet.
const FILTERS_A_PACKET: usize = 100;
/// How long a goodbye may wait for confirmations.
const GOODBYE: Duration = Duration::from_secs(5);

/// A message on its way to the broker.
struct Message {
    number: u64,
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    /// A telemetry message's own number, if it is one.
    seq: Option<u64>,
    telemetry: bool,
    /// The second copy a fault made.
    copy: bool,
}

/// A message the client has, and what will become of it.
type OnTheWay = BoxFuture<'static, (Message, Result<(), PublishNoticeError>)>;

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
}

/// Messages that wait for the link, oldest first. Bounded: readings are left out (and counted)
/// while it holds more than the window; status and answers are a few a device.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Message>,
    next_number: u64,
}

impl Outbox {
    fn push(&mut self, topic: &str, payload: Vec<u8>, qos: QoS) -> &mut Message {
        self.next_number += 1;
        self.waiting.push_back(Message {
            number: self.next_number,
            topic: topic.to_owned(),
            payload,
            qos,
            retain: false,
            seq: None,
            telemetry: false,
            copy: false,
        });
        self.waiting.back_mut().expect("just pushed")
    }
}

impl Connection {
    /// Runs until the fleet stops or has sent what it was to send.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut back_off = FIRST_BACK_OFF;
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
            self.speak_when_flooding(on_the_way.len() + self.outbox.waiting.len());
            self.hand_over(&client, &mut on_the_way);
            if self.shared.is_spent() && self.outbox.waiting.is_empty() && on_the_way.is_empty() {
                break End::Goodbye;
            }
            let due = self.schedule.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Goodbye,
                () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => break End::Cut,
                news = heard.recv() => match news {
                    Some(Heard::Message { topic, payload }) => self.answer(&topic, &payload),
                    Some(Heard::Connected) => {}
                    Some(Heard::Lost(reason)) => {
                        tracing::debug!(reason, "a simulated device lost its link");
                        break End::Lost;
                    }
                    None => break End::Lost,
                },
                Some((message, result)) = on_the_way.next(), if !on_the_way.is_empty() => self.settle(message, &result),
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
        drop(client);
        while let Some((message, result)) = on_the_way.next().await {
            self.settle(message, &result);
        }
        self.outbox.waiting.make_contiguous().sort_by_key(|message| message.number);
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

    fn announce(&mut self, online: bool) {
        let (now, retain) = (self.shared.config.clock.now(), self.shared.config.retain_status);
        for device in &self.devices {
            let payload = device.status(now, online);
            self.outbox.push(&device.topics.status, payload, QoS::AtLeastOnce).retain = retain;
            count(&self.shared.counters.other, 1);
        }
    }

    /// Sends what is due by the schedule.
    fn speak(&mut self, on_the_way: usize) {
        let now = Instant::now();
        let window = usize::from(self.shared.config.window);
        while let Some(due) = self.schedule.take(now) {
            match due {
                Due::Telemetry { device, interval } => {
                    if on_the_way + self.outbox.waiting.len() >= 2 * window {
                        count(&self.shared.counters.skipped, 1);
                    } else {
                        self.measure(device, interval);
                    }
                    self.schedule.set_sample_rate(device, self.devices[device].sample_rate());
                }
                Due::Heartbeat { device } => {
                    let device = &self.devices[device];
                    let payload = device.heartbeat(self.shared.config.clock.now());
                    self.outbox.push(&device.topics.heartbeat, payload, QoS::AtMostOnce);
                    count(&self.shared.counters.other, 1);
                }
            }
        }
    }

    /// Fills the window where there is no schedule.
    fn speak_when_flooding(&mut self, waiting: usize) {
        for _ in waiting..usize::from(self.shared.config.window) {
            let Some((device, interval)) = self.schedule.flood() else { return };
            if !self.measure(device, interval) {
                return;
            }
        }
    }

    /// Takes one reading; `false` when the fleet has sent all it was to send.
    fn measure(&mut self, device: usize, interval: Duration) -> bool {
        let Some(seq) = self.shared.take_number() else { return false };
        let config = &self.shared.config;
        let device = &mut self.devices[device];
        let payload = device.telemetry(config.clock.now(), interval, config.numbered.then_some(seq));
        count(&self.shared.counters.telemetry, 1);
        if device.dice.loses() {
            count(&self.shared.counters.lost, 1);
            return true;
        }
        let doubles = device.dice.doubles();
        if doubles {
            count(&self.shared.counters.doubled, 1);
            let copy = self.outbox.push(&device.topics.telemetry, payload.clone(), config.qos.into());
            copy.copy = true;
        }
        let message = self.outbox.push(&device.topics.telemetry, payload, config.qos.into());
        message.telemetry = true;
        message.seq = config.numbered.then_some(seq);
        true
    }

    /// Gives waiting messages to the client while the window has room. Never waits.
    fn hand_over(&mut self, client: &AsyncClient, on_the_way: &mut FuturesUnordered<OnTheWay>) {
        let window = usize::from(self.shared.config.window);
        while on_the_way.len() < window
            && let Some(message) = self.outbox.waiting.pop_front()
        {
            let options = PublishOptions::new(message.qos).retain(message.retain);
            match client.try_publish_tracked(message.topic.as_str(), message.payload.clone(), options) {
                Ok(notice) => {
                    if let Some(seq) = message.seq {
                        self.shared.ledger.mark_sent(seq);
                    }
                    on_the_way.push(notice.wait_completion_async().map(|result| (message, result)).boxed());
                }
                // The channel is as wide as the window; a link that is gone shows in what is heard.
                Err(_) => {
                    self.outbox.waiting.push_front(message);
                    return;
                }
            }
        }
    }

    /// Learns what became of a message.
    fn settle(&mut self, message: Message, result: &Result<(), PublishNoticeError>) {
        let counters = &self.shared.counters;
        match result {
            Ok(()) => {
                if message.telemetry {
                    count(&counters.confirmed, 1);
                }
                if let Some(seq) = message.seq {
                    self.shared.ledger.mark_confirmed(seq);
                }
            }
            Err(
                PublishNoticeError::V5PubAck(_)
                | PublishNoticeError::V5PubRec(_)
                | PublishNoticeError::V5PubComp(_)
                | PublishNoticeError::RetainNotSupported,
            ) => count(&counters.refused, 1),
            // Broken before it was confirmed. At QoS 0 nobody asks again.
            Err(_) if message.qos == QoS::AtMostOnce => {}
            Err(_) => {
                count(&counters.resent, 1);
                self.outbox.waiting.push_front(message);
            }
        }
    }

    fn answer(&mut self, topic: &str, payload: &[u8]) {
        let counters = &self.shared.counters;
        let now = self.shared.config.clock.now();
        let of_topic = |device: &Device| device.topics.commands == topic || device.topics.config == topic;
        let Some(index) = self.devices.iter().position(of_topic) else { return };
        let device = &mut self.devices[index];
        let answers = if device.topics.commands == topic {
            count(&counters.commands, 1);
            device.on_command(payload, now)
        } else {
            count(&counters.configs, 1);
            device.on_config(payload).into_iter().collect()
        };
        self.schedule.set_sample_rate(index, device.sample_rate());
        for answer in answers {
            self.outbox.push(&device.topics.ack, answer, QoS::AtLeastOnce);
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
                // Commands and configurations come too late now.
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
