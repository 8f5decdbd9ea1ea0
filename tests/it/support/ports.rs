//! Ports for programs that are told on which one to listen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that Linux gives to clients and to listeners on port 0 (`net.ipv4.ip_local_port_range`): none of
/// them gets one of these before the program has it.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A port that was free a moment ago. Tests in processes of their own begin to look at different places.
pub fn free_port() -> u16 {
    const PORTS_OF_A_PROCESS: u32 = 37;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(PORTS_OF_A_PROCESS);
    PORTS
        .map(|_| PORTS.start + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start))
        .map(|port| u16::try_from(port).expect("a port has 16 bits"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
