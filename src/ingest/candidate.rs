//! A server that asks for the right to ingest, and serves the API only while another one has it.
//!
//! A plain subscription receives every message, so of the servers with one and the same topic prefix one ingests. The next one
//! continues its session at the broker, under its client id: what the broker has queued in it is delivered, and what was
//! stored without an acknowledgement is recognized. So a change of servers loses nothing and stores nothing twice.

use std::time::Duration;

use diesel::QueryResult;
use tokio::time::Instant;

use super::STATEMENT_TIMEOUT;
use super::copy_store::TermKey;
use super::group::Group;
use super::progress::Progress;
use super::session_store::{self, BegunTerm};
use super::successor::{self, Successor};
use super::writer::Copier;
use super::writer_connection::{Session, WriterConnection};
use crate::background::Reminder;
use crate::backoff::Backoff;
use crate::db::{self, ReconnectingConnection, with_timeout};
use crate::latch::Latch;
use crate::metrics::Metrics;
use crate::mqtt::LinkSession;
use crate::settings::{DatabaseSettings, MqttSettings};
use crate::standby::{Reason, Standby};

/// Pauses between attempts to take over.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(700);

/// How often a server that waits says so.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Longest wait for a database that neither answers nor closes the connection.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks until it is this server's turn.
pub struct Candidate {
    database: DatabaseSettings,
    mqtt: MqttSettings,
    /// A client id that the broker does not let this server use.
    refused: Option<String>,
    standby: Standby,
    progress: Progress,
    metrics: Metrics,
}

/// The right to ingest, from the first lock until another server has it.
pub struct Term {
    pub(super) db: WriterConnection,
    pub(super) copier: Copier,
    /// Set when another server has begun to store: the writer and the link of this term must end.
    pub lost: Latch,
    pub session: LinkSession,
    /// For the end of a shared subscription.
    pub group: Group,
    /// For the end of a plain subscription that gets no connection.
    pub successor: Successor,
}

/// A session to ingest with.
struct Choice {
    client_id: String,
    /// Whether other sessions have received messages since it was used.
    is_stale: bool,
}

/// What an attempt found.
enum Attempt {
    Begun(Session, BegunTerm),
    OtherServer,
    SameClientId(String),
}

impl Candidate {
    pub fn new(
        database: DatabaseSettings,
        mqtt: MqttSettings,
        standby: Standby,
        progress: Progress,
        metrics: Metrics,
    ) -> Self {
        Self { database, mqtt, refused: None, standby, progress, metrics }
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
        let term = tokio::select! {
            term = self.ask() => term,
            never = Box::pin(successor::stand_by(&self.database, &self.mqtt, &self.standby)) => match never {},
        };
        // The broker may accept it when it is this server's turn to continue that session again.
        self.refused = None;
        term
    }

    async fn ask(&self) -> Term {
        let mut db = ReconnectingConnection::new(self.database.clone(), "ingest", STATEMENT_TIMEOUT);
        let mut pauses = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut reminder = Reminder::new(REMIND_EVERY, Instant::now());
        loop {
            match with_timeout(ATTEMPT_TIMEOUT, self.attempt(db.get().await)).await {
                Ok(Attempt::Begun(session, begun)) => {
                    db.reset_backoff();
                    return self.begun(db, session, begun);
                }
                Ok(Attempt::OtherServer) => self.on_other_server(&mut reminder),
                Ok(Attempt::SameClientId(client_id)) => {
                    db.close();
                    self.on_same_client_id(&client_id, &mut reminder);
                }
                Err(error) => db.on_error(&error).await,
            }
            pauses.wait().await;
        }
    }

    fn begun(&self, db: ReconnectingConnection, session: Session, begun: BegunTerm) -> Term {
        let BegunTerm { number, starts_clean, given_up } = begun;
        for client_id in given_up {
            log_given_up(&client_id, session.is_shared);
        }
        self.metrics.ingest_standby.set(0);
        self.standby.ingests();
        let client_id = session.client_id.clone();
        tracing::info!(client_id, term = number, "this server ingests");
        let group = Group::new(self.database.clone(), client_id.clone(), session.prefix.clone());
        let successor = Successor::new(self.database.clone(), session.prefix.clone());
        let lost = Latch::default();
        let plain_prefix = session.plain_prefix().map(str::to_owned);
        let copier = Copier::new(self.database.clone(), TermKey { client_id: client_id.clone(), plain_prefix, number });
        let db = WriterConnection::new(db, session, number, lost.clone(), self.progress.clone());
        Term { db, copier, lost, session: LinkSession { client_id, starts_clean }, group, successor }
    }

    fn on_other_server(&self, reminder: &mut Reminder) {
        let is_new = !self.standby.reason().is_some_and(Reason::is_standby);
        if is_new {
            self.metrics.ingest_standby.set(1);
            self.standby.does_not_ingest(Reason::NotProbed);
        }
        if is_to_be_logged(is_new, reminder) {
            self.log_standby();
        }
    }

    fn on_same_client_id(&self, client_id: &str, reminder: &mut Reminder) {
        self.metrics.ingest_standby.set(0);
        if is_to_be_logged(self.standby.does_not_ingest(Reason::SameClientId), reminder) {
            tracing::warn!(
                client_id,
                "another server uses the client id of this one's session; waiting until it stops"
            );
        }
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
        let Choice { client_id, is_stale } = self.choose_session(conn, is_shared).await?;
        session.client_id = client_id;
        if !session.try_lock_client_id(conn).await? {
            return Ok(Attempt::SameClientId(session.client_id));
        }
        let begun = session_store::begin_term(conn, &session.client_id, prefix, is_shared, is_stale).await?;
        Ok(Attempt::Begun(session, begun))
    }

    /// For a plain subscription the session of the server before, otherwise this server's own.
    async fn choose_session(&self, conn: &mut db::Connection, is_shared: bool) -> QueryResult<Choice> {
        if is_shared {
            return Ok(Choice { client_id: self.own_client_id(conn).await?, is_stale: false });
        }
        let last = session_store::find_plain(conn, &self.mqtt.prefix).await?;
        let is_refused = last.is_some() && self.refused == last;
        match last {
            Some(client_id) if !is_refused => Ok(Choice { client_id, is_stale: false }),
            _ => {
                let client_id = self.own_client_id(conn).await?;
                let is_stale = is_refused || session_store::exists(conn, &client_id).await?;
                Ok(Choice { client_id, is_stale })
            }
        }
    }

    /// `MQTT_CLIENT_ID`, unless the messages of another prefix wait in the session of that name.
    async fn own_client_id(&self, conn: &mut db::Connection) -> QueryResult<String> {
        let MqttSettings { client_id, prefix, .. } = &self.mqtt;
        if !session_store::has_other_prefix(conn, client_id, prefix).await? {
            return Ok(client_id.clone());
        }
        let other = format!("{client_id}-{prefix}");
        tracing::warn!(
            client_id,
            other,
            "this session receives the messages of another prefix; using another client id"
        );
        Ok(other)
    }
}

/// A state is logged when it begins, and while it lasts once a minute.
fn is_to_be_logged(is_new: bool, reminder: &mut Reminder) -> bool {
    let now = Instant::now();
    if is_new {
        *reminder = Reminder::new(REMIND_EVERY, now);
    }
    is_new || reminder.is_due(now)
}

fn log_given_up(client_id: &str, is_shared: bool) {
    if is_shared {
        tracing::warn!(
            client_id,
            "the plain subscription of this session at the broker has ended: messages that wait in it are stored only if a \
             server of the group starts with its client id"
        );
    } else {
        tracing::warn!(client_id, "this session at the broker is given up: messages that wait in it are not stored");
    }
}
