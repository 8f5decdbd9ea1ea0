//! The registry of devices, and what each last said of itself.

mod mac;
mod state;

pub use mac::{Mac, MacError};
pub use state::{DeviceState, Report, StateHub, StatusReport};
