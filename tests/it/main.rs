//! One binary for all tests that need a server, a broker or a database.

mod graphiql;
mod services;
mod support;
mod tidy;
