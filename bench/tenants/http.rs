//! GraphQL over HTTP from a chosen address of the loopback network: each account has an address of its own, as it has
//! in life, and limits of addresses meet whom they are meant for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{find, graphql_request};

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request has no data.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `extensions.code`, or what else happened.
    pub(super) code: String,
    /// How long the server asks to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), retry_after: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.code)
    }
}

impl std::error::Error for Refusal {}

/// One client on one kept-alive connection. A clone has a connection of its own.
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    pub(super) from: Ipv4Addr,
    pub(super) token: Option<String>,
    kept: Option<TcpStream>,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self { addr: self.addr, from: self.from, token: self.token.clone(), kept: None }
    }
}

impl Client {
    pub(super) fn new(addr: SocketAddr, from: Ipv4Addr) -> Self {
        Self { addr, from, token: None, kept: None }
    }

    /// The `data` of an operation, if it has no errors.
    pub(super) async fn ask(&mut self, query: &str, variables: &Value) -> Result<Value, Refusal> {
        let request = graphql_request(self.token.as_deref(), query, variables);
        self.send(&request).await
    }

    /// The same for a request that is encoded already.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<Value, Refusal> {
        match timeout(PATIENCE, self.exchange(request)).await {
            Err(_) => Err(Refusal::new("TIMEOUT")),
            Ok(Err(error)) => Err(Refusal::new(format!("{:?}", error.kind()))),
            Ok(Ok((status, body))) => judge(status, &body),
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        // The server closes a connection that was idle for a while: then the request goes over another one.
        if let Some(mut stream) = self.kept.take()
            && let Ok(answer) = exchange(&mut stream, request).await
        {
            self.kept = Some(stream);
            return Ok(answer);
        }
        let mut stream = connect(self.addr, self.from, None).await?;
        let answer = exchange(&mut stream, request).await?;
        self.kept = Some(stream);
        Ok(answer)
    }
}

/// A connection from this address, with a receive buffer of so many bytes if given.
pub(super) async fn connect(addr: SocketAddr, from: Ipv4Addr, receive: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn judge(status: u16, body: &[u8]) -> Result<Value, Refusal> {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let extensions = &answer["errors"][0]["extensions"];
    if let Some(code) = extensions["code"].as_str() {
        let retry_after = extensions["retryAfterSeconds"].as_u64().map(Duration::from_secs);
        return Err(Refusal { code: code.to_owned(), retry_after });
    }
    if status != 200 || !answer["errors"].is_null() {
        return Err(Refusal::new(format!("HTTP {status}")));
    }
    Ok(answer["data"].take())
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    stream.write_all(request).await?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let head = loop {
        if let Some(at) = find(&buffer, b"\r\n\r\n") {
            break at + 4;
        }
        fill(stream, &mut buffer).await?;
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let end = head + length.ok_or(io::ErrorKind::InvalidData)?;
    while buffer.len() < end {
        fill(stream, &mut buffer).await?;
    }
    Ok((status, buffer.split_off(head)))
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
