//! `smarthome dev`: everything the product needs, on one machine, with nothing set up. What lives
//! here never runs in `serve`.

pub mod broker;
pub mod postgres;
