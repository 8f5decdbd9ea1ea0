//! A TCP proxy that a test can cut, stall or slow, in front of a broker or a database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with every byte, on existing and new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards it.
    Pass,
    /// Holds it while this is the mode; connections stay open.
    Stall,
    /// Closes existing connections and refuses new ones.
    Cut,
    /// Forwards it after a delay.
    Delay(Duration),
}

/// What the proxy forwards to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The proxy; ends with the value.
pub struct Proxy {
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback.
    pub async fn start(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let (mode, watched) = watch::channel(Mode::Pass);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), watched.clone()));
            }
        });
        Self { addr, mode, task }
    }

    /// Where to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the mode at once.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, target: Target, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let mut server: Box<dyn Stream> = match target {
        Target::Tcp(addr) => match TcpStream::connect(addr).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let _ = client.set_nodelay(true);
    // Each direction is a pipe in memory whose ends obey the mode.
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let (from_client, to_client) = tokio::io::split(far);
    let (client_read, client_write) = client.split();
    let mut cut = mode.clone();
    tokio::select! {
        () = relay(client_read, to_client, mode.clone()) => {}
        () = relay(from_client, client_write, mode) => {}
        _ = copy_bidirectional(&mut near, &mut server) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn relay(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let now = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode);
        if let Ok(Mode::Delay(time)) = now {
            tokio::time::sleep(time).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
