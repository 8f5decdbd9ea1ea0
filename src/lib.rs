//! Smart-home backend: MQTT in, PostgreSQL, hubs, GraphQL out. The modules in reading order:
//!
//! | Start | |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`app`] | the composition root: makes, starts and stops every part |
//! | [`settings`], [`logging`] | the environment as typed settings; the log |
//! | [`dev`] | `smarthome dev`: server, PostgreSQL and broker on one machine |
//! | `doctor` | `smarthome doctor`: checks of an installation from outside |
//!
//! | Base | |
//! |---|---|
//! | [`ids`], [`error`], [`clock`] | typed ids, the one error type, the wall clock |
//! | [`db`] | PostgreSQL: pool, transactions, statements in `.sql` files, migrations |
//! | [`mod@text_enum`], [`validation`] | enumerations with a text, checks of names |
//! | [`hub`], [`follow`] | fan-out per home and per device; a stream that catches up from the database |
//! | [`backoff`], [`background`], [`latch`] | pauses between retries; periodic work, leader election; one-time facts |
//! | [`rate`], [`throttle`] | GCRA rate limiter; limits on passwords and addresses |
//! | [`opaque_token`], [`secret_box`], [`tls`] | random tokens, encryption at rest, TLS of clients and of the listener |
//! | [`request_memory`], [`turns`] | the memory of running operations and of responses on their way; whose operation is next |
//! | [`metrics`], [`traces`], [`mail`] | Prometheus metrics; traces to a collector; outgoing mail |
//! | [`auth`], [`revocation`] | access tokens; their end before they expire |
//! | [`audit`] | the audit log |
//! | [`downlink`], [`outbox`] | the port towards devices; delivery of stored messages |
//!
//! | Features | |
//! |---|---|
//! | [`users`] | accounts, sessions, external identities |
//! | [`homes`] | homes, members, permissions |
//! | [`devices`] | registry, credentials, presence, states |
//! | [`telemetry`] | readings: recording, history, live streams |
//! | [`commands`], [`device_config`] | what is sent to devices |
//! | [`account_deletion`] | an account leaves its homes, then it is deleted |
//!
//! | Edges | |
//! |---|---|
//! | [`mqtt`], [`ingest`] | the connection to the broker; from a message to a commit |
//! | [`authentication`], [`graphql`], [`http`] | who calls; the schema; HTTP, WebSocket, SSE |
//! | [`simulator`] | virtual devices over real MQTT |

pub mod app;
pub mod cli;
pub mod dev;
mod doctor;
pub mod logging;
pub mod settings;

pub mod audit;
pub mod auth;
pub mod background;
pub mod backoff;
pub mod clock;
pub mod db;
pub mod downlink;
pub mod error;
pub mod follow;
pub mod hub;
pub mod ids;
pub mod latch;
pub mod mail;
pub mod metrics;
pub mod opaque_token;
pub mod outbox;
pub mod rate;
pub mod request_memory;
pub mod revocation;
pub mod secret_box;
pub mod standby;
pub mod text_enum;
pub mod throttle;
pub mod tls;
pub mod traces;
pub mod turns;
pub mod validation;

pub mod account_deletion;
pub mod commands;
pub mod device_config;
pub mod devices;
pub mod homes;
pub mod telemetry;
pub mod users;

pub mod authentication;
pub mod graphql;
pub mod http;
pub mod ingest;
pub mod mqtt;
pub mod simulator;
