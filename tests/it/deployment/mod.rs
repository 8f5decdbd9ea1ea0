//! What is shipped in `deploy/`: the unit for systemd, and the configurations of proxies, with real proxies. And TLS without a
//! proxy.

mod client;
mod listener;
mod proxies;
mod systemd;
