//! Messages that wait for the link, oldest first. Bounded: what finds no room is left out by its
//! caller, and counted.

use std::collections::VecDeque;

use rumqttc::QoS;

/// Answers and statuses a device may have waiting.
const OTHERS_A_DEVICE: usize = 4;

/// A message on its way to the broker.
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// A telemetry message (and not the second copy that a fault made).
    pub(crate) telemetry: bool,
    /// Its number, where the fleet numbers its telemetry.
    pub(crate) seq: Option<u64>,
    /// A status: a newer one takes its place.
    pub(crate) status: bool,
    /// Its place in the order of speaking.
    pub(super) place: u64,
}

impl Message {
    pub(crate) fn new(topic: &str, payload: Vec<u8>, qos: QoS) -> Self {
        let topic = topic.to_owned();
        Self { topic, payload, qos, retain: false, telemetry: false, seq: None, status: false, place: 0 }
    }

    /// The same bytes once more, which nobody counts.
    pub(crate) fn copy(&self) -> Self {
        Self::new(&self.topic, self.payload.clone(), self.qos)
    }
}

/// See the module.
pub(crate) struct Outbox {
    waiting: VecDeque<Message>,
    most: usize,
    next_place: u64,
}

impl Outbox {
    /// For a connection with this window and so many devices.
    pub(crate) fn new(window: u16, devices: usize) -> Self {
        Self { waiting: VecDeque::new(), most: 4 * usize::from(window) + OTHERS_A_DEVICE * devices, next_place: 0 }
    }

    /// Takes a message, where there is room.
    pub(crate) fn push(&mut self, message: Message) -> bool {
        if self.waiting.len() >= self.most {
            return false;
        }
        self.next_place += 1;
        self.waiting.push_back(Message { place: self.next_place, ..message });
        true
    }

    /// The oldest one.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    /// One that was popped and did not get through; it has its place already.
    pub(crate) fn put_back(&mut self, message: Message) {
        self.waiting.push_front(message);
    }

    /// Into the order of speaking, after many were put back in any order.
    pub(crate) fn sort(&mut self) {
        self.waiting.make_contiguous().sort_by_key(|message| message.place);
    }

    /// A status that never left says nothing any more when a newer one comes.
    pub(crate) fn drop_statuses(&mut self) {
        self.waiting.retain(|message| !message.status);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_the_order_of_speaking() {
        let mut outbox = Outbox::new(1, 1);
        let message = |topic: &str| Message::new(topic, Vec::new(), QoS::AtLeastOnce);
        for n in 0..8 {
            assert!(outbox.push(Message { status: n == 2, ..message(&n.to_string()) }));
        }
        assert!(!outbox.push(message("one too many")));
        let (first, second) = (outbox.pop().unwrap(), outbox.pop().unwrap());
        outbox.put_back(first);
        outbox.put_back(second);
        outbox.sort();
        outbox.drop_statuses();
        let topics: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|message| message.topic).collect();
        assert_eq!(topics, ["0", "1", "3", "4", "5", "6", "7"]);
    }
}
