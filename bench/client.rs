//! HTTP/1.1 over one kept-alive connection, blocking: as little as a measurement of somebody else's
//! HTTP needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Longer than any time-out of the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that can be sent many times.
pub(crate) fn graphql_request(token: Option<&str>, query: &str, variables: &Value) -> Vec<u8> {
    let body = json!({"query": query, "variables": variables}).to_string();
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST /graphql HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         {authorization}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Asks once, on a connection of its own; the `data` of the answer.
pub(crate) fn ask(addr: SocketAddr, token: Option<&str>, query: &str, variables: &Value) -> Result<Value> {
    let mut http = Http::connect(addr)?;
    let (status, body) = http.exchange(&graphql_request(token, query, variables))?;
    let mut answer: Value =
        serde_json::from_slice(body).with_context(|| format!("{status}: {}", String::from_utf8_lossy(body)))?;
    ensure!(answer["errors"].is_null(), "{query}: {answer}");
    Ok(answer["data"].take())
}

/// See the module.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 256 * 1024], filled: 0 })
    }

    /// One request, one answer: its status and body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request)?;
        self.filled = 0;
        let head = loop {
            if let Some(at) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        let length: Option<usize> =
            text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let end = match length {
            Some(length) => {
                let end = head + length;
                if self.buffer.len() < end {
                    self.buffer.resize(end, 0);
                }
                while self.filled < end {
                    self.fill()?;
                }
                end
            }
            None if text.contains("transfer-encoding: chunked") => {
                bail!("the server answered in chunks, which this client does not read")
            }
            None => head,
        };
        Ok((status, &self.buffer[head..end]))
    }

    fn fill(&mut self) -> Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => bail!("the server closed the connection"),
            n => self.filled += n,
        }
        Ok(())
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
