//! Answers that are not due yet, by the time they are. Bounded: what finds no room is never said, and
//! counted.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::device::Answer;
use super::receipts::Slot;

/// Answers a device may have waiting.
pub(crate) const ANSWERS_A_DEVICE: usize = 64;

/// An answer, whose it is and to what.
pub(crate) struct Waiting {
    /// When it is said.
    pub(crate) at: Instant,
    /// Which device of the connection says it.
    pub(crate) device: usize,
    /// The receipt it is written to.
    pub(crate) slot: Option<Slot>,
    /// What is said.
    pub(crate) answer: Answer,
}

/// See the module.
pub(crate) struct WaitingAnswers {
    heap: BinaryHeap<Entry>,
    most: usize,
    next_place: u64,
}

impl WaitingAnswers {
    /// For a connection with so many devices.
    pub(crate) fn new(devices: usize) -> Self {
        Self { heap: BinaryHeap::new(), most: ANSWERS_A_DEVICE * devices, next_place: 0 }
    }

    /// Takes an answer, where there is room.
    pub(crate) fn push(&mut self, waiting: Waiting) -> bool {
        if self.heap.len() >= self.most {
            return false;
        }
        self.next_place += 1;
        self.heap.push(Entry { place: self.next_place, waiting });
        true
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.waiting.at)
    }

    /// One that is due by `now`; those of one moment in the order they came.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Waiting> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|entry| entry.waiting)
    }
}

struct Entry {
    place: u64,
    waiting: Waiting,
}

impl Entry {
    fn key(&self) -> (Instant, u64) {
        (self.waiting.at, self.place)
    }
}

/// The earliest is the greatest: the heap gives that one first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulator::device::Words;

    #[test]
    fn it_is_bounded_and_gives_what_is_due_in_order() {
        let mut queue = WaitingAnswers::new(1);
        let start = Instant::now();
        let answer = |at: u64, device| {
            let answer = Answer { after: Duration::ZERO, said: None, words: Words::Ack(Vec::new()) };
            Waiting { at: start + Duration::from_secs(at), device, slot: None, answer }
        };
        for (device, at) in [3, 1, 1, 2].into_iter().enumerate() {
            assert!(queue.push(answer(at, device)));
        }
        for n in 4..ANSWERS_A_DEVICE {
            assert!(queue.push(answer(9, n)));
        }
        assert!(!queue.push(answer(0, 99)), "one too many");
        assert_eq!(queue.next(), Some(start + Duration::from_secs(1)));
        assert!(queue.take(start).is_none());
        let due: Vec<_> = std::iter::from_fn(|| queue.take(start + Duration::from_secs(3))).map(|w| w.device).collect();
        assert_eq!(due, [1, 2, 3, 0]);
    }
}
