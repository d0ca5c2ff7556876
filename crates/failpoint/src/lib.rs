//! Named places in the code where a test kills, fails or holds the process.
//!
//! In a debug build `MUSTER_FAILPOINTS` is read once: `name=action` pairs separated by `;`. Actions:
//! `kill` (SIGKILL to the own process: nothing is flushed, nothing unwinds), `error` (the place fails),
//! `hold:PATH` (creates `PATH.hit`, then waits until `PATH.go` exists; a test waits for the first and makes the second).
//! `name=action@N` acts at the Nth time only, counted from 1; without it, each time. `error` with `@N+` acts from the Nth on.
//! In a release build there is nothing: [`hit`] is an empty function.

/// The failure that an `error` failpoint asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected(pub &'static str);

impl std::fmt::Display for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "failpoint {}", self.0)
    }
}

impl std::error::Error for Injected {}

/// Passes the failpoint `name`.
///
/// # Errors
/// Where the test asked this place to fail. Never in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &'static str) -> Result<(), Injected> {
    Ok(())
}

/// Passes the failpoint `name`. Blocks the thread while held: a process that is held is to look like one that hangs.
///
/// # Errors
/// Where the test asked this place to fail. Never in a release build.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) -> Result<(), Injected> {
    active::hit(name)
}

#[cfg(debug_assertions)]
mod active {
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::Injected;

    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Error,
        Hold(String),
    }

    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum When {
        Always,
        At(u64),
        From(u64),
    }

    #[derive(Debug)]
    pub(super) struct Failpoint {
        pub(super) name: String,
        pub(super) action: Action,
        pub(super) when: When,
        passed: AtomicU64,
    }

    /// A setting that cannot be read is refused loudly: a test that sets it wrong must not pass.
    pub(super) fn parse(setting: &str) -> Result<Vec<Failpoint>, String> {
        setting.split(';').filter(|part| !part.trim().is_empty()).map(|part| parse_one(part.trim())).collect()
    }

    fn parse_one(part: &str) -> Result<Failpoint, String> {
        let wrong = || format!("MUSTER_FAILPOINTS: {part:?} is not name=kill|error|hold:PATH[@N[+]]");
        let (name, rest) = part.split_once('=').ok_or_else(wrong)?;
        let (action, when) = match rest.rsplit_once('@') {
            None => (rest, When::Always),
            Some((action, n)) => match n.strip_suffix('+') {
                Some(n) => (action, When::From(n.parse().map_err(|_| wrong())?)),
                None => (action, When::At(n.parse().map_err(|_| wrong())?)),
            },
        };
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            other => Action::Hold(other.strip_prefix("hold:").filter(|path| !path.is_empty()).ok_or_else(wrong)?.to_owned()),
        };
        Ok(Failpoint { name: name.to_owned(), action, when, passed: AtomicU64::new(0) })
    }

    fn failpoints() -> &'static [Failpoint] {
        static FAILPOINTS: OnceLock<Vec<Failpoint>> = OnceLock::new();
        FAILPOINTS.get_or_init(|| {
            let setting = std::env::var("MUSTER_FAILPOINTS").unwrap_or_default();
            parse(&setting).unwrap_or_else(|wrong| {
                eprintln!("{wrong}");
                std::process::exit(2)
            })
        })
    }

    pub(super) fn hit(name: &'static str) -> Result<(), Injected> {
        for point in failpoints().iter().filter(|point| point.name == name) {
            let passed = point.passed.fetch_add(1, Ordering::SeqCst) + 1;
            let due = match point.when {
                When::Always => true,
                When::At(n) => passed == n,
                When::From(n) => passed >= n,
            };
            if due {
                act(name, &point.action)?;
            }
        }
        Ok(())
    }

    fn act(name: &'static str, action: &Action) -> Result<(), Injected> {
        match action {
            Action::Error => Err(Injected(name)),
            Action::Kill => {
                let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                eprintln!("failpoint {name}: kill answered {killed:?}");
                std::process::abort()
            }
            Action::Hold(path) => {
                if let Err(error) = std::fs::write(format!("{path}.hit"), name) {
                    eprintln!("failpoint {name}: write {path}.hit: {error}");
                    std::process::exit(2)
                }
                let go = format!("{path}.go");
                while !Path::new(&go).exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            }
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::active::{Action, When, parse};

    #[test]
    fn a_setting_names_places_actions_and_times() {
        let points = parse("a.b=kill; c=error@2+;d=hold:/tmp/x@1").unwrap();
        let told: Vec<_> = points.iter().map(|p| (p.name.as_str(), &p.action, &p.when)).collect();
        assert_eq!(
            told,
            [
                ("a.b", &Action::Kill, &When::Always),
                ("c", &Action::Error, &When::From(2)),
                ("d", &Action::Hold("/tmp/x".into()), &When::At(1))
            ]
        );
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_refused() {
        for wrong in ["a", "a=explode", "a=hold:", "a=kill@x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_that_nobody_named_passes() {
        assert_eq!(super::hit("nobody.named.this"), Ok(()));
    }
}
