//! The rules for Prometheus and the dashboard for Grafana that are shipped: their own tools accept them, and every metric that they
//! name is one of a running server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::promtool::promtool;
use super::series::series;
use crate::support::app::TestApp;
use crate::support::broker::folder;

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("smarthome_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// The names of all series of a server.
async fn known() -> BTreeSet<String> {
    let app = TestApp::start().await;
    let names = series(&app.app().services().metrics.render_plain());
    names.iter().map(|series| series.split('{').next().expect("a name").to_owned()).collect()
}

/// Every `expr` of the dashboard.
fn expressions(dashboard: &Value) -> Vec<String> {
    match dashboard {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    for arguments in [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]] {
        let mut command = Command::new("promtool");
        command.args(arguments).current_dir(shipped("prometheus"));
        let output = command.output().expect("promtool is installed: apt-get install prometheus");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&text));
    }
}

#[tokio::test]
async fn every_metric_of_the_rules_exists() {
    let rules = std::fs::read_to_string(shipped("prometheus/rules.yml")).expect("the rules");
    let (named, known) = (metrics(&rules), known().await);
    assert!(named.len() > 10, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "rules.yml names metrics that the server has not: {unknown:?}");
}

#[tokio::test]
async fn every_query_of_the_dashboard_can_be_read_and_names_metrics_that_exist() {
    let text = std::fs::read_to_string(shipped("grafana/smarthome.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 40, "{}", expressions.len());
    let known = known().await;
    for expression in &expressions {
        let named = metrics(expression);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{expression}: no such metric: {unknown:?}");
    }
    // JSON is YAML. Grafana replaces its variables before it asks Prometheus.
    let rule = |(n, expression): (usize, &String)| {
        let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
        json!({"record": format!("query_{n}"), "expr": expression})
    };
    let rules: Vec<Value> = expressions.iter().enumerate().map(rule).collect();
    let folder = folder();
    let file = folder.join("queries.yml");
    std::fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).expect("written");
    let output = promtool(&["check", "rules", file.to_str().expect("a path")], "");
    let complaints = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&complaints));
    std::fs::remove_dir_all(folder).expect("removed");
}
