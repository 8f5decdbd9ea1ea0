//! `smarthome dev`: the server, its database and its broker on one machine without any setup. Nothing in this
//! module runs in `serve`.

pub mod broker;
mod demo;
mod folder;
pub mod postgres;
mod run;
mod startup_banner;

pub use run::{Args, run};
