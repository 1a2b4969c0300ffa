//! What the system says about a process, as metrics: its processor time, memory and descriptors.
//!
//! The processor time is a counter to which every process adds, so it stays when a process ends. The others are
//! gauges of each living process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::exposition::ForeignFamily;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::gauge_mode::GaugeMode;
use crate::model::metric_type::MetricType;
use crate::model::name::NameRule;
use crate::process::usage::{Usage, start_time};

const CPU: (&str, &str) = ("process_cpu_seconds_total", "User and system time that the processes have used.");
const START: (&str, &str) =
    ("process_start_time_seconds", "When the process started, in seconds since 1970.");

/// A gauge of each process.
struct Figure {
    name: &'static str,
    help: &'static str,
    value: fn(&Usage) -> Option<f64>,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "process_resident_memory_bytes",
        help: "Memory that the process has in use.",
        value: |usage| usage.resident_bytes,
    },
    Figure {
        name: "process_virtual_memory_bytes",
        help: "Address space that the process has in use.",
        value: |usage| usage.virtual_bytes,
    },
    Figure {
        name: "process_open_fds",
        help: "Descriptors that the process has open.",
        value: |usage| usage.open_descriptors,
    },
    Figure {
        name: "process_max_fds",
        help: "Descriptors that the process may have open.",
        value: |usage| usage.max_descriptors,
    },
];

/// The metrics that show this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu: Arc<Family>,
    /// None in a store that has no gauges of each process.
    start: Option<Arc<Family>>,
    /// In the order of [`FIGURES`]; none in such a store.
    gauges: Vec<Arc<Family>>,
    /// The processor time that the counter has of this process, in microseconds.
    shown: AtomicU64,
    /// When the process started, as the bits of a number; 0 before it is known.
    started: AtomicU64,
}

impl ProcessMetrics {
    /// Declares the families with `declare`.
    pub(super) fn new(
        prefix: &str,
        has_modes: bool,
        declare: impl Fn(Definition) -> Result<Arc<Family>>,
    ) -> Result<Self> {
        let gauge = |name, help| declare(definition(prefix, name, help)?.with_mode(GaugeMode::LiveAll)?);
        let cpu = Definition::new(&named(prefix, CPU.0), CPU.1, MetricType::Counter, &[], &[])?;
        Ok(Self {
            cpu: declare(cpu)?,
            start: has_modes.then(|| gauge(START.0, START.1)).transpose()?,
            gauges: FIGURES
                .iter()
                .filter(|_| has_modes)
                .map(|figure| gauge(figure.name, figure.help))
                .collect::<Result<_>>()?,
            shown: AtomicU64::new(0),
            started: AtomicU64::new(0),
        })
    }

    /// Returns the families of the metrics.
    pub(super) fn families(&self) -> impl Iterator<Item = Arc<Family>> + '_ {
        std::iter::once(&self.cpu).chain(&self.start).chain(&self.gauges).map(Arc::clone)
    }

    /// Updates the metrics of this process. Call it before a scrape, a flush or a close. `metric_of` returns the only
    /// metric of a family; a process may have removed it.
    pub(super) fn refresh(&self, metric_of: impl Fn(&Arc<Family>) -> Option<Arc<Metric>>) {
        // Errors cannot occur: the increase is positive, and a gauge accepts every value.
        let set = |family: &Arc<Family>, value: f64| {
            if let Some(metric) = metric_of(family) {
                let _ = metric.set(value);
            }
        };
        let usage = Usage::read();
        // `fetch_max` lets concurrent updates each add only their own increase.
        let now = usage.cpu.as_micros() as u64;
        let before = self.shown.fetch_max(now, Ordering::Relaxed);
        if now > before
            && let Some(cpu) = metric_of(&self.cpu)
        {
            let _ = cpu.inc((now - before) as f64 / 1e6);
        }
        if let (Some(family), Some(start)) = (&self.start, self.start_time()) {
            set(family, start);
        }
        for (family, figure) in self.gauges.iter().zip(&FIGURES) {
            if let Some(value) = (figure.value)(&usage) {
                set(family, value);
            }
        }
    }

    /// Reads the start time once, because the system may set its clock. It is shown again and again, because the store
    /// may be cleared.
    fn start_time(&self) -> Option<f64> {
        let known = self.started.load(Ordering::Relaxed);
        if known != 0 {
            return Some(f64::from_bits(known));
        }
        let start = start_time()?;
        self.started.store(start.to_bits(), Ordering::Relaxed);
        Some(start)
    }

    /// Resets what is shown in a forked child, whose processor time starts at zero.
    pub(super) fn forked(&self) {
        self.shown.store(0, Ordering::Relaxed);
        self.started.store(0, Ordering::Relaxed);
    }
}

/// Returns the metrics of this process alone, for a program that counts in no store. `prefix`, if there is one, begins
/// their names.
///
/// ```
/// use pytheus_backend_rs::{Backend, process_families};
///
/// let backend = Backend::open("memory:")?;
/// backend.on_collect(|| process_families("tool"))?;
/// assert!(backend.collect_text()?.contains("\ntool_process_cpu_seconds_total "));
/// # Ok::<(), pytheus_backend_rs::Error>(())
/// ```
pub fn process_families(prefix: &str) -> Vec<ForeignFamily> {
    let usage = Usage::read();
    let family = |definition: Result<Definition>, value: Option<f64>| {
        let mut family = ForeignFamily::new(definition.ok()?, NameRule::Legacy, usize::MAX);
        family.push("", &[], value?).ok()?;
        Some(family)
    };
    let cpu = Definition::new(&named(prefix, CPU.0), CPU.1, MetricType::Counter, &[], &[]);
    let gauges = FIGURES
        .iter()
        .map(|figure| family(definition(prefix, figure.name, figure.help), (figure.value)(&usage)));
    [family(cpu, Some(usage.cpu.as_secs_f64())), family(definition(prefix, START.0, START.1), start_time())]
        .into_iter()
        .chain(gauges)
        .flatten()
        .collect()
}

fn definition(prefix: &str, name: &str, help: &str) -> Result<Definition> {
    Definition::new(&named(prefix, name), help, MetricType::Gauge, &[], &[])
}

fn named(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}_{name}") }
}
