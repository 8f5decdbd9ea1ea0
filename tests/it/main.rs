//! One binary for all tests that need a server, a broker or a database.

mod crash;
mod dev;
mod edge;
mod graphiql;
mod http;
mod limits;
mod outages;
mod poison;
mod protocol_ws;
mod query_bombs;
mod registry;
mod revocation;
mod services;
mod streams;
mod support;
mod tidy;
