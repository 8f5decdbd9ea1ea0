//! What attacks leave behind in the memory of a real server process.
//!
//! A debug build needs as much memory for data as a release build, so the bounds are those of the product.

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::support::app::Database;
use super::support::server::Server;
use super::support::services::services;
use super::support::user::User;
use super::support::{eventually, http, within};

/// How far above its idle size a server may stay, in MiB.
const KEPT_MIB: u64 = 20;
/// Time to give memory back: the allocator keeps freed pages for some seconds.
const GIVEN_BACK_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

const LOGIN: &str = "mutation($e: String!) { login(input: {email: $e, password: \"a wrong guess\"}) { accessToken } }";

/// A field of `/proc/PID/status`, in MiB.
fn status_mib(server: &Server, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") >> 10
}

/// Waits until the server is back to its idle size.
async fn is_back_to(server: &Server, idle: u64) {
    let what = format!("the server is back to {idle} MiB");
    let small = || std::future::ready((status_mib(server, "VmRSS") <= idle + KEPT_MIB).then_some(()));
    within(GIVEN_BACK_WITHIN, &what, small).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_sign_ins_takes_the_memory_of_two_hashes_and_returns_it() {
    let database = Database::create().await;
    let server = Server::start(&database.url(), services().mqtt_port(), &[("RATE_LIMITS", "on")]).await;
    let idle = status_mib(&server, "VmRSS");
    let stranger = User::stranger(server.addr());
    let attempts = (0..60).map(|n| stranger.error_code(LOGIN, json!({"e": format!("nobody{n}@test.example")})));
    let codes = join_all(attempts).await;
    let n_judged = codes.iter().filter(|code| *code == "UNAUTHENTICATED").count();
    let peak = status_mib(&server, "VmHWM");
    println!("{n_judged} judged; idle {idle} MiB, at most {peak} MiB, now {} MiB", status_mib(&server, "VmRSS"));
    assert_eq!(n_judged, 50, "{codes:?}");
    // Two hashes of 19 MiB, connections, and what the allocator keeps for them.
    assert!(peak <= idle + 80, "{peak} MiB, idle {idle} MiB");
    is_back_to(&server, idle).await;
}

/// 500 readings of 16 KB, in a month that no server has used.
const FILL: &str =
    "create table telemetry_large partition of telemetry for values from ('2001-10-01') to ('2001-11-01');
    insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, extra)
    select d.home_id, d.id, timestamptz '2001-10-02' + n * interval '1 minute', now(), n, false,
           jsonb_build_object('note', repeat(md5(n::text), 494))
    from devices d, generate_series(1, 500) n";
const LARGE: &str = "query($d: ID!) { device(id: $d) { telemetry(first: 500) { nodes { id extra } } } }";
/// Requests for 8 MiB of one account: 1 GB.
const N_UNREAD: usize = 127;

/// Sends a query and reads nothing.
async fn ask(user: &User, server: &Server, device: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("a small buffer");
    let mut tcp = socket.connect(server.addr()).await.expect("the server listens");
    let body = json!({"query": LARGE, "variables": {"d": device}}).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        user.token().expect("signed in"),
        body.len()
    );
    tcp.write_all(head.as_bytes()).await.expect("the request is sent");
    tcp
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_nobody_reads_take_a_bounded_part_of_the_memory_and_return_it() {
    let database = Database::create().await;
    let server = Server::start(&database.url(), services().mqtt_port(), &[("RATE_LIMITS", "on")]).await;
    let user = User::register(server.addr()).await;
    let home = user.home().await;
    let device = user.device(server.prefix(), &home, "large").await;
    database.client().await.batch_execute(FILL).await.expect("large readings");
    let idle = status_mib(&server, "VmRSS");
    let unread = join_all((0..N_UNREAD).map(|_| ask(&user, &server, &device.id))).await;
    let refused = "smarthome_quota_exceeded_total{reason=\"MEMORY_PER_USER\"}";
    eventually("the account has reached its limit", || async {
        http::get(server.addr(), "/metrics").await.text().contains(refused).then_some(())
    })
    .await;
    // Small requests of the same account are served meanwhile.
    user.query("{ me { id } }", json!({})).await;
    drop(unread);
    is_back_to(&server, idle).await;
    let peak = status_mib(&server, "VmHWM");
    println!("idle {idle} MiB, at most {peak} MiB");
    assert!(peak <= idle + 150, "{peak} MiB, idle {idle} MiB");
}
