//! Answers that are not due yet, ordered by time. Bounded: the caller drops and counts an answer that finds no room.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::device::Answer;

/// Answers that a device may delay at a time.
const MAX_DELAYED: usize = 64;

pub(crate) struct DelayedAnswer {
    pub(crate) at: Instant,
    /// The arrival of the command it answers; `None` for a configuration.
    pub(crate) arrival: Option<u64>,
    pub(crate) answer: Answer,
}

#[derive(Default)]
pub(crate) struct DelayedAnswers {
    heap: BinaryHeap<Entry>,
    next_position: u64,
}

impl DelayedAnswers {
    /// Adds an answer; false where there is no room.
    pub(crate) fn push(&mut self, delayed: DelayedAnswer) -> bool {
        if self.heap.len() >= MAX_DELAYED {
            return false;
        }
        self.next_position += 1;
        self.heap.push(Entry { position: self.next_position, delayed });
        true
    }

    /// The time of the next answer.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.delayed.at)
    }

    /// An answer that is due at `now`; answers of the same time in the order of pushing.
    pub(crate) fn take(&mut self, now: Instant) -> Option<DelayedAnswer> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|entry| entry.delayed)
    }
}

struct Entry {
    position: u64,
    delayed: DelayedAnswer,
}

impl Entry {
    fn key(&self) -> (Instant, u64) {
        (self.delayed.at, self.position)
    }
}

/// Reversed: `BinaryHeap` pops the greatest entry, which is to be the earliest.
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
    use crate::simulator::device::AnswerContent;

    #[test]
    fn it_is_bounded_and_returns_answers_by_time() {
        let mut answers = DelayedAnswers::default();
        let start = Instant::now();
        let answer = |at: u64, n: u8| {
            let answer = Answer { delay: Duration::ZERO, kind: None, content: AnswerContent::Ack(vec![n]) };
            DelayedAnswer { at: start + Duration::from_secs(at), arrival: None, answer }
        };
        for (n, at) in (0u8..).zip([3, 1, 1, 2]) {
            assert!(answers.push(answer(at, n)));
        }
        for _ in 4..MAX_DELAYED {
            assert!(answers.push(answer(9, 9)));
        }
        assert!(!answers.push(answer(0, 99)), "one too many");
        assert_eq!(answers.next(), Some(start + Duration::from_secs(1)));
        assert!(answers.take(start).is_none());
        let mut due = Vec::new();
        while let Some(delayed) = answers.take(start + Duration::from_secs(3)) {
            let AnswerContent::Ack(payload) = delayed.answer.content else { panic!("an ack") };
            due.extend(payload);
        }
        assert_eq!(due, [1, 2, 3, 0]);
    }
}
