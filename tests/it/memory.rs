//! What attacks leave behind in the memory of a real server process.
//!
//! A debug build needs as much memory for data as a release build, so the bounds are those of the product.

use futures_util::future::join_all;
use serde_json::json;

use super::support::app::Database;
use super::support::server::Server;
use super::support::services::services;
use super::support::user::User;
use super::support::within;

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
