//! `smarthome health`, as an image's health check runs it.

use std::net::SocketAddr;

use crate::support::app::TestApp;

async fn asks(addr: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_smarthome"));
    command.arg("health").args(arguments).env_clear().env("HTTP_ADDR", addr.to_string()).kill_on_drop(true);
    let output = crate::support::soon("smarthome health", command.output()).await.expect("the binary runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_exit_status_is_the_answer() {
    let app = TestApp::start().await;
    assert_eq!(asks(app.addr(), &[]).await, (true, String::new()));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], app.addr().port()));
    assert_eq!(asks(everywhere, &[]).await, (true, String::new()));
    let ready = || async { asks(app.addr(), &["--ready"]).await.0.then_some(()) };
    crate::support::eventually("it is ready", ready).await;

    // A broker that is not there: the server lives, but is not ready.
    let lonely = TestApp::builder().set("MQTT_BROKER_URL", "mqtt://127.0.0.1:1").start().await;
    assert!(asks(lonely.addr(), &[]).await.0);
    let (is_ready, why) = asks(lonely.addr(), &["--ready"]).await;
    assert!(!is_ready && why.contains("no link to the MQTT broker"), "{why}");
    let addr = lonely.addr();
    lonely.stop().await;
    assert!(!asks(addr, &[]).await.0);
    app.stop().await;
}
