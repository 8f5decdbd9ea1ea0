//! `docs/metrics.md` is made from the metrics of a running server.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use crate::support::app::TestApp;

const INTRODUCTION: &str = "# Metrics

This document is made from `src/metrics.rs`; a test compares it with `/metrics` of a running server.

`/metrics` needs no authentication: do not forward it at your proxy. Prometheus gets OpenMetrics, other clients the older text
format, which `promtool check metrics` reads. All series are there from the start. Counters start at zero with the process. The
buckets of all histograms end at 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250 and 500 milliseconds, and at 1, 2.5, 5, 10, 30 and 60
seconds.

[operations.md](operations.md#where-did-the-time-go) says which of them show where a reading or a request spent its time, and
[deploy/prometheus/rules.yml](../deploy/prometheus/rules.yml) has alerts.

| metric | type | labels | meaning |
|---|---|---|---|
";

/// The names of the labels of a metric, without the bounds of buckets.
fn labels(text: &str, name: &str) -> String {
    let starts = ["{", "_bucket{"].map(|suffix| format!("{name}{suffix}"));
    let series = text.lines().filter_map(|line| starts.iter().find_map(|start| line.strip_prefix(start.as_str())));
    let names = series.filter_map(|line| Some(line.rsplit_once('}')?.0.to_owned()));
    let names = names.flat_map(|labels| {
        labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect::<Vec<_>>()
    });
    let names: BTreeSet<String> = names.filter(|name| name != "le").map(|name| format!("`{name}`")).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn render(text: &str) -> String {
    let mut document = INTRODUCTION.to_owned();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a text").1;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            writeln!(document, "| `{name}` | {kind} | {} | {help} |", labels(text, name)).expect("text");
        }
    }
    document
}

#[tokio::test]
async fn the_document_of_the_metrics_matches_the_server() {
    let app = TestApp::start().await;
    let document = render(&app.app().services().metrics.render_plain());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::fs::read_to_string(path).unwrap_or_default() != document {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.md");
        std::fs::write(&file, document).expect("the file is written");
        panic!("docs/metrics.md is out of date: `cp {} docs/metrics.md`", file.display());
    }
}
