//! Processes by their ancestors and their session, out of one look through /proc; how all of them are ended.
//!
//! A process that has ended and was not waited for counts as gone.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What one look tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    parent: u32,
    session: u32,
    ended: bool,
}

fn look() -> BTreeMap<u32, Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// `pid (name) state parent group session …`; the name may hold anything.
fn parse(stat: &str) -> Option<Seen> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Seen { parent, session, ended: matches!(state, "Z" | "X") })
}

/// All that descend from a process and live.
#[must_use]
pub fn below(root: u32) -> Vec<u32> {
    let all = look();
    let descends = |pid: &u32| {
        let mut at = *pid;
        // The depth is bounded in case the look is torn.
        for _ in 0..1_000 {
            match all.get(&at) {
                Some(seen) if seen.parent == root => return true,
                Some(seen) => at = seen.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(pid, seen)| !seen.ended && descends(pid)).map(|(pid, _)| *pid).collect()
}

/// All that live in a session whose leader is gone. While the leader lives, or where its number is another's by now: none.
#[must_use]
pub fn orphans_of_session(session: u32) -> Vec<u32> {
    let all = look();
    if all.contains_key(&session) {
        return Vec::new();
    }
    all.iter().filter(|(_, seen)| !seen.ended && seen.session == session).map(|(pid, _)| *pid).collect()
}

/// Ends what `find` finds until it finds nothing: asks first, kills after `grace`. What stays after ten seconds more is answered. Blocks.
pub fn end(find: impl Fn() -> Vec<u32>, grace: Duration) -> Vec<u32> {
    let began = Instant::now();
    let mut asked = Vec::new();
    loop {
        let left = find();
        if left.is_empty() || began.elapsed() > grace + Duration::from_secs(10) {
            return left;
        }
        let kills = began.elapsed() >= grace;
        for pid in left {
            let signal = if kills { Signal::KILL } else { Signal::TERM };
            if (kills || !asked.contains(&pid))
                && let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw)
            {
                asked.push(pid);
                // It may have ended meanwhile, or belong to somebody else now: what stays is found again.
                kill_process(process, signal).ok();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name_holds() {
        let seen = parse("42 (a ) b (c) S 7 42 9 0 -1 4194560").unwrap();
        assert_eq!(seen, Seen { parent: 7, session: 9, ended: false });
        assert!(parse("42 (x) Z 7 42 9 0").unwrap().ended);
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn descendants_are_found_and_ended_also_those_that_ignore_being_asked() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "trap '' TERM; sleep 300 & sleep 300 & wait"]).spawn().unwrap();
        let root = child.id();
        let began = Instant::now();
        while below(root).len() < 2 {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(end(|| below(root), Duration::from_millis(50)), Vec::<u32>::new());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
