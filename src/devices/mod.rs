//! The registry of devices, and what each last said of itself.

mod state;

pub use state::{DeviceState, StateHub};
