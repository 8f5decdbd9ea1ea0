//! `smarthome dev`: everything the product needs, on one machine, with nothing set up. What lives
//! here never runs in `serve`.

pub mod broker;
mod demo;
mod facts;
mod folder;
pub mod postgres;
mod run;

pub use run::{Args, run};
