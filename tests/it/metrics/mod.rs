//! What `/metrics` says of a running server.

mod document;
mod promtool;
mod series;
mod time;
