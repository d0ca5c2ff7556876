//! The configuration around the permit: its include line, which is the last one, and what goes before it all the same. Pure.

use std::path::Path;

use crate::restore::configuration::setting_name;

/// Ends the include line, so that it is known again wherever a copy carries it.
const OURS: &str = "# by Muster: without this file the server does not start";

/// The include line of a permit.
#[must_use]
pub fn include_line(permit: &Path) -> String {
    format!("include '{}' {OURS}", permit.display())
}

fn is_ours(line: &str) -> bool {
    line.trim_start().starts_with("include ") && line.trim_end().ends_with(OURS)
}

/// The configuration with the include line of `permit`, and no other one of Muster's, as its last line.
#[must_use]
pub fn with_include(text: &str, permit: &Path) -> String {
    let mut changed = without_include(text);
    changed.push_str(&include_line(permit));
    changed.push('\n');
    changed
}

/// The configuration without any include line of Muster's.
#[must_use]
pub fn without_include(text: &str) -> String {
    text.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect()
}

/// What stands behind the include line of `permit`: settings there win over it. `None`: the line is not there.
#[must_use]
pub fn behind_include(text: &str, permit: &Path) -> Option<Vec<String>> {
    let line = include_line(permit);
    let mut lines = text.lines();
    lines.by_ref().find(|one| one.trim() == line)?;
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    Some(lines.filter(says).map(|line| line.trim().to_owned()).collect())
}

/// Which of `names` a configuration sets.
#[must_use]
pub fn sets(text: &str, names: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = text.lines().filter_map(setting_name).filter(|name| names.contains(&name.as_str())).collect();
    found.sort();
    found.dedup();
    found
}

/// A configuration without its lines that set `names`.
#[must_use]
pub fn without(text: &str, names: &[&str]) -> String {
    let stays = |line: &&str| setting_name(line).is_none_or(|name| !names.contains(&name.as_str()));
    text.lines().filter(stays).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_include_line_is_the_last_one_and_stands_once() {
        let (own, other) = (Path::new("/run/muster/a.b.conf"), Path::new("/run/muster/a.c.conf"));
        let text = with_include("port = 1\nwork_mem = '8MB'", other);
        assert!(text.starts_with("port = 1\nwork_mem = '8MB'\ninclude '/run/muster/a.c.conf' #"), "{text}");
        // A copy that travelled with its configuration.
        let text = with_include(&text, own);
        assert_eq!(text.matches("include").count(), 1);
        assert_eq!(with_include(&text, own), text);
        assert_eq!(behind_include(&text, own), Some(Vec::new()));
        assert_eq!(behind_include(&text, other), None);
        let later = format!("{text}\n# said\nfsync = off\n");
        assert_eq!(behind_include(&later, own), Some(vec!["fsync = off".to_owned()]));
        assert_eq!(without_include(&text), "port = 1\nwork_mem = '8MB'\n");
    }

    #[test]
    fn settings_are_found_and_taken_out_by_name() {
        let text = "# primary_conninfo = 'x'\nPrimary_Conninfo = 'y'\nwork_mem='1MB'\nsynchronous_standby_names=''\n";
        let names = ["primary_conninfo", "synchronous_standby_names", "primary_slot_name"];
        assert_eq!(sets(text, &names), ["primary_conninfo", "synchronous_standby_names"]);
        assert_eq!(without(text, &names), "# primary_conninfo = 'x'\nwork_mem='1MB'\n");
    }
}
