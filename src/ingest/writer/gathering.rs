//! Larger batches under high load. What a batch costs besides its messages, statements above all, is the same for two hundred of
//! them as for a thousand: so the writer waits a moment for more.

use std::mem;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::MAX_BATCH;

/// Batches that are worth a pause: smaller ones are stored at once, and larger ones are large enough.
const SIZES: RangeInclusive<usize> = 128..=900;
/// After a smaller batch none waits: the load may be a burst.
const MIN_BEFORE: usize = 64;
/// About as long as PostgreSQL takes for such a batch.
const PAUSE: Duration = Duration::from_millis(5);
/// A pause pays if it adds at least one message for each 16 that the batch has. If it adds fewer, the broker has sent all that it
/// sends before an acknowledgement.
const MESSAGES_PER_NEW_ONE: usize = 16;
/// Batches of these sizes that are stored without a pause, after one for which it did not pay.
const N_WITHOUT_PAUSE: u32 = 16;

/// Decides whether a batch waits for more messages.
#[derive(Default)]
pub(super) struct Gathering {
    /// The batch before had [`MIN_BEFORE`] messages.
    load_lasts: bool,
    /// Batches of [`SIZES`] that are still to be stored without a pause.
    n_without_pause: u32,
}

impl Gathering {
    /// Adds to a batch what comes within a moment, where that pays.
    pub(super) async fn gather<T>(&mut self, queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>) {
        let n = batch.len();
        let load_lasts = mem::replace(&mut self.load_lasts, n >= MIN_BEFORE);
        if !load_lasts || !SIZES.contains(&n) {
            return;
        }
        if self.n_without_pause > 0 {
            self.n_without_pause -= 1;
            return;
        }
        tokio::time::sleep(PAUSE).await;
        // `None` where nothing has come.
        let _: Option<usize> = queue.recv_many(batch, MAX_BATCH - n).now_or_never();
        if batch.len() < n + n / MESSAGES_PER_NEW_ONE {
            self.n_without_pause = N_WITHOUT_PAUSE;
        }
    }

    /// A batch of so many messages could not be copied. One message is enough for that, and the larger the batches are, the more
    /// of them have one.
    pub(super) fn not_copied(&mut self, n_messages: usize) {
        if n_messages >= *SIZES.start() {
            self.n_without_pause = N_WITHOUT_PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of a batch of `n` messages, while `n_more` arrive at the next pause.
    async fn gathered(gathering: &mut Gathering, n: usize, n_more: usize) -> usize {
        let (sender, mut queue) = mpsc::channel(MAX_BATCH);
        let mut batch = vec![0; n];
        let arrivals = tokio::spawn(async move {
            for message in 0..n_more {
                sender.send(message).await.expect("the queue is open");
            }
        });
        gathering.gather(&mut queue, &mut batch).await;
        arrivals.abort();
        batch.len()
    }

    #[tokio::test]
    async fn batches_grow_while_the_load_lasts() {
        let mut gathering = Gathering::default();
        assert_eq!(gathered(&mut gathering, 200, 200).await, 200, "it may be a burst");
        assert_eq!(gathered(&mut gathering, 200, 200).await, 400);
        assert_eq!(gathered(&mut gathering, 800, 800).await, MAX_BATCH);
        assert_eq!(gathered(&mut gathering, 901, 800).await, 901);
        assert_eq!(gathered(&mut gathering, 200, 200).await, 400);
        assert_eq!(gathered(&mut gathering, 127, 200).await, 127);
        assert_eq!(gathered(&mut gathering, 200, 200).await, 400);
        assert_eq!(gathered(&mut gathering, 63, 200).await, 63);
        assert_eq!(gathered(&mut gathering, 200, 200).await, 200);
    }

    #[tokio::test]
    async fn a_pause_that_does_not_pay_is_not_repeated_for_a_while() {
        let mut gathering = Gathering { load_lasts: true, n_without_pause: 0 };
        assert_eq!(gathered(&mut gathering, 200, 11).await, 211);
        for _ in 0..N_WITHOUT_PAUSE {
            assert_eq!(gathered(&mut gathering, 200, 200).await, 200);
        }
        assert_eq!(gathered(&mut gathering, 200, 200).await, 400);
        gathering.not_copied(127);
        assert_eq!(gathered(&mut gathering, 200, 200).await, 400);
        gathering.not_copied(128);
        assert_eq!(gathered(&mut gathering, 200, 200).await, 200);
    }
}
