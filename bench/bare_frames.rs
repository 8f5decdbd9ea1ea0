//! The yardstick of fan-out: a loop that writes frames of the same size to as many plain sockets, and nothing else. What
//! the kernel takes for a write is most of what a subscriber costs, and it depends on the machine.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::echo::wait_until;
use crate::process;
use crate::stage::Stage;

/// The name of the running thread in /proc.
const THIS_THREAD: &str = "thread-self";

/// Writes `rate` frames of `size` bytes a second to each of `sockets`. Returns the part of a core that this takes, in
/// per cent.
pub(crate) fn share(stage: &Stage, sockets: u32, rate: u32, size: usize) -> Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let addr = listener.local_addr()?;
    let rounds = rate * stage.size.seconds;
    let writer = thread::spawn(move || write(&listener, sockets, (rounds, rate), &vec![b'x'; size]));
    stage.runtime.block_on(read(addr, sockets))?;
    writer.join().expect("the writer does not panic")
}

async fn read(addr: SocketAddr, sockets: u32) -> Result<()> {
    let mut readers = JoinSet::new();
    for _ in 0..sockets {
        let mut socket = tokio::net::TcpStream::connect(addr).await?;
        readers.spawn(async move {
            let mut bytes = [0; 4096];
            while socket.read(&mut bytes).await? > 0 {}
            anyhow::Ok(())
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    Ok(())
}

fn write(listener: &TcpListener, sockets: u32, (rounds, rate): (u32, u32), frame: &[u8]) -> Result<f64> {
    let accepted = (0..sockets).map(|_| {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        Ok(socket)
    });
    let mut sockets: Vec<TcpStream> = accepted.collect::<Result<_>>()?;
    let (cpu, start) = (process::cpu(THIS_THREAD, false), Instant::now());
    for round in 1..=rounds {
        for socket in &mut sockets {
            socket.write_all(frame)?;
        }
        wait_until(start + Duration::from_secs(round.into()) / rate);
    }
    let cpu = process::cpu(THIS_THREAD, false).saturating_sub(cpu);
    Ok(100.0 * cpu.as_secs_f64() / start.elapsed().as_secs_f64())
}
