//! How many bytes of stored text one operation may hold in memory. A statement's limit bounds the number of rows,
//! but not how long the text is that devices and users wrote into one.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use diesel::QueryResult;
use futures_util::{Stream, TryStreamExt};

use crate::error::Error;
use crate::request_memory::{MemoryExceeded, Reservation};

/// Bytes of stored text that one operation may hold at once.
pub const MAX_OPERATION_BYTES: usize = 32 << 20;

/// What one operation has used of [`MAX_OPERATION_BYTES`], and of the memory of its user and address. Clones share one
/// count.
#[derive(Clone, Default)]
pub struct MemoryBudget(Arc<Used>);

#[derive(Default)]
struct Used {
    bytes: AtomicUsize,
    /// How much of it [`MemoryBudget::take_new_bytes`] has returned.
    taken: AtomicUsize,
    reservation: Reservation,
    refused: OnceLock<MemoryExceeded>,
}

impl MemoryBudget {
    /// A budget whose memory also counts for a user and an address.
    pub fn within(reservation: Reservation) -> Self {
        Self(Arc::new(Used { reservation, ..Used::default() }))
    }

    /// Charges `bytes` and reserves them; fails once more is charged than the operation may hold.
    pub fn charge(&self, bytes: usize) -> Result<(), Error> {
        self.charge_unreserved(bytes)?;
        self.reserve(bytes).map_err(Error::from)
    }

    /// Reserves bytes that are not part of the operation's own budget.
    pub fn reserve(&self, bytes: usize) -> Result<(), MemoryExceeded> {
        self.0.reservation.grow(bytes).inspect_err(|exceeded| {
            let _ = self.0.refused.set(*exceeded);
        })
    }

    /// Charges bytes that are held for a moment only.
    pub fn charge_unreserved(&self, bytes: usize) -> Result<(), Error> {
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= MAX_OPERATION_BYTES {
            return Ok(());
        }
        let message = format!("the operation asks for more than {MAX_OPERATION_BYTES} bytes: ask for less at a time");
        Err(Error::TooLarge { field: "query", message })
    }

    /// Whether more was charged than the operation, its user or its address may hold.
    pub fn is_exhausted(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) > MAX_OPERATION_BYTES || self.refused().is_some()
    }

    /// The limit of others that the operation exceeded.
    pub fn refused(&self) -> Option<MemoryExceeded> {
        self.0.refused.get().copied()
    }

    /// What the operation and its response have reserved.
    pub fn reservation(&self) -> &Reservation {
        &self.0.reservation
    }

    /// Bytes that may still be charged.
    pub fn left(&self) -> usize {
        MAX_OPERATION_BYTES.saturating_sub(self.0.bytes.load(Ordering::Relaxed))
    }

    /// Bytes that were charged since the last call.
    pub fn take_new_bytes(&self) -> usize {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        bytes.saturating_sub(self.0.taken.swap(bytes, Ordering::Relaxed))
    }

    /// Starts again at zero, for the next event of a subscription.
    pub fn reset(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.taken.store(0, Ordering::Relaxed);
        self.0.reservation.shrink_to(0);
    }
}

/// A value with text of any length.
pub trait MemorySize {
    /// Bytes of that text.
    fn text_bytes(&self) -> usize;
}

impl<T: MemorySize> MemorySize for Arc<T> {
    fn text_bytes(&self) -> usize {
        T::text_bytes(self)
    }
}

/// Collects a statement's rows one by one and stops where the budget ends. Rows that the database still sends are
/// discarded.
pub async fn collect_bounded<R, T: MemorySize>(
    rows: impl Stream<Item = QueryResult<R>>,
    budget: &MemoryBudget,
    from_row: impl Fn(R) -> QueryResult<T>,
) -> Result<Vec<T>, Error> {
    let (mut rows, mut collected) = (pin!(rows), Vec::new());
    while let Some(row) = rows.try_next().await? {
        let value = from_row(row)?;
        budget.charge(value.text_bytes())?;
        collected.push(value);
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::{StreamExt, stream};

    use super::*;

    struct Mebibytes(usize);

    impl MemorySize for Mebibytes {
        fn text_bytes(&self) -> usize {
            self.0 << 20
        }
    }

    #[tokio::test]
    async fn rows_are_read_until_the_budget_is_exhausted() {
        let (budget, n_read) = (MemoryBudget::default(), Cell::new(0));
        let rows = |n| stream::iter(0..n).inspect(|_| n_read.set(n_read.get() + 1)).map(|_| Ok(8));
        assert_eq!(collect_bounded(rows(4), &budget, |n| Ok(Mebibytes(n))).await.unwrap().len(), 4);
        assert!(!budget.is_exhausted());
        let refused = collect_bounded(rows(1_000), &budget, |n| Ok(Mebibytes(n))).await.err().unwrap();
        assert_eq!((refused.code(), n_read.get(), budget.is_exhausted()), ("PAYLOAD_TOO_LARGE", 5, true));
        budget.reset();
        assert!(budget.charge(MAX_OPERATION_BYTES - 1).is_ok() && budget.left() == 1);
        assert_eq!([budget.take_new_bytes(), budget.take_new_bytes()], [MAX_OPERATION_BYTES - 1, 0]);
        assert!(budget.charge(1).is_ok() && budget.charge(1).is_err() && budget.left() == 0);
    }
}
