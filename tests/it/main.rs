//! One binary for all tests that need a server, a broker or a database.

mod control;
mod control_chaos;
mod crash;
mod dev;
mod edge;
mod graphiql;
mod http;
mod outages;
mod poison;
mod protocol_ws;
mod query_bombs;
mod registry;
mod services;
mod streams;
mod support;
mod tidy;
