//! The status of the server.

use async_graphql::{Context, Object, SimpleObject};
use prometheus_client::metrics::counter::Counter;

use super::context::ContextExt;
use super::error::Result;
use super::scalars::int;
use crate::db;
use crate::metrics::Reported;

/// The status of the server. Counters start at zero with the server and stop at 2147483647, the largest `Int`.
/// `/metrics` has no such limit.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct ServerStatus {
    /// The version of the server.
    version: &'static str,
    /// Seconds since the server started.
    uptime_seconds: i32,
    /// The connection to the MQTT broker.
    mqtt: MqttStatus,
    /// The connection to the database.
    database: DatabaseStatus,
}

/// The connection to the MQTT broker. `messagesReceived` is the sum of `messagesStored`, `messagesDuplicate`,
/// `messagesRejected` and the messages in flight.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct MqttStatus {
    /// Whether the server is connected and subscribed.
    connected: bool,
    /// Messages received from the broker, including redeliveries.
    messages_received: i32,
    /// Messages sent to the broker and acknowledged by it.
    messages_sent: i32,
    /// Failed or lost connections.
    connection_errors: i32,
    /// Messages whose content is stored.
    messages_stored: i32,
    /// Redelivered messages that were already stored.
    messages_duplicate: i32,
    /// Messages that the server could not process (see `rejectedMessages`), or dropped because their device
    /// exceeded a limit (see `Device.shedMessages`).
    messages_rejected: i32,
    /// Clients connected to the broker, as the broker reports it. Null if it does not report it.
    broker_clients_connected: Option<i32>,
    /// MQTT packets that the broker has received since it started. Null if it does not report it.
    broker_messages_received: Option<i32>,
    /// MQTT packets that the broker has sent since it started. Null if it does not report it.
    broker_messages_sent: Option<i32>,
    /// Messages that the broker has dropped since it started because a queue was full. Null if it does not report it.
    broker_messages_dropped: Option<i32>,
}

/// The connection to the database.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct DatabaseStatus {
    /// Whether the database answers.
    connected: bool,
}

fn count(counter: &Counter) -> i32 {
    i32::try_from(counter.get()).unwrap_or(i32::MAX)
}

fn reported(gauge: &Reported) -> Option<i32> {
    gauge.get().map(int)
}

#[derive(Default)]
pub(super) struct StatusQuery;

#[Object]
impl StatusQuery {
    /// The status of the server.
    async fn server_status(&self, ctx: &Context<'_>) -> Result<Option<ServerStatus>> {
        ctx.person()?;
        let services = ctx.services();
        let metrics = &services.metrics;
        Ok(Some(ServerStatus {
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
                broker_clients_connected: reported(&metrics.broker_clients),
                broker_messages_received: reported(&metrics.broker_received),
                broker_messages_sent: reported(&metrics.broker_sent),
                broker_messages_dropped: reported(&metrics.broker_dropped),
            },
            database: DatabaseStatus { connected: db::is_reachable(&services.pool).await },
        }))
    }
}
