//! One binary for all tests that need a server, a broker or a database.

mod access;
mod broker_auth;
mod canaries;
mod control;
mod control_chaos;
mod crash;
mod dev;
mod dynsec;
mod edge;
mod graphiql;
mod health;
mod http;
mod limits;
mod mosquitto_files;
mod mosquitto_tls;
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
