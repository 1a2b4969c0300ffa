//! `MetricsForeign`: metric families whose samples the program brings.

use std::ffi::c_char;
use std::mem::offset_of;

use super::error::{BackendError, Failure};
use super::family::{metric_type, name_rule};
use super::pointer::{borrow_mut, out, take};
use super::status::{BackendStatus, guard, guard_void};
use super::{options, text};
use crate::exposition::ForeignFamily;
use crate::model::definition::Definition;

/// Metric families whose samples the program brings, for values that are computed when a scrape asks for
/// them. `metrics_foreign_new` makes one; free it with `metrics_foreign_free`. Fill it, name it in the
/// `foreign` of MetricsRenderOptions, and free it when `metrics_render` has returned; or keep it and
/// render it again. Threads must not share it while one of them fills it.
#[derive(Debug, Default)]
pub struct MetricsForeign {
    pub(super) families: Vec<ForeignFamily>,
    /// Whether `metrics_foreign_sample` adds to the last of `families`.
    is_open: bool,
}

/// What `metrics_foreign_family` adds. Set it to zeros and `size` to `sizeof(MetricsForeignFamily)` first:
/// later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsForeignFamily {
    /// `sizeof(MetricsForeignFamily)` of the header that the program was compiled with.
    pub size: usize,
    /// The name: `[a-zA-Z_:][a-zA-Z0-9_:]*`, or see `names`. It is shown as it is: the `name_prefix` of
    /// MetricsRenderOptions is not put in front of it. A counter's name ends with `_total`.
    pub name: *const c_char,
    /// The help text, or NULL for none.
    pub help: *const c_char,
    /// The unit, as in MetricFamilyOptions, or NULL for none.
    pub unit: *const c_char,
    /// A MetricType.
    pub metric_type: i32,
    /// A MetricNames, for the names of the family and its labels.
    pub names: i32,
    /// The number of `families` in MetricsRenderOptions that stand before this family. It stands behind
    /// all of them if there are fewer, or if the scrape shows the whole store. Foreign families of
    /// one position are shown in the order in which they were added.
    pub position: usize,
}

/// What `metrics_foreign_sample` adds. Set it to zeros and `size` to `sizeof(MetricsForeignSample)` first:
/// later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsForeignSample {
    /// `sizeof(MetricsForeignSample)` of the header that the program was compiled with.
    pub size: usize,
    /// What follows the name of the family; NULL or "" for nothing. Counter: nothing or `_created`. Gauge and
    /// untyped: nothing. Summary: nothing with the label `quantile`, or `_sum`, `_count`, `_created`.
    /// Histogram: `_bucket` with the label `le` and the cumulative count, or `_sum`, `_count`, `_created`.
    pub suffix: *const c_char,
    /// `label_count` label names, which are shown in this order; NULL for none.
    pub label_names: *const *const c_char,
    /// `label_count` label values.
    pub label_values: *const *const c_char,
    /// The number of labels.
    pub label_count: usize,
    /// The value.
    pub value: f64,
}

/// Makes an empty list of foreign families and writes its handle to `*foreign`; free it with
/// `metrics_foreign_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_new(
    foreign: *mut *mut MetricsForeign,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe { out(foreign, "foreign") }?.give(MetricsForeign::default());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Adds a family without samples; `metrics_foreign_sample` gives it samples. The strings are copied. After a
/// failure `metrics_foreign_sample` fails, too, until a family is added.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a name, unit, type or size is not acceptable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_family(
    foreign: *mut MetricsForeign,
    family: *const MetricsForeignFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY (all): the caller's promise.
        let foreign = unsafe { borrow_mut(foreign, "foreign") }?;
        foreign.is_open = false;
        foreign.families.push(unsafe { read_family(family) }?);
        foreign.is_open = true;
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Adds a sample to the family that was added last. The strings are copied. Samples are shown in the order in
/// which they are added; add those of one label set one after the other. A sample that fails is
/// left out, and the family keeps its others.
///
/// A format that cannot show a sample leaves it out: text has no `_created`, and OpenMetrics no negative
/// counters or sums, no counts that are not whole numbers, and no histogram whose buckets do not increase up to
/// `+Inf`.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the type has no such suffix; a label name is not acceptable or given
/// twice; `le` or `quantile` is missing or no number; the family has this sample already; or there is no
/// family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_sample(
    foreign: *mut MetricsForeign,
    sample: *const MetricsForeignSample,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY (both): the caller's promise.
        let foreign = unsafe { borrow_mut(foreign, "foreign") }?;
        let is_open = foreign.is_open;
        let family = foreign.families.last_mut().filter(|_| is_open).ok_or_else(|| {
            Failure::invalid("foreign has no family: expected metrics_foreign_family first".to_owned())
        })?;
        unsafe { add_sample(family, sample) }
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Frees the families and their samples. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_free(foreign: *mut MetricsForeign) {
    // SAFETY: the caller's promise.
    guard_void(|| drop(unsafe { take(foreign) }));
}

/// The sizes of the structs in the first version that had them.
const FIRST_FAMILY_SIZE: usize = offset_of!(MetricsForeignFamily, position) + size_of::<usize>();
const FIRST_SAMPLE_SIZE: usize = offset_of!(MetricsForeignSample, value) + size_of::<f64>();

unsafe fn read_family(family: *const MetricsForeignFamily) -> Result<ForeignFamily, Failure> {
    // SAFETY (all four): the caller's promise.
    let family = unsafe { options::read(family, FIRST_FAMILY_SIZE, "family", "MetricsForeignFamily") }?;
    let name = unsafe { text::borrow(family.name, "family->name") }?;
    let help = unsafe { text::borrow_optional(family.help, "family->help") }?.unwrap_or_default();
    let unit = unsafe { text::borrow_optional(family.unit, "family->unit") }?;
    let names = name_rule("family", family.names)?;
    let metric_type = metric_type("family", family.metric_type)?;
    let mut definition = Definition::with_names(names, name, help, metric_type, &[], &[])?;
    if let Some(unit) = unit {
        definition = definition.with_unit(unit)?;
    }
    Ok(ForeignFamily::new(definition, names, family.position))
}

unsafe fn add_sample(family: &mut ForeignFamily, sample: *const MetricsForeignSample) -> Result<(), Failure> {
    // SAFETY (all four): the caller's promise.
    let sample = unsafe { options::read(sample, FIRST_SAMPLE_SIZE, "sample", "MetricsForeignSample") }?;
    let suffix = unsafe { text::borrow_optional(sample.suffix, "sample->suffix") }?.unwrap_or_default();
    let count = sample.label_count;
    let names = unsafe { text::borrow_list(sample.label_names, count, "sample->label_names") }?;
    let values = unsafe { text::borrow_list(sample.label_values, count, "sample->label_values") }?;
    let labels: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
    Ok(family.push(suffix, &labels, sample.value)?)
}
