//! Which requests go wrong, and how. Faults wait in a list; each request takes the first that is meant for it.

use std::sync::Mutex;

use anyhow::{Result, anyhow};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No answer comes and the connection stays open; the request is not carried out.
    Silence,
    /// 503 `SlowDown`; the request is not carried out.
    Throttle,
    /// 500 `InternalError`; the request is not carried out.
    Error,
    /// The request is carried out, and the connection breaks before the answer.
    LostReply,
}

/// A fault for the next `times` requests whose method and path fit.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// `PUT`, `GET`, …, or any.
    pub method: Option<&'static str>,
    /// What the path must contain; empty for any.
    pub path: String,
    /// How many fitting requests pass unharmed first.
    pub after: u32,
    /// How many are harmed then.
    pub times: u32,
}

impl Fault {
    /// For the next `times` requests of `method`.
    #[must_use]
    pub fn on(kind: Kind, method: &'static str, times: u32) -> Self {
        Self { kind, method: Some(method), path: String::new(), after: 0, times }
    }

    fn fits(&self, method: &str, path: &str) -> bool {
        self.times > 0 && self.method.is_none_or(|own| own == method) && path.contains(&self.path)
    }
}

/// The faults that wait, and how many struck.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Mutex<Vec<Fault>>,
    struck: std::sync::atomic::AtomicU64,
}

impl Faults {
    /// Adds one.
    ///
    /// # Errors
    /// Where a thread panicked with the list.
    pub fn add(&self, fault: Fault) -> Result<()> {
        self.waiting.lock().map_err(|_| anyhow!("a thread panicked with the faults"))?.push(fault);
        Ok(())
    }

    /// Takes all away.
    ///
    /// # Errors
    /// Where a thread panicked with the list.
    pub fn clear(&self) -> Result<()> {
        self.waiting.lock().map_err(|_| anyhow!("a thread panicked with the faults"))?.clear();
        Ok(())
    }

    /// How many requests were harmed so far.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.struck.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// What is to happen to this request.
    pub(super) fn strike(&self, method: &str, path: &str) -> Option<Kind> {
        let mut waiting = self.waiting.lock().ok()?;
        let fault = waiting.iter_mut().find(|fault| fault.fits(method, path))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        let kind = fault.kind;
        waiting.retain(|fault| fault.times > 0);
        self.struck.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults, Kind};

    #[test]
    fn a_fault_strikes_as_often_as_it_was_asked_to_and_only_where_it_fits() {
        let faults = Faults::default();
        faults.add(Fault { after: 1, path: "/packs/".into(), ..Fault::on(Kind::Throttle, "PUT", 2) }).unwrap();
        assert_eq!(faults.strike("GET", "/b/packs/1"), None);
        assert_eq!(faults.strike("PUT", "/b/points/1"), None);
        assert_eq!(faults.strike("PUT", "/b/packs/1"), None, "one passes first");
        assert_eq!(faults.strike("PUT", "/b/packs/2"), Some(Kind::Throttle));
        assert_eq!(faults.strike("PUT", "/b/packs/3"), Some(Kind::Throttle));
        assert_eq!(faults.strike("PUT", "/b/packs/4"), None);
        assert_eq!(faults.struck(), 2);
    }
}
