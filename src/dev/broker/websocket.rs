//! Accepts WebSocket clients at any path, as Mosquitto does: the embedded broker knows `/mqtt` only, and clients often
//! connect to `ws://host:9001` without a path. The relay replaces the path of the request and passes on everything else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The path that the broker knows.
pub(super) const PATH: &str = "/mqtt";
/// Bytes of the request line.
const MAX_LINE: usize = 1024;
/// Time to send it.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the process may be out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Passes on connections until it is dropped.
pub(super) async fn relay(listener: TcpListener, broker: SocketAddr) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if connections.len() < super::MAX_CLIENTS => {
                    connections.spawn(async move {
                        if let Err(error) = pass_on(client, broker).await {
                            tracing::debug!(%error, "a WebSocket connection ended");
                        }
                    });
                }
                Ok(_) => tracing::debug!("too many WebSocket connections"),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass_on(mut client: TcpStream, broker: SocketAddr) -> io::Result<()> {
    let line = tokio::time::timeout(LINE_TIMEOUT, request_line(&mut client)).await??;
    let mut server = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(line.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Reads the request line and returns it with the broker's path. Reads nothing behind it.
async fn request_line(client: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(io::Error::other("the request line is too long"));
        }
        line.push(client.read_u8().await?);
    }
    let text = String::from_utf8(line).map_err(io::Error::other)?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(method), Some(_), Some(version)) => Ok(format!("{method} {PATH} {version}\r\n")),
        _ => Err(io::Error::other("no HTTP request")),
    }
}
