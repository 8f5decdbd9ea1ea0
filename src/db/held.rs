//! How much of what is stored somebody may hold at once. Rows are few by their statement's limit, but
//! what devices and people wrote into one may be long.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::QueryResult;
use futures_util::{Stream, TryStreamExt};

use crate::error::Error;

/// Most bytes that one operation may hold at once of what is stored as text.
pub const MAX_HELD_BYTES: usize = 32 << 20;

/// What may still be held. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// Takes so many bytes, or refuses.
    pub fn take(&self, bytes: usize) -> Result<(), Error> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= MAX_HELD_BYTES {
            return Ok(());
        }
        let message = format!("the operation asks for more than {MAX_HELD_BYTES} bytes: ask for less at a time");
        Err(Error::TooLarge { field: "query", message })
    }

    /// Whether more was asked for than there is.
    pub fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_HELD_BYTES
    }

    /// Starts anew.
    pub fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What holds text of any length.
pub trait Weigh {
    /// Its bytes.
    fn text_bytes(&self) -> usize;
}

/// Takes a statement's rows one by one and stops where the allowance ends: what the database still sends
/// of them is passed over, not kept.
pub async fn gather<R, T: Weigh>(
    rows: impl Stream<Item = QueryResult<R>>,
    held: &Allowance,
    of_row: impl Fn(R) -> QueryResult<T>,
) -> Result<Vec<T>, Error> {
    let (mut rows, mut gathered) = (pin!(rows), Vec::new());
    while let Some(row) = rows.try_next().await? {
        let row = of_row(row)?;
        held.take(row.text_bytes())?;
        gathered.push(row);
    }
    Ok(gathered)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::{StreamExt, stream};

    use super::*;

    struct Mebibytes(usize);

    impl Weigh for Mebibytes {
        fn text_bytes(&self) -> usize {
            self.0 << 20
        }
    }

    #[tokio::test]
    async fn rows_are_read_as_far_as_the_allowance_goes() {
        let (held, read) = (Allowance::default(), Cell::new(0));
        let rows = |n| stream::iter(0..n).inspect(|_| read.set(read.get() + 1)).map(|_| Ok(8));
        assert_eq!(gather(rows(4), &held, |n| Ok(Mebibytes(n))).await.unwrap().len(), 4);
        assert!(!held.is_spent());
        let refused = gather(rows(1_000), &held, |n| Ok(Mebibytes(n))).await.err().unwrap();
        assert_eq!((refused.code(), read.get(), held.is_spent()), ("PAYLOAD_TOO_LARGE", 5, true));
        held.renew();
        assert!(held.take(MAX_HELD_BYTES).is_ok() && held.take(1).is_err());
    }
}
