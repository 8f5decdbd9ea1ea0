//! GraphQL: the schema and the engine in front of it.

pub mod answer;
pub mod call;
pub mod cost;
pub mod document;
pub mod engine;
pub mod gate;
mod nulls;

use std::net::IpAddr;

use crate::auth::Principal;

/// Who asks: request data of every operation.
#[derive(Clone)]
pub struct Viewer(pub Option<Principal>);

/// The client's network address: request data of every operation.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<IpAddr>);
