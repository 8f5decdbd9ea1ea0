//! The one binary, `smarthome`.

fn main() {}
