//! The queue of messages in front of the MQTT client, oldest first. It is bounded: the caller drops and counts a
//! message that finds no room.

use std::collections::VecDeque;

use rumqttc::QoS;

use super::client::MAX_IN_FLIGHT;

/// Messages that a device may have queued.
const CAPACITY: usize = 4 * MAX_IN_FLIGHT as usize;

pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) content: Content,
    /// Its position in the order of pushing.
    position: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A reading; the second copy that a fault made is [`Content::Other`].
    Reading,
    /// A newer status replaces it.
    Status,
    Other,
}

impl Message {
    pub(crate) fn new(topic: &str, payload: Vec<u8>, qos: QoS, content: Content) -> Self {
        Self { topic: topic.to_owned(), payload, qos, content, position: 0 }
    }

    /// The same bytes again, not counted as a reading.
    pub(crate) fn duplicate(&self) -> Self {
        Self::new(&self.topic, self.payload.clone(), self.qos, Content::Other)
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Message>,
    next_position: u64,
}

impl Outbox {
    /// Queues a message; false where there is no room.
    pub(crate) fn push(&mut self, message: Message) -> bool {
        if self.queue.len() >= CAPACITY {
            return false;
        }
        self.next_position += 1;
        self.queue.push_back(Message { position: self.next_position, ..message });
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.queue.pop_front()
    }

    /// Queues a popped message again, in front.
    pub(crate) fn put_back(&mut self, message: Message) {
        self.queue.push_front(message);
    }

    /// Restores the order of pushing, after messages were put back in any order.
    pub(crate) fn sort(&mut self) {
        self.queue.make_contiguous().sort_by_key(|message| message.position);
    }

    /// Removes queued statuses, because a newer one follows.
    pub(crate) fn drop_statuses(&mut self) {
        self.queue.retain(|message| message.content != Content::Status);
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_the_order_of_pushing() {
        let mut outbox = Outbox::default();
        for n in 0..CAPACITY {
            let content = if n == 2 { Content::Status } else { Content::Other };
            assert!(outbox.push(Message::new(&n.to_string(), Vec::new(), QoS::AtLeastOnce, content)));
        }
        assert!(!outbox.push(Message::new("one too many", Vec::new(), QoS::AtLeastOnce, Content::Other)));
        let (first, second) = (outbox.pop().unwrap(), outbox.pop().unwrap());
        outbox.put_back(first);
        outbox.put_back(second);
        outbox.sort();
        outbox.drop_statuses();
        let topics: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|message| message.topic).take(4).collect();
        assert_eq!(topics, ["0", "1", "3", "4"]);
    }
}
