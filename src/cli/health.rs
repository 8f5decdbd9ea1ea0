//! Asks the server of this environment whether it lives: for images without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::settings::{Environment, HttpSettings};
use anyhow::{Context, bail};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the answer that are read.
const MAX_ANSWER: u64 = 4 << 10;

/// Ask the server on this machine whether it lives; the exit status is the answer. Reads HTTP_ADDR.
#[derive(Args)]
pub(crate) struct Health {
    /// Ask whether it is ready instead: database and broker too.
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
        let answer = tokio::time::timeout(PATIENCE, ask(addr, path)).await;
        let answer = answer.context("no answer in time")?.with_context(|| format!("ask http://{addr}{path}"))?;
        if !answer.starts_with("HTTP/1.1 200 ") {
            bail!("{}", answer.lines().last().unwrap_or("an empty answer"));
        }
        Ok(())
    }
}

async fn ask(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
