//! The metrics of a running server, judged by Prometheus' own tool.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::app::TestApp;
use crate::support::http;

/// Runs promtool with this input. Debian's package `prometheus` has it; `make test` installs it.
pub(super) fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed: apt-get install prometheus");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("promtool reads");
    child.wait_with_output().expect("promtool ends")
}

#[tokio::test]
async fn promtool_has_no_complaint_about_the_metrics() {
    let app = TestApp::start().await;
    let response = http::get(app.addr(), "/metrics").await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let output = promtool(&["check", "metrics"], &response.text());
    let complaints = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && complaints.is_empty(), "{}", String::from_utf8_lossy(&complaints));
    let text = "# HELP smarthome_x no counter\n# TYPE smarthome_x counter\nsmarthome_x 1\n";
    assert!(!promtool(&["check", "metrics"], text).status.success(), "promtool judges");
}

#[tokio::test]
async fn prometheus_gets_openmetrics_which_it_asks_for() {
    let app = TestApp::start().await;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let response = http::request(app.addr(), "GET", "/metrics", &[("Accept", accept)], b"").await;
    assert_eq!(response.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(response.text().ends_with("# EOF\n"));
}
