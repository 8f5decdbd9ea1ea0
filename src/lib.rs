//! Smart-home backend: MQTT in, PostgreSQL, hub, GraphQL out.

pub mod app;
pub mod auth;
pub mod clock;
pub mod db;
pub mod dev;
pub mod devices;
pub mod downlink;
pub mod error;
pub mod graphql;
pub mod homes;
pub mod http;
pub mod hub;
pub mod ids;
pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod mqtt;
pub mod names;
pub mod opaque;
pub mod outbox;
pub mod revocation;
pub mod settings;
pub mod simulator;
pub mod telemetry;
pub mod throttle;
pub mod users;
