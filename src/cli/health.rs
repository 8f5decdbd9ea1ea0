//! A health check of the local server, for container images without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{Environment, HttpSettings};
use crate::tls;
use anyhow::{Context, bail};
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time for the whole request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of the response that are read.
const MAX_RESPONSE: u64 = 4 << 10;

/// Check that the local server is running; the exit status is 0 if it is. Reads HTTP_ADDR, HTTP_TLS_CERT_FILE
/// and HTTP_TLS_KEY_FILE.
#[derive(Args)]
pub(crate) struct Health {
    /// Check that it is ready instead: connected to the database and the broker.
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let HttpSettings { mut addr, tls, .. } = HttpSettings::read(&Environment)?;
        if addr.ip().is_unspecified() {
            let loopback = if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
            addr.set_ip(loopback);
        }
        let path = if self.ready { "/readyz" } else { "/livez" };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let getting = async {
            let stream = TcpStream::connect(addr).await?;
            let Some(files) = tls else { return get(stream, addr, path).await };
            let connector = TlsConnector::from(Arc::new(tls::pinned_client_config(&files.cert)?));
            get(connector.connect(addr.ip().into(), stream).await?, addr, path).await
        };
        let response = tokio::time::timeout(TIMEOUT, getting).await.context("no response in time")?;
        let response = response.with_context(|| format!("GET {scheme}://{addr}{path}"))?;
        if !response.starts_with("HTTP/1.1 200 ") {
            bail!("{}", response.lines().last().unwrap_or("an empty response"));
        }
        Ok(())
    }
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, addr: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}
