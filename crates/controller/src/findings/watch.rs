//! What stands now, for whoever asks, watches or scrapes. What always holds: a watcher is given every event after its number once, in
//! order, and holds one page of them at most; the list and its number are of one look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, BoxStream, StreamExt};
use muster_common::counter::EventNumber;
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::v1::{Finding, FindingEvent};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::sync::watch;

use crate::findings::shown::concerns;
use crate::store::{Store, history};

/// Events that are read at once.
const PAGE: u32 = 50;

/// What stands. Clones are the same.
#[derive(Clone, Debug)]
pub struct Findings {
    present: Arc<Mutex<Present>>,
    newest: watch::Sender<EventNumber>,
}

#[derive(Clone, Debug, Default)]
struct Present {
    findings: Arc<Vec<Finding>>,
    figures: Arc<Vec<Figure>>,
    newest: EventNumber,
}

/// A figure that is shown as a metric: its instrument, its subject's label, its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Which.
    pub what: Measure,
    /// The component's or the instance's name.
    pub of: String,
    /// The value.
    pub value: f64,
}

/// What is measured of what is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The age of a component's newest recovery point, in seconds.
    Rpo,
    /// Its objective.
    RpoObjective,
    /// How long a component's last complete restore took, in seconds.
    Rto,
    /// Its objective.
    RtoObjective,
    /// 1 where an instance is seen now, 0 where nobody sees it.
    Seen,
    /// Bytes that an instance is behind its upstream.
    Lag,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rpo, Self::RpoObjective, Self::Rto, Self::RtoObjective, Self::Seen, Self::Lag];

    /// The instrument's name, its description, and the label of its subject.
    #[must_use]
    pub const fn instrument(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Rpo => ("muster.component.rpo_seconds", "age of the newest recovery point", "component"),
            Self::RpoObjective => ("muster.component.rpo_objective_seconds", "recovery point objective", "component"),
            Self::Rto => ("muster.component.rto_seconds", "how long the last complete restore took", "component"),
            Self::RtoObjective => ("muster.component.rto_objective_seconds", "recovery time objective", "component"),
            Self::Seen => ("muster.instance.seen", "1 while an agent tells of the instance", "instance"),
            Self::Lag => ("muster.instance.lag_bytes", "bytes behind the upstream", "instance"),
        }
    }
}

impl Default for Findings {
    fn default() -> Self {
        Self { present: Arc::default(), newest: watch::Sender::new(EventNumber(0)) }
    }
}

impl Findings {
    /// Publishes what stands after a look: sorted, and the number of the newest event.
    pub fn publish(&self, findings: Vec<Finding>, figures: Vec<Figure>, newest: EventNumber) {
        *self.lock() = Present { findings: Arc::new(findings), figures: Arc::new(figures), newest };
        self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
    }

    /// What stands and concerns this component (empty: all), and the number of the newest event.
    #[must_use]
    pub fn list(&self, component: &str) -> (Vec<Finding>, EventNumber) {
        let present = self.lock().clone();
        (present.findings.iter().filter(|finding| concerns(finding, component)).cloned().collect(), present.newest)
    }

    /// Events after a number, of what concerns this component (empty: all).
    ///
    /// # Errors
    /// Where the events after the number are gone; in the stream the same.
    pub async fn watch(
        &self,
        store: Store,
        component: String,
        after: EventNumber,
    ) -> Result<BoxStream<'static, Result<FindingEvent, Fault>>, Fault> {
        let mut watcher = Watcher { store, component, after, newest: self.newest.subscribe(), ready: VecDeque::new() };
        // Now, so that the caller is told at once where the number is gone.
        watcher.read().await?;
        Ok(stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(event) => Some((Ok(event), Some(watcher))),
                Err(fault) => Some((Err(fault), None)),
            }
        })
        .boxed())
    }

    /// Shows what stands as the metric `muster_finding`.
    pub fn measure(&self, meter: &Meter) {
        let findings = self.clone();
        let gauge =
            meter.u64_observable_gauge("muster.finding").with_description("1 for each finding that stands").with_callback(move |gauge| {
                for finding in findings.list("").0 {
                    let severity = finding.severity().as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
                    let labels = [
                        KeyValue::new("name", finding.name),
                        KeyValue::new("severity", severity),
                        KeyValue::new("subject", finding.subject),
                    ];
                    gauge.observe(1, &labels);
                }
            });
        // The meter keeps it.
        let _registered = gauge.build();
        for what in Measure::ALL {
            let findings = self.clone();
            let (name, description, label) = what.instrument();
            let gauge = meter.f64_observable_gauge(name).with_description(description).with_callback(move |gauge| {
                let figures = findings.lock().figures.clone();
                for figure in figures.iter().filter(|figure| figure.what == what) {
                    gauge.observe(figure.value, &[KeyValue::new(label, figure.of.clone())]);
                }
            });
            let _registered = gauge.build();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watcher {
    store: Store,
    component: String,
    after: EventNumber,
    newest: watch::Receiver<EventNumber>,
    ready: VecDeque<FindingEvent>,
}

impl Watcher {
    async fn next(&mut self) -> Result<FindingEvent, Fault> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.newest.mark_unchanged();
            if self.read().await? {
                continue;
            }
            let after = self.after;
            self.newest.changed().await.map_err(|_| {
                Fault::refused(ErrorKind::Unavailable, "watch findings: the controller stops")
                    .hint(format!("watch again after event {after}"))
            })?;
        }
    }

    /// Reads one page; tells whether there was anything.
    async fn read(&mut self) -> Result<bool, Fault> {
        let mut read = self.store.read().await?;
        let page = history::findings(&mut read, self.after, PAGE).await?;
        drop(read);
        if let Some(last) = page.last() {
            self.after = EventNumber(last.number);
        }
        let any = !page.is_empty();
        let concerned = |event: &FindingEvent| event.finding.as_ref().is_some_and(|finding| concerns(finding, &self.component));
        self.ready.extend(page.into_iter().filter(concerned));
        Ok(any)
    }
}
