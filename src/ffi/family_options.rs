//! `MetricFamilyOptions`: the definition of a metric family.

use std::ffi::c_char;
use std::mem::offset_of;

use super::failure::Failure;
use super::options::{SizeFirst, choose};
use super::pointer::borrow_slice;
use super::string::{optional_string, string, strings};
use crate::metric::family::Lifetime;
use crate::model::definition::Definition;
use crate::model::gauge_mode::GaugeMode;
use crate::model::metric_type::MetricType as EngineType;
use crate::model::name::NameRule;
use crate::model::native::Native;

/// The type of a metric family.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Only goes up: `metric_inc`.
    Counter = 1,
    /// Goes up and down: `metric_inc`, `metric_dec`, `metric_set`.
    Gauge = 2,
    /// Counts observations in buckets, and sums them: `metric_observe`.
    Histogram = 3,
    /// Counts and sums observations: `metric_observe`.
    Summary = 4,
    /// Behaves as a gauge, but tells Prometheus no type.
    Untyped = 5,
    /// Describes something by labels that the program sets, such as its version:
    /// `metric_family_set_info`.
    Info = 6,
    /// Named states, each of which is on or off: `metric_set_state`, `metric_choose_state`.
    StateSet = 7,
    /// The distribution of what exists at present, such as the ages of waiting jobs:
    /// `metric_observe`, `metric_unobserve`.
    GaugeHistogram = 8,
}

/// How long a metric family lives, and which declarations share it.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricLifetime {
    /// Until its backend is freed. Declaring the same definition again returns the same family.
    Backend = 0,
    /// As long as the program holds a handle of it or of one of its metrics. Every declaration
    /// makes a family of its own, even of the same name: in memory `metrics_collect` shows the
    /// first of them that is alive, and `metrics_render` and `metrics_snapshot_new` show those that
    /// they are asked for. It serves bindings whose own objects decide what exists.
    Handle = 1,
}

/// The rule for the names of a metric family and its labels.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricNames {
    /// Names that every version of Prometheus accepts: `[a-zA-Z_:][a-zA-Z0-9_:]*`, without `:` for
    /// labels.
    Legacy = 0,
    /// Any text that is not empty, as in Prometheus 3. A scraper that does not ask for such names
    /// gets them escaped.
    Utf8 = 1,
}

/// Which buckets a histogram has. Native ones need no bounds. Prometheus scrapes them by protobuf,
/// if it is told to; the text formats show the classic ones, or none.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricNative {
    /// Classic buckets alone, whose bounds are `buckets`.
    None = 0,
    /// Native buckets alone. `buckets` must be NULL.
    Alone = 1,
    /// Native and classic buckets.
    Both = 2,
}

/// Whether the series of a counter or histogram keep exemplars, which `metric_inc_with_exemplar` and
/// `metric_observe_with_exemplar` give them.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricExemplars {
    /// They keep none.
    None = 0,
    /// A counter keeps the last one, and a histogram up to four, of different buckets. They take 192
    /// bytes each.
    Kept = 1,
}

/// Whether every process has its own value of a gauge, and how a scrape merges them. The modes are
/// those of prometheus_client. Those with "live" show the processes that live at the moment of the
/// scrape; the others also show what dead ones have left.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricGaugeMode {
    /// All processes share one value.
    Shared = 0,
    /// The value of each process, with its process id as the label `pid`. That of a dead process is
    /// shown until another process takes its place.
    All = 1,
    /// The value of each living process, with the label `pid`.
    LiveAll = 2,
    /// The smallest value.
    Min = 3,
    /// The smallest value of the living processes.
    LiveMin = 4,
    /// The largest value.
    Max = 5,
    /// The largest value of the living processes.
    LiveMax = 6,
    /// The sum of the values.
    Sum = 7,
    /// The sum of the values of the living processes.
    LiveSum = 8,
    /// The value that was set last.
    MostRecent = 9,
    /// The value that a living process has set last.
    LiveMostRecent = 10,
}

/// The definition that `metric_family_new` declares. Set the struct to zeros and `size` to
/// `sizeof(MetricFamilyOptions)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricFamilyOptions {
    /// `sizeof(MetricFamilyOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The name, by the rule in `names`.
    pub name: *const c_char,
    /// The help text, or NULL for none.
    pub help: *const c_char,
    /// A MetricType.
    pub metric_type: i32,
    /// A MetricLifetime.
    pub lifetime: i32,
    /// `label_count` label names, by the rule in `names`, or NULL for none. Names that begin with
    /// `__` are reserved for Prometheus.
    pub label_names: *const *const c_char,
    /// The number of label names.
    pub label_count: usize,
    /// `bucket_count` upper bounds of a histogram or gauge histogram, finite and increasing; the
    /// bound `+Inf` is implied. NULL for the default: .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
    /// 10.
    pub buckets: *const f64,
    /// The number of bucket bounds.
    pub bucket_count: usize,
    /// The unit, for example "seconds", or NULL for none. The name must end with it: `_seconds`,
    /// and `_seconds_total` for a counter. An info or state set has none.
    pub unit: *const c_char,
    /// A MetricNames.
    pub names: i32,
    /// `state_count` names of the states of a state set: 1 to 52, in an order that all processes
    /// declare. NULL for other types. The states are shown as values of a label that has the name
    /// of the family, so that name contains no `:`.
    pub states: *const *const c_char,
    /// The number of states.
    pub state_count: usize,
    /// A MetricNative: whether a histogram has native buckets. Other types have none.
    ///
    /// ```c
    /// MetricFamilyOptions options = {.size = sizeof options, .name = "request_seconds"};
    /// options.metric_type = METRIC_TYPE_HISTOGRAM;
    /// options.native = METRIC_NATIVE_ALONE;
    /// metric_family_new(backend, &options, &family, &error);
    /// ```
    pub native: i32,
    /// How many native buckets there are from each power of two to the next: 1, 2, 4, 8, 16, 32, 64,
    /// 128 or 256. 0 means 8, with which a quantile is off by at most 9 %. All processes declare the
    /// same.
    pub native_resolution: i32,
    /// How many native buckets a series has room for, 16 to 4096; each takes 8 bytes. 0 means 384.
    /// When a third of them are in use, further values get buckets of half the resolution, and so on,
    /// up to seven times and down to one bucket for 16 powers of two. All processes declare the same.
    pub native_size: usize,
    /// A MetricGaugeMode. Other types than a gauge have none. In memory it changes nothing. The Redis
    /// store refuses such a family. All processes declare the same.
    pub gauge_mode: i32,
    /// After how many seconds without use a series ends: a whole number from 1 to 315360000. 0 means
    /// what the option `series_ttl` of the store says, INFINITY never. Use is each change, and
    /// `metric_new`. A series that has ended is gone from the store and from every scrape. A handle
    /// that counts again begins a new one, from 0. Info has no use for the option of the store, and a
    /// gauge with a `gauge_mode` has no series_ttl. All processes declare the same.
    pub series_ttl: f64,
    /// A MetricExemplars. Other types than a counter or histogram have none. Processes need not
    /// agree about it.
    pub exemplars: i32,
}

// SAFETY: `repr(C)`, begins with its size, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricFamilyOptions {
    const NAME: &'static str = "MetricFamilyOptions";
    const FIRST_SIZE: usize = offset_of!(Self, names) + size_of::<i32>();
}

impl MetricFamilyOptions {
    /// Returns the definition, the label names in the program's order, and the lifetime.
    ///
    /// # Safety
    /// Each pointer is NULL or points to what its field says.
    pub(super) unsafe fn read(&self) -> Result<(Definition, Vec<&str>, Lifetime), Failure> {
        // SAFETY: the caller's promise.
        let (name, help, labels, buckets, unit, states) = unsafe {
            (
                string(self.name, "options->name")?,
                optional_string(self.help, "options->help")?.unwrap_or_default(),
                strings(self.label_names, self.label_count, "options->label_names")?,
                borrow_slice(self.buckets, self.bucket_count, "options->buckets")?,
                optional_string(self.unit, "options->unit")?,
                strings(self.states, self.state_count, "options->states")?,
            )
        };
        let names = name_rule(self.names, "options->names")?;
        let metric_type = metric_type(self.metric_type, "options->metric_type")?;
        let mut definition = match metric_type {
            EngineType::StateSet => Definition::state_set(names, name, help, &labels, &states)?,
            _ if !states.is_empty() => {
                let what = format!("metric family {name:?}: a {} takes no states", metric_type.name());
                return Err(Failure::invalid(what));
            }
            _ => Definition::with_names(names, name, help, metric_type, &labels, buckets)?,
        };
        if let Some((native, keeps_buckets)) = self.native(name)? {
            definition = definition.with_native(native, keeps_buckets)?;
        }
        if let Some(mode) = gauge_mode(self.gauge_mode)? {
            definition = definition.with_mode(mode)?;
        }
        if keeps_exemplars(self.exemplars)? {
            definition = definition.with_exemplars()?;
        }
        if let Some(unit) = unit {
            definition = definition.with_unit(unit)?;
        }
        if self.series_ttl != 0.0 {
            definition = definition.with_series_ttl(self.series_ttl)?;
        }
        Ok((definition, labels, lifetime(self.lifetime)?))
    }

    /// Returns the options of the native histogram, and whether it has classic buckets too.
    fn native(&self, name: &str) -> Result<Option<(Native, bool)>, Failure> {
        let buckets = [
            (MetricNative::None as i32, None),
            (MetricNative::Alone as i32, Some(false)),
            (MetricNative::Both as i32, Some(true)),
        ];
        let keeps_buckets = choose(self.native, "options->native", "MetricNative", &buckets)?;
        let (resolution, size) = (self.native_resolution, self.native_size);
        let Some(keeps_buckets) = keeps_buckets else {
            for (is_given, field) in [(resolution != 0, "native_resolution"), (size != 0, "native_size")] {
                if is_given {
                    let what =
                        format!("options->{field} is given, but options->native is METRIC_NATIVE_NONE");
                    return Err(Failure::invalid(what));
                }
            }
            return Ok(None);
        };
        if !keeps_buckets && self.bucket_count > 0 {
            let what = "options->buckets are classic ones: expected METRIC_NATIVE_BOTH in options->native";
            return Err(Failure::invalid(what.to_owned()));
        }
        let resolution = if resolution == 0 { Native::default().resolution() } else { i64::from(resolution) };
        let size = if size == 0 { Native::default().size() } else { size };
        let native = Native::with_resolution(resolution, i64::try_from(size).unwrap_or(i64::MAX));
        let native = native
            .map_err(|error| Failure::invalid(format!("metric family {name:?}: {}", error.message())))?;
        Ok(Some((native, keeps_buckets)))
    }
}

const TYPES: [(i32, EngineType); 8] = [
    (MetricType::Counter as i32, EngineType::Counter),
    (MetricType::Gauge as i32, EngineType::Gauge),
    (MetricType::Histogram as i32, EngineType::Histogram),
    (MetricType::Summary as i32, EngineType::Summary),
    (MetricType::Untyped as i32, EngineType::Untyped),
    (MetricType::Info as i32, EngineType::Info),
    (MetricType::StateSet as i32, EngineType::StateSet),
    (MetricType::GaugeHistogram as i32, EngineType::GaugeHistogram),
];

pub(super) fn metric_type(number: i32, parameter: &str) -> Result<EngineType, Failure> {
    choose(number, parameter, "MetricType", &TYPES)
}

/// Returns the number of a type in C.
pub(super) fn metric_type_number(metric_type: EngineType) -> i32 {
    number_of(&TYPES, metric_type)
}

pub(super) fn name_rule(number: i32, parameter: &str) -> Result<NameRule, Failure> {
    let rules = [(MetricNames::Legacy as i32, NameRule::Legacy), (MetricNames::Utf8 as i32, NameRule::Utf8)];
    choose(number, parameter, "MetricNames", &rules)
}

const MODES: [(i32, Option<GaugeMode>); 11] = [
    (MetricGaugeMode::Shared as i32, None),
    (MetricGaugeMode::All as i32, Some(GaugeMode::All)),
    (MetricGaugeMode::LiveAll as i32, Some(GaugeMode::LiveAll)),
    (MetricGaugeMode::Min as i32, Some(GaugeMode::Min)),
    (MetricGaugeMode::LiveMin as i32, Some(GaugeMode::LiveMin)),
    (MetricGaugeMode::Max as i32, Some(GaugeMode::Max)),
    (MetricGaugeMode::LiveMax as i32, Some(GaugeMode::LiveMax)),
    (MetricGaugeMode::Sum as i32, Some(GaugeMode::Sum)),
    (MetricGaugeMode::LiveSum as i32, Some(GaugeMode::LiveSum)),
    (MetricGaugeMode::MostRecent as i32, Some(GaugeMode::MostRecent)),
    (MetricGaugeMode::LiveMostRecent as i32, Some(GaugeMode::LiveMostRecent)),
];

fn gauge_mode(number: i32) -> Result<Option<GaugeMode>, Failure> {
    choose(number, "options->gauge_mode", "MetricGaugeMode", &MODES)
}

/// Returns the number of a mode in C.
pub(super) fn gauge_mode_number(mode: Option<GaugeMode>) -> i32 {
    number_of(&MODES, mode)
}

fn number_of<T: PartialEq>(values: &[(i32, T)], value: T) -> i32 {
    values.iter().find(|(_, known)| *known == value).map_or(0, |(number, _)| *number)
}

fn keeps_exemplars(number: i32) -> Result<bool, Failure> {
    let values = [(MetricExemplars::None as i32, false), (MetricExemplars::Kept as i32, true)];
    choose(number, "options->exemplars", "MetricExemplars", &values)
}

fn lifetime(number: i32) -> Result<Lifetime, Failure> {
    let lifetimes = [
        (MetricLifetime::Backend as i32, Lifetime::Backend),
        (MetricLifetime::Handle as i32, Lifetime::Handle),
    ];
    choose(number, "options->lifetime", "MetricLifetime", &lifetimes)
}
