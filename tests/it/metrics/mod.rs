//! What `/metrics` says of a running server.

mod broker_state;
mod document;
mod promtool;
mod series;
mod shipped;
mod time;
