//! The writer's connection. Its advisory locks are the right to store: one server at a time stores for a session of the
//! broker, and beside a server with a plain subscription no other one stores for the same topics.

use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::progress::Progress;
use super::session_store;
use super::writer::ATTEMPT_TIMEOUT;
use crate::db::{self, ReconnectingConnection, locks, with_timeout};
use crate::latch::Latch;

/// The session for which a server stores, and the advisory locks that give it the right to.
pub(super) struct Session {
    /// The MQTT client id.
    pub(super) client_id: String,
    pub(super) prefix: String,
    /// Whether it has a shared subscription: then several sessions receive messages of the prefix.
    pub(super) is_shared: bool,
}

/// Whether a connection has the right to store again, after the one before ended.
enum Restored {
    Yes,
    /// The database has not noticed yet that the connection before has ended.
    NotYet,
    /// Another server has stored meanwhile.
    Lost,
}

impl Session {
    pub(super) fn plain_prefix(&self) -> Option<&str> {
        (!self.is_shared).then_some(&*self.prefix)
    }

    pub(super) async fn try_lock_prefix(&self, conn: &mut db::Connection) -> QueryResult<bool> {
        locks::try_lock_prefix(conn, locks::INGEST_SUBSCRIPTION, &self.prefix, self.is_shared).await
    }

    pub(super) async fn try_lock_client_id(&self, conn: &mut db::Connection) -> QueryResult<bool> {
        locks::try_lock(conn, locks::WRITER, Some(&self.client_id)).await
    }

    async fn try_restore(&self, conn: &mut db::Connection, term: i64) -> QueryResult<Restored> {
        let has_prefix = self.try_lock_prefix(conn).await?;
        let is_locked = has_prefix && self.try_lock_client_id(conn).await?;
        if !session_store::is_current(conn, &self.client_id, self.plain_prefix(), term).await? {
            return Ok(Restored::Lost);
        }
        Ok(match is_locked {
            true => Restored::Yes,
            // This server asks for the prefix in shared mode, so the one in the way has a plain subscription.
            false if self.is_shared && !has_prefix => Restored::Lost,
            false => Restored::NotYet,
        })
    }
}

/// The connection of a term: the time from the first lock until another server has it, however often the connection is lost
/// in between.
pub(super) struct WriterConnection {
    db: ReconnectingConnection,
    session: Session,
    term: i64,
    is_locked: bool,
    /// Counts the connections of the term.
    number: u64,
    lost: Latch,
    progress: Progress,
}

impl WriterConnection {
    /// Takes over a connection that holds the locks. `lost` is set when another server has begun to store: then the writer and
    /// the link must end.
    pub(super) fn new(
        db: ReconnectingConnection,
        session: Session,
        term: i64,
        lost: Latch,
        progress: Progress,
    ) -> Self {
        Self { db, session, term, is_locked: true, number: 0, lost, progress }
    }

    pub(super) fn client_id(&self) -> &str {
        &self.session.client_id
    }

    /// The topic prefix of whose messages the session receives a share.
    pub(super) fn group_prefix(&self) -> Option<&str> {
        self.session.is_shared.then_some(&*self.session.prefix)
    }

    /// The connection. Waits for the database as long as it takes; does not return if another server has begun to store.
    pub(super) async fn get(&mut self) -> &mut db::Connection {
        while !(self.is_locked && self.db.is_open()) {
            match self.session.try_restore(self.db.get().await, self.term).await {
                Ok(Restored::Yes) => self.is_locked = true,
                Ok(Restored::NotYet) => {
                    self.db.close();
                    self.db.wait_backoff().await;
                }
                Ok(Restored::Lost) => {
                    self.db.close();
                    self.lost.set();
                    std::future::pending::<()>().await;
                }
                Err(error) => self.on_error(&error).await,
            }
        }
        self.db.get().await
    }

    /// Waits until the database confirms that the connection, and with it the locks, still exist. Does not return if another
    /// server has begun to store. Cancel safe.
    pub(super) async fn verify(&mut self) {
        let (client_id, plain_prefix) =
            (self.session.client_id.clone(), self.session.plain_prefix().map(str::to_owned));
        let term = self.term;
        loop {
            let asked = session_store::is_current(self.get().await, &client_id, plain_prefix.as_deref(), term);
            let Err(error) = with_timeout(ATTEMPT_TIMEOUT, asked).await else { return };
            self.on_error(&error).await;
        }
    }

    /// Notes that this server receives a share of the messages of a group: from now on the others may leave it.
    pub(super) async fn join_group(&mut self) {
        if !self.session.is_shared {
            return;
        }
        let (client_id, prefix) = (self.session.client_id.clone(), self.session.prefix.clone());
        loop {
            let joined = session_store::join_group(self.get().await, &client_id, &prefix);
            let Err(error) = with_timeout(ATTEMPT_TIMEOUT, joined).await else { return };
            self.on_error(&error).await;
        }
    }

    /// The number of the connection within the term.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Call after a success: the next failure starts with the shortest pause again.
    pub(super) fn reset_backoff(&mut self) {
        self.db.reset_backoff();
    }

    /// Drops the connection, and with it an open transaction.
    pub(super) fn close(&mut self) {
        self.is_locked = false;
        self.number += 1;
        self.db.close();
    }

    /// Drops the connection, and with it an open transaction, and waits before the next attempt.
    pub(super) async fn on_error(&mut self, error: &DieselError) {
        self.is_locked = false;
        self.number += 1;
        self.progress.failed(error);
        self.db.on_error(error).await;
    }
}
