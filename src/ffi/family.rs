//! `MetricFamily`: declare, clear, free.

use std::ffi::c_char;
use std::mem::offset_of;

use super::error::{BackendError, Failure};
use super::status::{BackendStatus, guard, guard_void};
use super::{options, text};
use crate::backend::Backend;
use crate::backend::MetricFamily;
use crate::metric::family::Lifetime;
use crate::model::definition::Definition;
use crate::model::name::NameRule;

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
    /// As a gauge, without saying so.
    Untyped = 5,
}

/// How long a metric family lives, and who finds it.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricLifetime {
    /// Until its backend is freed. Declaring the same definition again gives the same family.
    Backend = 0,
    /// As long as a handle of it or of one of its metrics. Every declaration is a family of its own, even of
    /// the same name: in memory `metrics_collect` shows the first that is alive, and `metrics_snapshot_new`
    /// and `metrics_render` those that they are asked for. For wrappers whose own objects decide what
    /// exists.
    Handle = 1,
}

/// Which names a metric family may have.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricNames {
    /// Those that every version of Prometheus knows: `[a-zA-Z_:][a-zA-Z0-9_:]*`, without `:` for labels.
    Legacy = 0,
    /// Any text that is not empty, as Prometheus 3 has it. A scraper that does not ask for such names gets
    /// them escaped.
    Utf8 = 1,
}

/// What `metric_family_new` declares. Set it to zeros and `size` to `sizeof(MetricFamilyOptions)` first:
/// later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricFamilyOptions {
    /// `sizeof(MetricFamilyOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The name: `[a-zA-Z_:][a-zA-Z0-9_:]*`, or see `names`.
    pub name: *const c_char,
    /// The help text, or NULL for none.
    pub help: *const c_char,
    /// A MetricType.
    pub metric_type: i32,
    /// A MetricLifetime.
    pub lifetime: i32,
    /// `label_count` label names: `[a-zA-Z_][a-zA-Z0-9_]*`, or see `names`; not beginning with `__`; NULL for
    /// none.
    pub label_names: *const *const c_char,
    /// The number of label names.
    pub label_count: usize,
    /// `bucket_count` upper bounds of a histogram, finite and increasing, `+Inf` implied; NULL for the
    /// default: .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10.
    pub buckets: *const f64,
    /// The number of bucket bounds.
    pub bucket_count: usize,
    /// The unit, as in "seconds", or NULL for none. The name must end with it: `_seconds`, and
    /// `_seconds_total` for a counter.
    pub unit: *const c_char,
    /// A MetricNames.
    pub names: i32,
}

/// Declares a metric family and writes a handle to `*family`; free it with `metric_family_free`. The
/// strings are copied.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a name, label, bound, type, lifetime or size is not acceptable.
/// BACKEND_STATUS_CONFLICT: the name is declared already, in another way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_new(
    backend: *const Backend,
    options: *const MetricFamilyOptions,
    family: *mut *mut MetricFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        // SAFETY: the caller's promise.
        let options = unsafe { options::read(options, FIRST_SIZE, "options", "MetricFamilyOptions") }?;
        if family.is_null() {
            return Err(Failure::null("family"));
        }
        // SAFETY: the caller's promise, for the options' pointers too.
        let declared = unsafe { declare(backend, &options) }?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { family.write(Box::into_raw(Box::new(declared))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Removes all metrics of the family from the store, those of other processes too. Handles of its
/// metrics stay valid, but what they count is not in the store any more; `metric_new` makes new ones. It
/// never waits for a server: the store does it before whatever this process counts next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_clear(
    family: *const MetricFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let family = unsafe { family.as_ref() }.ok_or_else(|| Failure::null("family"))?;
        Ok(family.clear()?)
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Frees the handle. The family and its values stay, unless its lifetime is METRIC_LIFETIME_HANDLE.
/// NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_free(family: *mut MetricFamily) {
    if !family.is_null() {
        // SAFETY: made by Box::into_raw in `metric_family_new`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(family) }));
    }
}

/// The size of the options in the first version of this interface. A program that was compiled with it has
/// no more than that.
const FIRST_SIZE: usize = offset_of!(MetricFamilyOptions, bucket_count) + size_of::<usize>();

unsafe fn declare(backend: &Backend, options: &MetricFamilyOptions) -> Result<MetricFamily, Failure> {
    // SAFETY (all five): the caller's promise.
    let name = unsafe { text::borrow(options.name, "options->name") }?;
    let help = match options.help.is_null() {
        true => "",
        false => unsafe { text::borrow(options.help, "options->help") }?,
    };
    let label_names =
        unsafe { text::borrow_list(options.label_names, options.label_count, "options->label_names") }?;
    let buckets = unsafe { text::borrow_slice(options.buckets, options.bucket_count, "options->buckets") }?;
    let (names, metric_type) =
        (name_rule("options", options.names)?, metric_type("options", options.metric_type)?);
    let mut definition = Definition::with_names(names, name, help, metric_type, &label_names, buckets)?;
    if !options.unit.is_null() {
        definition = definition.with_unit(unsafe { text::borrow(options.unit, "options->unit") }?)?;
    }
    Ok(backend.declare(definition, &label_names, lifetime(options.lifetime)?)?)
}

pub(super) fn metric_type(
    parameter: &str,
    number: i32,
) -> Result<crate::model::metric_type::MetricType, Failure> {
    use crate::model::metric_type::MetricType as Engine;
    Ok(match number {
        1 => Engine::Counter,
        2 => Engine::Gauge,
        3 => Engine::Histogram,
        4 => Engine::Summary,
        5 => Engine::Untyped,
        _ => {
            return Err(Failure::invalid(format!(
                "{parameter}->metric_type is {number}: expected a MetricType, 1 to 5"
            )));
        }
    })
}

fn lifetime(number: i32) -> Result<Lifetime, Failure> {
    match number {
        0 => Ok(Lifetime::Backend),
        1 => Ok(Lifetime::Handle),
        _ => {
            Err(Failure::invalid(format!("options->lifetime is {number}: expected a MetricLifetime, 0 or 1")))
        }
    }
}

pub(super) fn name_rule(parameter: &str, number: i32) -> Result<NameRule, Failure> {
    match number {
        0 => Ok(NameRule::Legacy),
        1 => Ok(NameRule::Utf8),
        _ => Err(Failure::invalid(format!("{parameter}->names is {number}: expected a MetricNames, 0 or 1"))),
    }
}
