//! What is shipped in `deploy/`: the unit for systemd, and the configurations of proxies, with real proxies.

mod client;
mod proxies;
mod systemd;
