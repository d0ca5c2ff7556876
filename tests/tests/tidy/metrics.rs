//! Metrics: the book lists every instrument of the code and no other; dashboard and alert rules ask for nothing that does not exist.

use std::collections::BTreeSet;

use crate::tree::{files, none, text};

/// What our instruments' names begin with.
const OURS: [&str; 5] = ["muster.controller.", "muster.agent.", "muster.component.", "muster.instance.", "muster.finding"];

/// Names of instruments in the code, as they are scraped, without the counters' ending.
fn instruments() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files().into_iter().filter(|path| path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs")) {
        let source = text(&path).expect("sources are text");
        for quoted in source.split('"') {
            let plain = quoted.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
            if plain && OURS.iter().any(|ours| quoted.starts_with(ours)) {
                names.insert(quoted.replace('.', "_"));
            }
        }
    }
    names
}

/// Names that the book's table lists, without the counters' ending.
fn listed() -> BTreeSet<String> {
    let guide = text("docs/guides/metrics.md").expect("documents are text");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(|name| name.trim_end_matches("_total").to_owned()).collect()
}

#[test]
fn the_book_lists_every_metric_and_no_other() {
    let (code, book) = (instruments(), listed());
    assert!(code.len() > 10, "{code:?}");
    let differs: Vec<String> = code.symmetric_difference(&book).cloned().collect();
    none("metrics that stand only in the code, or only in docs/guides/metrics.md", &differs);
}

#[test]
fn dashboard_and_alert_rules_ask_for_metrics_that_exist() {
    let known = listed();
    let mut problems = Vec::new();
    for path in files().into_iter().filter(|path| path.starts_with("deploy/grafana/") || path.starts_with("deploy/prometheus/")) {
        let source = text(&path).expect("they are text");
        for word in source.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("muster_")) {
            if !known.contains(word.trim_end_matches("_total")) {
                problems.push(format!("{path}: {word}"));
            }
        }
    }
    none("metrics that docs/guides/metrics.md does not list", &problems);
}

#[test]
fn the_dashboard_is_json_with_a_query_in_each_panel() {
    let source = text("deploy/grafana/muster.json").expect("it is text");
    let dashboard: serde_json::Value = serde_json::from_str(&source).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    assert!(panels.len() > 8 && panels.iter().all(|panel| panel["targets"][0]["expr"].as_str().is_some_and(|expr| !expr.is_empty())));
}
