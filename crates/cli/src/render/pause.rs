//! Pauses: begun, ended, and loudly on every page that they matter on.

use muster_common::time::Timestamp;
use muster_wire::proto::v1::{Pause, ResumeResponse};

use super::amount::{age, instant_or_nothing};

/// That a pause began.
#[must_use]
pub fn begun(pause: &Pause, now: Timestamp) -> String {
    format!("{}: automation and schedules are off {}\nHINT: sooner: {}\n", whose(&pause.component), until(pause, now), command(pause))
}

/// That one ended, and what still pauses it.
#[must_use]
pub fn ended(component: &str, answer: &ResumeResponse, now: Timestamp) -> String {
    let mut text = match &answer.ended {
        Some(_) => format!("{}: automation and schedules go on\n", whose(component)),
        None => format!("{} was not paused\n", whose(component)),
    };
    if let Some(remaining) = &answer.remaining {
        text.push_str(&loud(remaining, now));
    }
    text
}

/// The line that nobody can miss.
#[must_use]
pub fn loud(pause: &Pause, now: Timestamp) -> String {
    let all = if pause.component.is_empty() { " for all" } else { "" };
    format!(
        "  ! PAUSED{all} by {} {}: {}; automation and schedules are off; sooner: {}\n",
        pause.by,
        until(pause, now),
        pause.reason,
        command(pause)
    )
}

fn whose(component: &str) -> &str {
    if component.is_empty() { "all components" } else { component }
}

fn until(pause: &Pause, now: Timestamp) -> String {
    format!("until {} ({})", instant_or_nothing(pause.until.as_ref()), age(pause.until.as_ref(), now))
}

fn command(pause: &Pause) -> String {
    if pause.component.is_empty() { "muster resume --all".to_owned() } else { format!("muster resume {}", pause.component) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(component: &str) -> Pause {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        Pause { component: component.into(), since: at(0), until: at(7_200), reason: "moving the disks".into(), by: "operator/ada".into() }
    }

    #[test]
    fn a_pause_is_told_with_its_end_and_what_ends_it_sooner() {
        assert_eq!(
            begun(&pause("orders-db"), Timestamp(0)),
            "orders-db: automation and schedules are off until 1970-01-01 02:00:00Z (in 2h)\nHINT: sooner: muster resume orders-db\n"
        );
        assert_eq!(
            loud(&pause(""), Timestamp(0)),
            "  ! PAUSED for all by operator/ada until 1970-01-01 02:00:00Z (in 2h): moving the disks; automation and schedules are off; \
             sooner: muster resume --all\n"
        );
    }

    #[test]
    fn who_resumes_one_is_told_that_all_are_paused_still() {
        let answer = ResumeResponse { ended: None, remaining: Some(pause("")) };
        let text = ended("orders-db", &answer, Timestamp(0));
        assert!(text.starts_with("orders-db was not paused\n  ! PAUSED for all"), "{text}");
    }
}
