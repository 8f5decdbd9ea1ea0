//! Smart-home backend: MQTT in, PostgreSQL, hub, GraphQL out.

pub mod clock;
pub mod db;
pub mod dev;
pub mod devices;
pub mod error;
pub mod hub;
pub mod ids;
pub mod logging;
pub mod metrics;
pub mod settings;
pub mod simulator;
pub mod telemetry;
