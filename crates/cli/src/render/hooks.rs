//! The hooks of an operation: how each ended, and what it said.

use muster_wire::convert::duration_from_proto;
use muster_wire::proto::v1::{HookEnd, HookMoment, HookRun};

/// A line for each; where `whole`, and where it did not succeed, the lines that it said (the last ones, where not `whole`).
#[must_use]
pub fn runs(runs: &[HookRun], whole: bool) -> String {
    runs.iter().map(|run| one(run, whole)).collect()
}

/// Lines that are shown of a hook that did not succeed.
const SHOWN: usize = 5;

fn one(run: &HookRun, whole: bool) -> String {
    let moment = match run.moment() {
        HookMoment::Before => " before",
        HookMoment::After => " after",
        HookMoment::Alone | HookMoment::Unspecified => "",
    };
    let took = run.took.as_ref().and_then(|took| duration_from_proto(took, "took").ok()).unwrap_or_default();
    let passes = if run.failure_passes { ", which its declaration lets pass" } else { "" };
    let ended = match run.end() {
        HookEnd::Succeeded => "succeeded".to_owned(),
        HookEnd::Failed => format!("failed ({}){passes}", run.detail),
        HookEnd::Stopped => format!("stopped ({})", run.detail),
        HookEnd::Unknown | HookEnd::Unspecified => format!("nobody knows how it ended ({}){passes}", run.detail),
    };
    let mut text = format!("  hook {}{moment}: {ended}, {:.1}s\n", run.hook, took.as_secs_f64());
    let skip = match (whole, run.end()) {
        (true, _) => 0,
        (false, HookEnd::Succeeded) => run.output.len(),
        (false, HookEnd::Failed | HookEnd::Stopped | HookEnd::Unknown | HookEnd::Unspecified) => run.output.len().saturating_sub(SHOWN),
    };
    for line in run.output.iter().skip(skip) {
        text.push_str(&format!("    | {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_failed_is_told_with_its_last_lines_and_all_of_them_where_wanted() {
        let output = (1..=7).map(|n| format!("line {n}")).collect();
        let run = HookRun {
            hook: "thaw-app".into(),
            moment: HookMoment::After.into(),
            end: HookEnd::Failed.into(),
            exit_code: 3,
            detail: "exit code 3".into(),
            took: Some(prost_types::Duration { seconds: 1, nanos: 200_000_000 }),
            output,
            failure_passes: false,
        };
        let text = runs(std::slice::from_ref(&run), false);
        assert!(text.starts_with("  hook thaw-app after: failed (exit code 3), 1.2s\n    | line 3\n"), "{text}");
        assert!(runs(&[run], true).contains("| line 1\n"));
    }
}
