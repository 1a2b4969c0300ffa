//! `MetricsForeign`: metric families whose samples the program computes.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use super::error::BackendError;
use super::failure::Failure;
use super::family_options::{metric_type, name_rule};
use super::guard::{free, guard, guard_new};
use super::options::{self, SizeFirst};
use super::pointer::{borrow, borrow_mut};
use super::status::BackendStatus;
use super::string::{optional_string, string, strings};
use super::user_data::UserData;
use crate::backend::Backend;
use crate::exposition::ForeignFamily;
use crate::model::definition::Definition;

/// Metric families whose samples the program computes when it is scraped. `metrics_foreign_new`
/// makes an empty list; free it with `metrics_foreign_free`. Fill it, set `foreign` in
/// MetricsRenderOptions to it, and free it after `metrics_render` has returned, or keep it and
/// render it again. While one thread fills it, no other may use it.
#[derive(Debug, Default)]
pub struct MetricsForeign {
    families: Vec<ForeignFamily>,
    /// Whether `metrics_foreign_sample` adds to the last of `families`.
    is_open: bool,
}

/// The definition of a foreign family. Set the struct to zeros and `size` to
/// `sizeof(MetricsForeignFamily)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsForeignFamily {
    /// `sizeof(MetricsForeignFamily)` of the header that the program was compiled with.
    pub size: usize,
    /// The name, by the rule in `names`. The `name_prefix` of MetricsRenderOptions is not added to
    /// it. The name of a counter ends with `_total`.
    pub name: *const c_char,
    /// The help text, or NULL for none.
    pub help: *const c_char,
    /// The unit as in MetricFamilyOptions, or NULL for none.
    pub unit: *const c_char,
    /// A MetricType.
    pub metric_type: i32,
    /// A MetricNames, for the names of the family and of its labels.
    pub names: i32,
    /// The number of `families` in MetricsRenderOptions that are shown before this family. If there
    /// are fewer, or if `families` is NULL, it is shown behind them. Foreign families of one
    /// position are shown in the order in which they were added.
    pub position: usize,
}

/// One sample of a foreign family. Set the struct to zeros and `size` to
/// `sizeof(MetricsForeignSample)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsForeignSample {
    /// `sizeof(MetricsForeignSample)` of the header that the program was compiled with.
    pub size: usize,
    /// The text behind the name of the family, or NULL for none. A counter has none or `_created`;
    /// a gauge or untyped family none; a summary none (with the label `quantile`), `_sum`, `_count`
    /// or `_created`; a histogram `_bucket` (with the label `le` and the cumulative count), `_sum`,
    /// `_count` or `_created`.
    pub suffix: *const c_char,
    /// `label_count` label names, shown in this order; NULL for none.
    pub label_names: *const *const c_char,
    /// `label_count` label values.
    pub label_values: *const *const c_char,
    /// The number of labels.
    pub label_count: usize,
    /// The value.
    pub value: f64,
}

// SAFETY: `repr(C)`, begins with its size, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricsForeignFamily {
    const NAME: &'static str = "MetricsForeignFamily";
    const FIRST_SIZE: usize = offset_of!(Self, position) + size_of::<usize>();
}

// SAFETY: `repr(C)`, begins with its size, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricsForeignSample {
    const NAME: &'static str = "MetricsForeignSample";
    const FIRST_SIZE: usize = offset_of!(Self, value) + size_of::<f64>();
}

/// Makes an empty list of foreign families and writes a handle to `*foreign`; free it with
/// `metrics_foreign_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_new(
    foreign: *mut *mut MetricsForeign,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { guard_new(foreign, "foreign", error, || Ok(MetricsForeign::default())) }
}

/// Adds a family without samples, to which `metrics_foreign_sample` adds samples. The strings are
/// copied. After a failure `metrics_foreign_sample` fails, too, until a family is added.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a name, unit, type or size is not acceptable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_family(
    foreign: *mut MetricsForeign,
    family: *const MetricsForeignFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let add = || {
        // SAFETY: the program's promises.
        let foreign = unsafe { borrow_mut(foreign, "foreign") }?;
        foreign.is_open = false;
        // SAFETY: the program's promises.
        foreign.families.push(unsafe { options::read(family, "family")?.read() }?);
        foreign.is_open = true;
        Ok(())
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, add) }
}

/// Adds a sample to the family that was added last. The strings are copied. Samples are shown in
/// the order in which they were added; add those of one label set one after the other. A sample
/// that fails is left out, and the family keeps the others.
///
/// A format leaves out the samples that it cannot show. Text has no `_created`. OpenMetrics has no
/// negative counters or sums, no counts that are not whole numbers, and no histograms whose buckets
/// do not increase up to `+Inf`.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the type has no such suffix; a label name is not acceptable or
/// given twice; `le` or `quantile` is missing or not a number; the family has this sample already;
/// or there is no family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_sample(
    foreign: *mut MetricsForeign,
    sample: *const MetricsForeignSample,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let add = || {
        // SAFETY: the program's promises.
        let family = unsafe { borrow_mut(foreign, "foreign") }?.open_family()?;
        // SAFETY: the program's promises.
        unsafe { options::read(sample, "sample")?.add_to(family) }
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, add) }
}

/// Receives an empty list, which it fills by `metrics_foreign_family` and `metrics_foreign_sample`,
/// and the `user_data` that was registered with it. The library owns the list and renders it when
/// the function returns. Any thread may call the function, also several at once. It must not scrape
/// the same backend, unwind or jump out.
pub type MetricsCollectCallback =
    Option<unsafe extern "C" fn(foreign: *mut MetricsForeign, user_data: *mut c_void)>;

/// Registers a function that computes metrics for each scrape of the whole store:
/// `metrics_collect`, `metrics_render` without `families`, and the requests of `metrics_serve`. A
/// backend takes one function, and may call it until the backend and its servers are freed.
///
/// BACKEND_STATUS_CONFLICT: the backend has a function already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_collect_callback(
    backend: *const Backend,
    callback: MetricsCollectCallback,
    user_data: *mut c_void,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let register = || {
        // SAFETY: the program's promises.
        let backend = unsafe { borrow(backend, "backend") }?;
        let callback = callback.ok_or_else(|| Failure::null("callback"))?;
        let user_data = UserData::new(user_data);
        Ok(backend.on_collect(move || {
            let mut foreign = MetricsForeign::default();
            // SAFETY: the program registered this function for such calls.
            unsafe { callback(&raw mut foreign, user_data.get()) };
            foreign.families
        })?)
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, register) }
}

/// Frees the families and their samples. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_foreign_free(foreign: *mut MetricsForeign) {
    // SAFETY: the program's promises.
    unsafe { free(foreign) }
}

impl MetricsForeign {
    pub(super) fn families(&self) -> &[ForeignFamily] {
        &self.families
    }

    fn open_family(&mut self) -> Result<&mut ForeignFamily, Failure> {
        self.families.last_mut().filter(|_| self.is_open).ok_or_else(|| {
            Failure::invalid("foreign has no family: expected metrics_foreign_family first".to_owned())
        })
    }
}

impl MetricsForeignFamily {
    /// # Safety
    /// Each pointer is NULL or points to what its field says.
    unsafe fn read(&self) -> Result<ForeignFamily, Failure> {
        // SAFETY: the caller's promise.
        let (name, help, unit) = unsafe {
            (
                string(self.name, "family->name")?,
                optional_string(self.help, "family->help")?.unwrap_or_default(),
                optional_string(self.unit, "family->unit")?,
            )
        };
        let names = name_rule(self.names, "family->names")?;
        let metric_type = metric_type(self.metric_type, "family->metric_type")?;
        let mut definition = Definition::with_names(names, name, help, metric_type, &[], &[])?;
        if let Some(unit) = unit {
            definition = definition.with_unit(unit)?;
        }
        Ok(ForeignFamily::new(definition, names, self.position))
    }
}

impl MetricsForeignSample {
    /// # Safety
    /// Each pointer is NULL or points to what its field says.
    unsafe fn add_to(&self, family: &mut ForeignFamily) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let (suffix, names, values) = unsafe {
            (
                optional_string(self.suffix, "sample->suffix")?.unwrap_or_default(),
                strings(self.label_names, self.label_count, "sample->label_names")?,
                strings(self.label_values, self.label_count, "sample->label_values")?,
            )
        };
        let labels: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
        Ok(family.push(suffix, &labels, self.value)?)
    }
}
