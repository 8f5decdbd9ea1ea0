//! The labels of series.

use prometheus_client::encoding::EncodeLabelSet;

/// Declares label sets of texts.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($label:ident),* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $(pub $label: &'static str,)*
        }
    )* };
}

labels! {
    /// The reason or outcome of what is counted.
    Reason { reason }
    /// The name of an outbox.
    OutboxLabel { outbox }
    /// The status of a command.
    Status { status }
    /// The step of an ingest batch.
    Step { step }
    /// The kind of a GraphQL operation.
    Kind { kind }
    /// The state of a pool's connections.
    PoolState { state }
    /// The subprotocol of a WebSocket.
    Protocol { protocol }
    /// The kind of live events.
    Stream { stream }
    /// How events reach a client.
    Transport { transport }
    /// The path of HTTP requests.
    HttpRoute { route }
    /// The path of HTTP requests, and the class of the status of their responses, such as `2xx`.
    HttpResponses { route, status }
}
