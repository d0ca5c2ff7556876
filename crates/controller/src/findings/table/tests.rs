//! The table against the enum and the guide.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_rule_has_its_own_line_and_name() {
    for (at, about) in TABLE.iter().enumerate() {
        assert_eq!(about.rule as usize, at, "{about:?}");
        assert_eq!(format!("{:?}", about.rule), about.name);
        assert_eq!(about.rule.about(), about);
        assert_eq!(Rule::named(about.name), Some(about.rule));
        assert!(!about.remedy.is_empty() && about.condition.ends_with('.'), "{about:?}");
    }
    assert_eq!(TABLE.iter().map(|about| about.name).collect::<BTreeSet<_>>().len(), TABLE.len());
}

#[test]
fn the_guide_has_the_same_table() {
    let guide = include_str!("../../../../../docs/guides/findings.md");
    let rows: Vec<String> = TABLE.iter().map(row).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !guide.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/guides/findings.md lacks:\n{}", missing.iter().map(|row| format!("{row}\n")).collect::<String>());
    let told = guide.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(told, TABLE.len(), "docs/guides/findings.md has lines of rules that are gone");
}

fn row(about: &About) -> String {
    let severity = about.severity.as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
    let damping = format!("{} s / {} s", about.raise_after.as_secs(), about.clear_after.as_secs());
    format!("| `{}` | {severity} | {} | {damping} | {} |", about.name, about.condition, about.remedy)
}
