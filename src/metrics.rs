//! Every counter of the process, under the name Prometheus sees. One instance per server, made in
//! app.rs: `serverStatus` and `/metrics` read the very same numbers.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why something was counted, e.g. the reason of a rejection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A stable upper-case word.
    pub reason: &'static str,
}

/// Which outbox something was counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutboxLabel {
    /// Its name.
    pub outbox: &'static str,
}

/// How far something has come, e.g. a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// A stable upper-case word.
    pub status: &'static str,
}

/// Counters and gauges of one server. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// PUBLISH packets taken from the broker, redeliveries included.
    pub mqtt_received: Counter,
    /// Messages handed to the broker and confirmed by it.
    pub mqtt_sent: Counter,
    /// Failed or lost connections to the broker.
    pub mqtt_connection_errors: Counter,
    /// Messages whose content is committed.
    pub mqtt_stored: Counter,
    /// Messages that were stored already.
    pub mqtt_duplicate: Counter,
    /// Messages that could not be used, by reason.
    pub mqtt_rejected: Family<Reason, Counter>,
    /// All of `mqtt_rejected` together.
    pub mqtt_rejected_total: Counter,
    /// Times the broker had lost our session: what it queued meanwhile is gone.
    pub mqtt_sessions_lost: Counter,
    /// Devices with a message under way, by outbox.
    pub outbox_in_flight: Family<OutboxLabel, Gauge>,
    /// Looks of the dispatchers that failed at the database and were made again.
    pub outbox_retries: Counter,
    /// Times the queue behind the link was full and reading stopped.
    pub ingest_queue_full: Counter,
    /// Batches committed.
    pub ingest_batches: Counter,
    /// Attempts to commit a batch that failed and were made again.
    pub ingest_retries: Counter,
    /// Rejected messages that were counted but not kept, because their home had its fill.
    pub rejected_not_stored: Counter,
    /// Rejected messages deleted because their home had newer ones enough.
    pub rejected_pruned: Counter,
    /// Readings of a wrong type that were left out of a message that was kept.
    pub readings_dropped: Counter,
    /// Commands by the status they entered.
    pub commands: Family<Status, Counter>,
    /// Answers of devices that changed no command, by reason.
    pub command_answers_ignored: Family<Reason, Counter>,
    /// 1 while the link to the broker is up and subscribed.
    pub mqtt_connected: Gauge,
    /// Clients of the broker by its own count; 0 where it tells none (we would be one).
    pub broker_clients: Gauge,
    /// Configurations that can't be sent, because their secrets were sealed with a key that is not set.
    pub configs_unreadable: Counter,
    /// Devices' accounts made, changed or removed at the broker.
    pub broker_account_changes: Counter,
    /// Changes of accounts that the broker refused.
    pub broker_account_refusals: Counter,
    /// Devices' accounts that the broker should have and has not.
    pub broker_accounts_missing: Gauge,
    /// Questions of brokers at `MQTT_AUTH_ADDR`, by what came of them.
    pub broker_auth_requests: Family<Reason, Counter>,
    /// 1 while what ends elsewhere, sessions and memberships, is read.
    pub revocations_followed: Gauge,
    /// Answers to brokers out of memory, because the database did not answer.
    pub broker_auth_from_cache: Counter,
    /// Answers that were remembered no longer, because there were too many newer ones.
    pub broker_auth_cache_evictions: Counter,
    /// SQL statements sent by the API's pool.
    pub db_statements: Counter,
    /// GraphQL operations stopped midway, because they asked for too many objects or bytes.
    pub graphql_budget_exhausted: Counter,
    /// GraphQL answers that were too large to leave.
    pub graphql_answers_too_large: Counter,
    /// GraphQL subscriptions running now.
    pub subscriptions: Gauge,
    /// Events a slow subscriber was caught up on from the database.
    pub subscription_catch_ups: Counter,
    /// Subscriptions ended because their reader could not keep up.
    pub subscriptions_lagged: Counter,
    /// TCP connections open now, WebSockets not among them once they are upgraded.
    pub http_connections: Gauge,
    /// Times the bound on connections was reached.
    pub http_connections_full: Counter,
    /// Connections cut because their peer had all it may have.
    pub http_connections_cut: Counter,
    /// Requests refused before they ran, by code.
    pub http_refused: Family<Reason, Counter>,
    /// Subscriptions running over sockets and over plain HTTP.
    pub http_subscriptions: Gauge,
    /// Sockets and subscriptions refused because somebody had all they may have, by which bound.
    pub quota_exceeded: Family<Reason, Counter>,
    /// WebSockets open now.
    pub sockets: Gauge,
    /// WebSockets closed by us, by reason.
    pub sockets_closed: Family<Reason, Counter>,
}

impl Metrics {
    /// Zeroes, registered under their public names.
    pub fn new() -> Self {
        let mut m = Self::default();
        let mut r = Registry::with_prefix("smarthome");
        r.register("mqtt_messages_received", "PUBLISH packets taken from the broker", m.mqtt_received.clone());
        r.register("mqtt_messages_sent", "Messages confirmed by the broker", m.mqtt_sent.clone());
        r.register("mqtt_connection_errors", "Failed or lost broker links", m.mqtt_connection_errors.clone());
        r.register("mqtt_messages_stored", "Messages whose content is committed", m.mqtt_stored.clone());
        r.register("mqtt_messages_duplicate", "Messages that were stored already", m.mqtt_duplicate.clone());
        r.register("mqtt_messages_rejected", "Unusable messages by reason", m.mqtt_rejected.clone());
        r.register("mqtt_sessions_lost", "Broker sessions lost", m.mqtt_sessions_lost.clone());
        r.register("mqtt_connected", "1 while the broker link is up", m.mqtt_connected.clone());
        r.register("broker_clients", "Clients of the broker, by its own count", m.broker_clients.clone());
        r.register("outbox_under_way", "Devices with a message under way", m.outbox_in_flight.clone());
        r.register("outbox_retries", "Dispatcher looks retried", m.outbox_retries.clone());
        r.register("ingest_queue_full", "Times reading stopped for a full queue", m.ingest_queue_full.clone());
        r.register("ingest_batches", "Batches committed", m.ingest_batches.clone());
        r.register("ingest_retries", "Batch commits that failed and were retried", m.ingest_retries.clone());
        r.register("rejected_messages_not_kept", "Rejected, counted, not kept", m.rejected_not_stored.clone());
        r.register("rejected_messages_pruned", "Rejected, kept, deleted for newer ones", m.rejected_pruned.clone());
        r.register("readings_dropped", "Readings of a wrong type left out", m.readings_dropped.clone());
        r.register("commands", "Commands by the status they entered", m.commands.clone());
        r.register("command_answers_ignored", "Answers that changed nothing", m.command_answers_ignored.clone());
        r.register("configs_unreadable", "Configurations whose secrets don't open", m.configs_unreadable.clone());
        r.register("broker_account_changes", "Device accounts changed at the broker", m.broker_account_changes.clone());
        r.register("broker_account_refusals", "Account changes the broker refused", m.broker_account_refusals.clone());
        r.register("broker_accounts_missing", "Accounts the broker lacks", m.broker_accounts_missing.clone());
        r.register("broker_questions", "Questions of brokers, by outcome", m.broker_auth_requests.clone());
        r.register("revocations_followed", "1 while ends elsewhere are read", m.revocations_followed.clone());
        r.register("broker_answers_remembered", "Given while the database was away", m.broker_auth_from_cache.clone());
        r.register("broker_answers_dropped", "Remembered no longer: too many", m.broker_auth_cache_evictions.clone());
        r.register("db_statements", "SQL statements sent by the API", m.db_statements.clone());
        r.register("graphql_exhausted", "Operations that asked for too much", m.graphql_budget_exhausted.clone());
        r.register("graphql_answers_too_large", "Answers too large to leave", m.graphql_answers_too_large.clone());
        r.register("subscriptions", "GraphQL subscriptions running", m.subscriptions.clone());
        r.register("subscription_catch_ups", "Slow subscribers caught up", m.subscription_catch_ups.clone());
        r.register("subscriptions_lagged", "Subscriptions ended as LAGGED", m.subscriptions_lagged.clone());
        r.register("http_connections", "TCP connections open", m.http_connections.clone());
        r.register("http_connections_full", "Times all connections were taken", m.http_connections_full.clone());
        r.register("http_connections_cut", "Connections cut: too many of one peer", m.http_connections_cut.clone());
        r.register("http_refused", "Requests refused before they ran, by code", m.http_refused.clone());
        r.register("http_streams", "Subscriptions running at the edge", m.http_subscriptions.clone());
        r.register("quota_exceeded", "Sockets and subscriptions over somebody's cap", m.quota_exceeded.clone());
        r.register("sockets", "WebSockets open", m.sockets.clone());
        r.register("sockets_closed", "WebSockets closed by the server, by reason", m.sockets_closed.clone());
        m.registry = Arc::new(r);
        m
    }

    /// Counts one rejected message.
    pub fn count_rejected(&self, reason: &'static str) {
        self.mqtt_rejected.get_or_create(&Reason { reason }).inc();
        self.mqtt_rejected_total.inc();
    }

    /// Counts one command that entered a status.
    pub fn count_command(&self, status: &'static str) {
        self.commands.get_or_create(&Status { status }).inc();
    }

    /// Counts one question of a broker.
    pub fn count_broker_auth(&self, outcome: &'static str) {
        self.broker_auth_requests.get_or_create(&Reason { reason: outcome }).inc();
    }

    /// Counts one request refused before it ran.
    pub fn count_http_rejection(&self, code: &'static str) {
        self.http_refused.get_or_create(&Reason { reason: code }).inc();
    }

    /// Counts one refusal because somebody had all they may have open.
    pub fn count_quota_exceeded(&self, which: &'static str) {
        self.quota_exceeded.get_or_create(&Reason { reason: which }).inc();
    }

    /// Counts one socket we closed.
    pub fn count_closed_socket(&self, reason: &'static str) {
        self.sockets_closed.get_or_create(&Reason { reason }).inc();
    }

    /// Everything in the text format Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string");
        text
    }
}
