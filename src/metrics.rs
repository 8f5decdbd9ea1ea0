//! All metrics of a server. Each server has one instance, which `serverStatus` and `/metrics` both read.

mod age;
mod labels;
mod latency;
mod plain;
mod process;
mod reported;
mod sampled;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use age::Age;
pub use labels::{
    HttpResponses, HttpRoute, Kind, OutboxLabel, PoolState, Protocol, Reason, Status, Step, Stream, Transport,
};
pub use latency::{Latency, Timer};
pub use reported::Reported;
pub use sampled::Sampled;

/// Declares each metric once: field, type, public name (without the prefix `smarthome_`) and HELP text, which
/// Prometheus ends with a full stop.
macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal, $help:literal;)*) => {
        /// The metrics by field.
        #[derive(Default)]
        pub struct MetricSet {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
            /// The sum of `mqtt_rejected` over all reasons, for `serverStatus`.
            pub mqtt_rejected_total: Counter,
        }

        impl MetricSet {
            /// Zeroes, registered under their public names.
            fn registered() -> Self {
                let mut metrics = Self::default();
                let mut registry = Registry::default();
                registry.register_collector(Box::new(process::Process));
                let ours = registry.sub_registry_with_prefix("smarthome");
                ours.register("build", "The version of the server", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
                $(ours.register($name, $help, metrics.$field.clone());)*
                metrics.registry = registry;
                metrics
            }
        }
    };
}

/// Counters, gauges and histograms of one server. Cheap to clone; all clones share their values.
#[derive(Clone, Default)]
pub struct Metrics(Arc<MetricSet>);

impl Deref for Metrics {
    type Target = MetricSet;

    fn deref(&self) -> &MetricSet {
        &self.0
    }
}

metrics! {
    // MQTT
    mqtt_received: Counter = "mqtt_messages_received",
        "MQTT messages received from the broker, including redeliveries";
    mqtt_sent: Counter = "mqtt_messages_sent",
        "MQTT messages published and acknowledged by the broker";
    mqtt_connection_errors: Counter = "mqtt_connection_errors",
        "Failed or lost connections to the MQTT broker";
    mqtt_stored: Counter = "mqtt_messages_stored",
        "MQTT messages whose content was committed to the database";
    mqtt_duplicate: Counter = "mqtt_messages_duplicate",
        "Redelivered MQTT messages that were already stored";
    mqtt_rejected: Family<Reason, Counter> = "mqtt_messages_rejected",
        "MQTT messages rejected as invalid or rate limited, by reason";
    mqtt_left: Counter = "mqtt_messages_left",
        "MQTT messages received but neither stored nor acknowledged, because another server began to ingest: the broker delivers them to it";
    mqtt_sessions_lost: Counter = "mqtt_sessions_lost",
        "Times the broker had discarded the server's session and the messages queued in it";
    mqtt_connected: Gauge = "mqtt_connected",
        "1 while the server is connected to the broker and subscribed";
    broker_clients: Reported = "broker_clients",
        "Clients connected to the broker, as it reports below $SYS; NaN if it does not";
    broker_received: Reported = "broker_messages_received",
        "MQTT packets that the broker has received since it started, as it reports below $SYS; NaN if it does not";
    broker_sent: Reported = "broker_messages_sent",
        "MQTT packets that the broker has sent since it started, as it reports below $SYS; NaN if it does not";
    broker_dropped: Reported = "broker_messages_dropped",
        "Messages that the broker has dropped since it started because a queue was full, as it reports below $SYS; NaN if it does not";

    // Outboxes: commands and configurations on their way to devices
    outbox_pending: Family<OutboxLabel, Gauge> = "outbox_pending_publishes",
        "Devices with a message published but not yet acknowledged, by outbox";
    outbox_retries: Counter = "outbox_retries",
        "Outbox polls that failed at the database and were retried";
    commands: Family<Status, Counter> = "commands",
        "Status changes of commands, by new status";
    command_answers_ignored: Family<Reason, Counter> = "command_answers_ignored",
        "Command acknowledgements from devices that changed no command, by reason";
    configs_unreadable: Counter = "configs_unreadable",
        "Configurations not sent because the key that encrypted their secrets is not set";

    // Mail
    mails_sent: Counter = "mails_sent",
        "Mails that the mail server accepted";
    mail_retries: Counter = "mail_retries",
        "Failed attempts to send a mail that were repeated";
    mails_failed: Family<Reason, Counter> = "mails_failed",
        "Mails that were not sent, by reason";

    // Ingest
    ingest_standby: Gauge = "ingest_standby",
        "1 while another server ingests the messages of the topic prefix, and this one waits to take over";
    ingest_queue_full: Counter = "ingest_queue_full",
        "Times the ingest queue was full and reading from the broker paused";
    ingest_batches: Counter = "ingest_batches",
        "Ingest batches committed to the database";
    ingest_copied: Counter = "ingest_batches_copied",
        "Ingest batches whose readings were inserted by COPY, as those of many readings are";
    ingest_not_copied: Counter = "ingest_copies_failed",
        "Times COPY failed and the readings were inserted otherwise, for example because one of them was stored already";
    ingest_oldest_unstored: Age = "ingest_oldest_unstored_seconds",
        "Age of the oldest received MQTT message that is not stored yet, or of the presence timeouts that are being stored; 0 while there are none";
    ingest_queue: Gauge = "ingest_queue_messages",
        "MQTT messages that stayed in the queue when the writer took its last batch";
    ingest_queue_wait: Latency = "ingest_queue_seconds",
        "Time of MQTT messages in the queue, from their receipt until the writer takes them";
    ingest_steps: Family<Step, Latency> = "ingest_batch_seconds",
        "Time of the steps of ingest batches: look_up of devices, insert or copy with the commit; also of attempts that failed";
    ingest_commit: Latency = "ingest_commit_seconds",
        "Time of MQTT messages from their receipt until their commit";
    ingest_acknowledgement: Latency = "ingest_acknowledgement_seconds",
        "Time of ingest batches from the commit until the last acknowledgement is given to the connection";
    ingest_parked: Gauge = "ingest_parked_readings",
        "Readings that are stored apart because their month takes none; exact once a minute where several servers store";
    ingest_retries: Counter = "ingest_retries",
        "Failed attempts to commit an ingest batch that were retried";
    rejected_not_stored: Counter = "rejected_messages_not_kept",
        "Rejected messages counted but not stored because their home had reached its limit per minute";
    rejected_pruned: Counter = "rejected_messages_pruned",
        "Stored rejected messages deleted because their home had too many newer ones";
    readings_dropped: Counter = "readings_dropped",
        "Values of a wrong type or size left out of messages that were stored";

    // Accounts of devices at the broker
    broker_account_changes: Counter = "broker_account_changes",
        "Device accounts created, changed or deleted at the broker";
    broker_account_refusals: Counter = "broker_account_refusals",
        "Changes of device accounts that the broker refused";
    broker_cleanups: Counter = "broker_cleanups",
        "Deleted devices of which the broker was made to delete the session and the retained messages; an hour later again";
    broker_accounts_missing: Gauge = "broker_accounts_missing",
        "Device accounts that the broker should have but lacks";
    broker_auth_requests: Family<Reason, Counter> = "broker_questions",
        "Authentication and authorization requests from brokers at MQTT_AUTH_ADDR, by outcome";
    broker_auth_from_cache: Counter = "broker_answers_remembered",
        "Broker authentication requests answered from the cache because the database was unavailable";
    broker_auth_cache_evictions: Counter = "broker_answers_dropped",
        "Entries evicted from the full cache of broker authentication results";

    // Sessions and database
    revocations_followed: Gauge = "revocations_followed",
        "1 while session and membership revocations of other servers are being read";
    clock_ahead: Gauge<f64, AtomicU64> = "clock_ahead_seconds",
        "How far the server's clock is ahead of the database's";
    db_statements: Counter = "db_statements",
        "SQL statements sent by the API's connection pool";
    db_statement_time: Latency = "db_statement_seconds",
        "Time of SQL statements of the API's connection pool until PostgreSQL's answer begins";
    db_pool_wait: Latency = "db_pool_wait_seconds",
        "Time that requests waited for a connection of the API's pool, also where they got none";
    db_pool_connections: Family<PoolState, Sampled> = "db_pool_connections",
        "Open connections of the API's pool, by state: idle or busy";
    db_pool_limit: Gauge = "db_pool_connections_limit",
        "Most connections of the API's pool (DATABASE_POOL_SIZE)";
    db_pool_waiting: Gauge = "db_pool_waiting",
        "Requests that wait for a connection of the API's pool";

    // GraphQL
    graphql_operations: Family<Kind, Latency> = "graphql_operation_seconds",
        "Time of GraphQL operations over all transports, by kind; of a subscription until it ended";
    graphql_budget_exhausted: Counter = "graphql_exhausted",
        "GraphQL operations stopped because they exceeded their budget of objects or bytes";
    graphql_answers_too_large: Counter = "graphql_answers_too_large",
        "GraphQL responses replaced by an error because they were too large";
    hub_waiting: Family<Stream, Sampled> = "hub_events_waiting",
        "Live events that the slowest subscriber of a home or a device has not taken yet, by stream";
    subscriptions: Gauge = "subscriptions",
        "Running GraphQL subscriptions of homes and devices";
    subscription_responses_rendered: Counter = "subscription_responses_rendered",
        "Responses of subscriptions that were executed and serialized";
    subscription_responses_shared: Counter = "subscription_responses_shared",
        "Responses of subscriptions that were taken from an equal operation";
    subscription_catch_ups: Counter = "subscription_catch_ups",
        "Events sent to slow subscribers from the database instead of from memory";
    subscription_delivery: Family<Transport, Latency> = "subscription_delivery_seconds",
        "Time of live events from their publication after the commit until they are written to the client's connection";
    subscriptions_lagged: Counter = "subscriptions_lagged",
        "Subscriptions ended with LAGGED because their reader was too slow";

    // Traces
    spans_sent: Counter = "spans_sent",
        "Spans of traces that the collector has taken";
    spans_dropped: Family<Reason, Counter> = "spans_dropped",
        "Spans of traces that were dropped, by reason: QUEUE_FULL, or EXPORT_FAILED at the collector";

    // HTTP
    http_requests: Family<HttpResponses, Counter> = "http_requests",
        "HTTP requests by route and class of the status; 1xx is a request that opened a WebSocket";
    http_request_time: Family<HttpRoute, Latency> = "http_request_seconds",
        "Time of HTTP requests until the response's head and, unless it is streamed, its body are ready, by route";
    http_connections: Gauge = "http_connections",
        "Open HTTP connections, without WebSockets";
    tls_handshakes: Family<Status, Counter> = "tls_handshakes",
        "TLS handshakes of the server's own listeners, by result: ok, or failed (no TLS, not in time, or the client does not \
         accept the certificate)";
    tls_certificate_expires: Reported = "tls_certificate_expiry_timestamp_seconds",
        "When the first certificate of HTTP_TLS_CERT_FILE expires, in seconds since 1970; NaN without one";
    http_connections_full: Counter = "http_connections_full",
        "Times the limit on open HTTP connections was reached";
    http_connections_cut: Counter = "http_connections_cut",
        "HTTP connections closed at once because their peer had too many open";
    http_refused: Family<Reason, Counter> = "http_refused",
        "GraphQL requests refused before execution, by error code";
    log_lines_left_out: Counter = "log_lines_left_out",
        "Refused requests, operations and sockets without a line in the log because there were more than 50 a second";
    http_subscriptions: Gauge = "http_streams",
        "Running subscriptions over WebSockets, server-sent events and multipart responses";
    quota_exceeded: Family<Reason, Counter> = "quota_exceeded",
        "WebSockets, subscriptions and operations refused because a user or an address had too many at once or held too \
         much memory, by limit";
    request_memory: Gauge = "request_memory_bytes",
        "Memory of running operations and of responses that their clients have not taken yet";
    sockets: Family<Protocol, Gauge> = "sockets",
        "Open WebSockets, by subprotocol";
    sockets_closed: Family<Reason, Counter> = "sockets_closed",
        "WebSockets closed by the server, by reason";
}

impl Metrics {
    /// All at zero. Series with labels begin when they are first used, or with [`crate::app`]'s list of them.
    pub fn new() -> Self {
        Self(Arc::new(MetricSet::registered()))
    }

    /// Counts one rejected message.
    pub fn count_rejected(&self, reason: &'static str) {
        self.mqtt_rejected.get_or_create(&Reason { reason }).inc();
        self.mqtt_rejected_total.inc();
    }

    /// Counts one status change of a command.
    pub fn count_command(&self, status: &'static str) {
        self.commands.get_or_create(&Status { status }).inc();
    }

    /// Counts one request of a broker.
    pub fn count_broker_auth(&self, outcome: &'static str) {
        self.broker_auth_requests.get_or_create(&Reason { reason: outcome }).inc();
    }

    /// Counts one request refused before execution.
    pub fn count_http_rejection(&self, code: &'static str) {
        self.http_refused.get_or_create(&Reason { reason: code }).inc();
    }

    /// Counts one socket or subscription refused by a quota.
    pub fn count_quota_exceeded(&self, quota: &'static str) {
        self.quota_exceeded.get_or_create(&Reason { reason: quota }).inc();
    }

    /// The histogram of the events that reach clients by this transport.
    pub fn delivery_by(&self, transport: &'static str) -> Latency {
        self.subscription_delivery.get_or_create(&Transport { transport }).clone()
    }

    /// Counts one socket closed by the server.
    pub fn count_closed_socket(&self, reason: &'static str) {
        self.sockets_closed.get_or_create(&Reason { reason }).inc();
    }

    /// All metrics in the text format of Prometheus.
    pub fn render_plain(&self) -> String {
        plain::plain(&self.render())
    }

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string");
        text
    }
}
