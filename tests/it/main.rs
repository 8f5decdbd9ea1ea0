//! One binary for all tests that need a socket, a broker or a database.

mod edge;
mod http;
mod protocol_ws;
mod query_bombs;
