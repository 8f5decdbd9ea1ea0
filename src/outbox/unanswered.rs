//! Changes whose statement got no answer from the database. They may be committed, so subscribers are notified of them again.

use diesel::QueryResult;

/// What may have changed without a notice to subscribers; `M` is the outbox's own note of it.
#[derive(Debug, Default)]
pub struct Unanswered<M>(M);

impl<M: Clone> Unanswered<M> {
    /// Runs a statement that changes rows. `note` adds its changes; they stay noted until the answer of the
    /// statement is here, also when this future is dropped before.
    pub async fn run<T>(
        &mut self,
        note: impl FnOnce(&mut M),
        statement: impl Future<Output = QueryResult<T>>,
    ) -> QueryResult<T> {
        let before = self.0.clone();
        note(&mut self.0);
        let answer = statement.await?;
        self.0 = before;
        Ok(answer)
    }

    pub fn noted(&self) -> &M {
        &self.0
    }

    /// Replaces the note, once subscribers know its changes.
    pub fn replace(&mut self, note: M) {
        self.0 = note;
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::Error;

    use super::*;

    #[tokio::test]
    async fn a_change_stays_noted_until_its_statement_is_answered() {
        let mut unanswered = Unanswered::<Vec<u8>>::default();
        unanswered.run(|noted| noted.push(1), async { Ok(()) }).await.unwrap();
        assert!(unanswered.noted().is_empty());
        unanswered.run(|noted| noted.push(2), async { Err::<(), _>(Error::NotFound) }).await.unwrap_err();
        let dropped = unanswered.run(|noted| noted.push(3), std::future::pending::<QueryResult<()>>());
        assert!(futures_util::FutureExt::now_or_never(dropped).is_none());
        unanswered.run(|noted| noted.push(4), async { Ok(()) }).await.unwrap();
        assert_eq!(unanswered.noted(), &[2, 3]);
        unanswered.replace(Vec::new());
        assert!(unanswered.noted().is_empty());
    }
}
