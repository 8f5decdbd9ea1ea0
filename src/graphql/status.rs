//! The server's own state in the graph.

use async_graphql::{Context, Object, SimpleObject};
use prometheus_client::metrics::counter::Counter;

use super::context::ContextExt;
use super::error::Result;
use crate::db;

/// How the server is. Counters begin at its start and stop at 2147483647, the largest `Int`; `/metrics`
/// goes on.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct ServerStatus {
    /// Version of the server.
    version: &'static str,
    /// Seconds since its start.
    uptime_seconds: i32,
    /// Its link to the broker.
    mqtt: MqttStatus,
    /// Its database.
    database: DatabaseStatus,
}

/// The link to the MQTT broker. `messagesReceived` is the sum of `messagesStored`, `messagesDuplicate`,
/// `messagesRejected` and what is under way.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct MqttStatus {
    /// Whether the link is up and subscribed.
    connected: bool,
    /// Messages taken from the broker, redelivered ones included.
    messages_received: i32,
    /// Messages handed to the broker and confirmed by it.
    messages_sent: i32,
    /// Failed or lost links.
    connection_errors: i32,
    /// Messages whose content is committed.
    messages_stored: i32,
    /// Messages that were stored already.
    messages_duplicate: i32,
    /// Messages that could not be used; see `rejectedMessages`.
    messages_rejected: i32,
    /// Clients connected to the broker, by its own count; null where it has none.
    broker_clients_connected: Option<i32>,
}

/// The database.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct DatabaseStatus {
    /// Whether it answers now.
    connected: bool,
}

fn count(counter: &Counter) -> i32 {
    i32::try_from(counter.get()).unwrap_or(i32::MAX)
}

/// Queries of the server's state.
#[derive(Default)]
pub(super) struct StatusQuery;

#[Object]
impl StatusQuery {
    /// How the server is.
    async fn server_status(&self, ctx: &Context<'_>) -> Result<ServerStatus> {
        ctx.person()?;
        let services = ctx.services();
        let metrics = &services.metrics;
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: i32::try_from(services.started.elapsed().as_secs()).unwrap_or(i32::MAX),
            mqtt: MqttStatus {
                connected: metrics.mqtt_connected.get() == 1,
                messages_received: count(&metrics.mqtt_received),
                messages_sent: count(&metrics.mqtt_sent),
                connection_errors: count(&metrics.mqtt_connection_errors),
                messages_stored: count(&metrics.mqtt_stored),
                messages_duplicate: count(&metrics.mqtt_duplicate),
                messages_rejected: count(&metrics.mqtt_rejected_total),
                broker_clients_connected: i32::try_from(metrics.broker_clients.get()).ok().filter(|n| *n > 0),
            },
            database: DatabaseStatus { connected: db::answers(&services.pool).await },
        })
    }
}
