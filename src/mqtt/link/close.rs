//! The orderly end of a connection.

use std::time::Duration;

use rumqttc::{Event, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Link, is_of_broker};
use crate::latch::Latch;
use crate::mqtt::bypass::{Connector, PublishPacket};

/// Longest wait at shutdown until the writer has drained the queue.
const DRAIN: Duration = Duration::from_secs(6);
/// Part of it for the end of a shared subscription.
const LEAVE: Duration = Duration::from_secs(4);
/// Longest wait for the broker's UNSUBACK.
const UNSUBACK: Duration = Duration::from_secs(2);
/// Longest wait at shutdown until the last acknowledgements and DISCONNECT have left.
const DISCONNECT: Duration = Duration::from_secs(2);

impl Link {
    /// Closes the queue, waits for the writer's last commit and sends its acknowledgements. The broker delivers
    /// messages that arrive meanwhile to the next process, or to other members of the group.
    pub(super) async fn close_gracefully(mut self, drained: Latch, may_leave: impl AsyncFnOnce() -> bool) {
        let was_connected = self.send_half.set_connected(false);
        self.verified.set();
        let deadline = Instant::now() + DRAIN;
        if self.settings.shared_group.is_some() {
            let left = timeout(LEAVE, async {
                match was_connected {
                    true if may_leave().await => self.leave_group().await,
                    true => Some(()),
                    false => None,
                }
            });
            if left.await.ok().flatten().is_none() {
                let client_id = &self.settings.client_id;
                tracing::warn!(
                    client_id,
                    was_connected,
                    "the shared subscription could not be ended; its messages wait in this session at the broker"
                );
            }
        }
        let Self { send_half, mut events, connector: Connector { bypass, .. }, intake, .. } = self;
        drop(intake);
        let _ = timeout_at(deadline, async {
            while !drained.is_set() {
                tokio::select! {
                    () = drained.wait() => {}
                    // A poll without a connection would open one.
                    arrived = bypass.receive(&mut events), if was_connected => if arrived.is_lost() { break },
                }
            }
        })
        .await;
        if was_connected && send_half.client().try_disconnect().is_ok() {
            let _ = timeout(DISCONNECT, async { while !bypass.receive(&mut events).await.is_lost() {} }).await;
        }
    }

    /// Ends the shared subscription. Brokers assign its messages to sessions, also to those that are not connected, and give
    /// them to no other one. So this also waits for those that are assigned to this session already. `None` if that failed.
    async fn leave_group(&mut self) -> Option<()> {
        loop {
            let was_idle = self.intake.is_idle();
            // What the broker has sent before its answer arrives before it. It sends queued messages when others are
            // acknowledged: so after the acknowledgement of everything, a round trip without a message is the end.
            let n_received = timeout(UNSUBACK, self.unsubscribe()).await.ok()??;
            if was_idle && n_received == 0 {
                return Some(());
            }
            self.until_stored().await?;
        }
    }

    /// Unsubscribes; returns the number of messages that arrived before the broker's answer.
    async fn unsubscribe(&mut self) -> Option<usize> {
        let filters = self.uplink_filters();
        self.send_half.client().try_unsubscribe_many(filters).ok()?;
        let mut n_received = 0;
        loop {
            let arrived = self.connector.bypass.receive(&mut self.events).await;
            n_received += self.take(arrived.packets).await?;
            if let Some(Event::Incoming(Incoming::UnsubAck(_))) = arrived.event.transpose().ok()? {
                return Some(n_received);
            }
        }
    }

    /// Waits until every message that was received is stored, and takes further ones.
    async fn until_stored(&mut self) -> Option<()> {
        loop {
            let arrived = tokio::select! {
                () = self.intake.idle() => return Some(()),
                arrived = self.connector.bypass.receive(&mut self.events) => arrived,
            };
            self.take(arrived.packets).await?;
            arrived.event.transpose().ok()?;
        }
    }

    /// Queues messages of devices, those before the stop first; returns how many. Those of the broker do not count.
    async fn take(&mut self, packets: Vec<PublishPacket>) -> Option<usize> {
        self.received.extend(packets);
        let (mut n_taken, arrival) = (0, self.intake.arrival());
        while let Some(packet) = self.received.pop_front() {
            n_taken += usize::from(!is_of_broker(&packet));
            self.on_publish(packet, arrival).await.ok()?;
        }
        Some(n_taken)
    }
}
