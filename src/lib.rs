//! Smart-home backend: MQTT in, PostgreSQL, hub, GraphQL out.

pub mod auth;
pub mod clock;
pub mod db;
pub mod devices;
pub mod error;
pub mod graphql;
pub mod http;
pub mod hub;
pub mod ids;
pub mod logging;
pub mod metrics;
pub mod settings;
pub mod telemetry;
