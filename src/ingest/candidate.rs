//! A server that asks for the right to ingest, and serves the API only while another one has it.
//!
//! A plain subscription receives every message, so of the servers with one and the same topic prefix one ingests. The next one
//! continues its session at the broker, under its client id: what the broker has queued in it is delivered, and what was
//! stored without an acknowledgement is recognized. So a change of servers loses nothing and stores nothing twice.

use std::time::Duration;

use diesel::QueryResult;

use super::STATEMENT_TIMEOUT;
use super::group::Group;
use super::progress::Progress;
use super::session_store;
use super::writer_connection::{Session, WriterConnection};
use crate::backoff::Backoff;
use crate::db::{self, ReconnectingConnection, with_timeout};
use crate::latch::Latch;
use crate::metrics::Metrics;
use crate::mqtt::LinkSession;
use crate::settings::{DatabaseSettings, MqttSettings};

/// Pauses between attempts to take over.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(700);

/// Longest wait for a database that neither answers nor closes the connection.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks until it is this server's turn.
pub struct Candidate {
    database: DatabaseSettings,
    mqtt: MqttSettings,
    /// A client id that the broker does not let this server use.
    refused: Option<String>,
    progress: Progress,
    metrics: Metrics,
}

/// The right to ingest, from the first lock until another server has it.
pub struct Term {
    pub(super) db: WriterConnection,
    /// Set when another server has begun to store: the writer and the link of this term must end.
    pub lost: Latch,
    pub session: LinkSession,
    /// Which term of the session it is.
    pub number: i64,
    /// For the end of a shared subscription.
    pub group: Group,
}

/// What an attempt found.
enum Attempt {
    Begun { session: Session, number: i64, starts_clean: bool },
    OtherServer,
    SameClientId(String),
}

impl Candidate {
    pub fn new(database: DatabaseSettings, mqtt: MqttSettings, progress: Progress, metrics: Metrics) -> Self {
        Self { database, mqtt, refused: None, progress, metrics }
    }

    /// The broker refuses this client id, and accepts this server's own: the next term does not continue its session.
    pub fn give_up_session(&mut self, client_id: &str) {
        if client_id != self.mqtt.client_id {
            tracing::error!(
                client_id,
                own = self.mqtt.client_id,
                "the broker does not let this server continue the session of the server before it; starting one of its own"
            );
            self.refused = Some(client_id.to_owned());
        }
    }

    /// Waits until no other server is in the way. Waits for the database, too, as long as it takes.
    pub async fn wait(&mut self) -> Term {
        // What the term before has not stored, the broker delivers again.
        self.progress.end();
        self.progress.closed_months(String::new(), false);
        self.metrics.ingest_parked.set(0);
        let mut db = ReconnectingConnection::new(self.database.clone(), "ingest", STATEMENT_TIMEOUT);
        let (mut pauses, mut has_logged) = (Backoff::new(FIRST_PAUSE, MAX_PAUSE), false);
        loop {
            match with_timeout(ATTEMPT_TIMEOUT, self.attempt(db.get().await)).await {
                Ok(Attempt::Begun { session, number, starts_clean }) => {
                    db.reset_backoff();
                    return self.begun(db, session, number, starts_clean);
                }
                Ok(Attempt::OtherServer) => {
                    self.metrics.ingest_standby.set(1);
                    if !std::mem::replace(&mut has_logged, true) {
                        self.log_standby();
                    }
                }
                Ok(Attempt::SameClientId(client_id)) => {
                    if !std::mem::replace(&mut has_logged, true) {
                        tracing::warn!(client_id, "another server uses this MQTT_CLIENT_ID; waiting until it stops");
                    }
                    db.close();
                }
                Err(error) => db.on_error(&error).await,
            }
            pauses.wait().await;
        }
    }

    fn begun(&self, db: ReconnectingConnection, session: Session, number: i64, starts_clean: bool) -> Term {
        self.metrics.ingest_standby.set(0);
        let client_id = session.client_id.clone();
        tracing::info!(client_id, term = number, "this server ingests");
        let group = Group::new(self.database.clone(), client_id.clone(), session.prefix.clone());
        let lost = Latch::default();
        let db = WriterConnection::new(db, session, number, lost.clone(), self.progress.clone());
        Term { db, lost, session: LinkSession { client_id, starts_clean }, number, group }
    }

    fn log_standby(&self) {
        if self.mqtt.shared_group.is_none() {
            tracing::info!("another server ingests; this one serves the API and takes over when that one ends");
        } else {
            tracing::warn!(
                "another server ingests by a plain subscription; this one serves the API and ingests when that one ends. \
                 Set MQTT_SHARED_GROUP for all servers or for none"
            );
        }
    }

    async fn attempt(&self, conn: &mut db::Connection) -> QueryResult<Attempt> {
        let MqttSettings { client_id, prefix, shared_group, .. } = &self.mqtt;
        let is_shared = shared_group.is_some();
        let mut session = Session { client_id: client_id.clone(), prefix: prefix.clone(), is_shared };
        if !session.try_lock_prefix(conn).await? {
            return Ok(Attempt::OtherServer);
        }
        let mut is_stale = false;
        if !is_shared {
            (session.client_id, is_stale) = self.choose_session(conn).await?;
        }
        if !session.try_lock_client_id(conn).await? {
            return Ok(Attempt::SameClientId(session.client_id));
        }
        for client_id in session_store::release_others(conn, prefix, &session.client_id, !is_shared).await? {
            tracing::warn!(
                client_id,
                is_shared,
                "this session at the broker is given up: messages that wait in it are not stored, unless a server of a \
                 group starts with its client id"
            );
        }
        let plain_prefix = session.plain_prefix();
        let (number, starts_clean) =
            session_store::begin_term(conn, &session.client_id, plain_prefix, is_stale).await?;
        Ok(Attempt::Begun { session, number, starts_clean })
    }

    /// The client id of the session for a plain subscription, and whether other sessions have received messages since it was
    /// used.
    async fn choose_session(&self, conn: &mut db::Connection) -> QueryResult<(String, bool)> {
        let own = &self.mqtt.client_id;
        match session_store::find_plain(conn, &self.mqtt.prefix).await? {
            Some(last) if self.refused.as_ref() != Some(&last) => Ok((last, false)),
            // Another session has received the messages since this one was used.
            Some(_) => Ok((own.clone(), true)),
            None => Ok((own.clone(), session_store::exists(conn, own).await?)),
        }
    }
}
