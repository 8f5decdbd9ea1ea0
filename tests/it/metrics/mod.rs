//! What `/metrics` and the log say of a running server.

mod broker_state;
mod document;
mod promtool;
mod request_log;
mod series;
mod shipped;
mod time;
