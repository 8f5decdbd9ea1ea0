//! A health check of the local server, for container images without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::settings::{Environment, HttpSettings};
use anyhow::{Context, bail};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time for the whole request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of the response that are read.
const MAX_RESPONSE: u64 = 4 << 10;

/// Check that the local server is running; the exit status is 0 if it is. Reads HTTP_ADDR.
#[derive(Args)]
pub(crate) struct Health {
    /// Check that it is ready instead: connected to the database and the broker.
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut addr = HttpSettings::read(&Environment)?.addr;
        if addr.ip().is_unspecified() {
            let loopback = if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
            addr.set_ip(loopback);
        }
        let path = if self.ready { "/readyz" } else { "/livez" };
        let response = tokio::time::timeout(TIMEOUT, get(addr, path)).await;
        let response = response.context("no response in time")?.with_context(|| format!("GET http://{addr}{path}"))?;
        if !response.starts_with("HTTP/1.1 200 ") {
            bail!("{}", response.lines().last().unwrap_or("an empty response"));
        }
        Ok(())
    }
}

async fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}
