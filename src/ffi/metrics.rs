//! A scrape: as text, or series by series.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use super::error::{BackendError, Failure};
use super::foreign::MetricsForeign;
use super::options;
use super::pointer;
use super::status::{BackendStatus, guard, guard_status, guard_void};
use super::text::{self, to_c_string};
use crate::backend::Backend;
use crate::backend::MetricFamily;
use crate::backend::{Others, RenderOptions};
use crate::exposition::{self, Format, Rendered};
use crate::model::sample::Snapshot;

/// Renders all metric families of the store as Prometheus text 0.0.4 and writes it to `*text`, and its
/// length in bytes, without the final NUL, to `*length` (which may be NULL); free the text with
/// `backend_string_free`. It shows every change that happened before in this process, and with a server
/// it waits for it, for at most the store's `collect_timeout`.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_collect(
    backend: *const Backend,
    text: *mut *mut c_char,
    length: *mut usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        if text.is_null() {
            return Err(Failure::null("text"));
        }
        let rendered = to_c_string(backend.collect_text()?);
        if !length.is_null() {
            // SAFETY: not NULL, and the caller's promise.
            unsafe { length.write(rendered.as_bytes().len()) };
        }
        // SAFETY: not NULL, and the caller's promise.
        unsafe { text.write(rendered.into_raw()) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Which metric families `metrics_render` shows besides those that it is asked for.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsOthers {
    /// None.
    None = 0,
    /// Behind them, those of the store that this process has not declared: other processes have.
    Append = 1,
}

/// What `metrics_render` renders, and how. Set it to zeros and `size` to `sizeof(MetricsRenderOptions)`
/// first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsRenderOptions {
    /// `sizeof(MetricsRenderOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The `Accept` header of the HTTP request, which decides on the format: text 0.0.4 or 1.0.0, or
    /// OpenMetrics 1.0.0 or 0.0.1, and how names beyond `[a-zA-Z_:][a-zA-Z0-9_:]*` are written. NULL, or one
    /// that asks for nothing of these: text 0.0.4.
    pub accept: *const c_char,
    /// Stands in front of the name of each family, with an underscore; NULL for none.
    pub name_prefix: *const c_char,
    /// `family_count` families, in the order in which they are to be shown; NULL for all of the store.
    pub families: *const *const MetricFamily,
    /// The number of families.
    pub family_count: usize,
    /// A MetricsOthers. It has no meaning if `families` is NULL.
    pub others: i32,
    /// NULL, or room for `family_count` numbers: where the text of each of `families` ends, in bytes. What
    /// follows the last are the others and, in OpenMetrics, `# EOF`.
    pub family_ends: *mut usize,
    /// Families whose samples the program brings, shown with the others; NULL for none.
    pub foreign: *const MetricsForeign,
}

/// A rendered exposition. Made by `metrics_render`; free it with `metrics_text_free`.
#[derive(Debug)]
pub struct MetricsText {
    /// With a NUL behind it.
    text: String,
    content_type: CString,
}

/// Renders metric families as text and writes it to `*text`; free it with `metrics_text_free`. It shows every
/// change that happened before in this process, and with a server it waits for it, for at most the store's
/// `collect_timeout`. `options` may be NULL: all families as text 0.0.4.
///
/// A family without metrics is shown by its comments alone. One whose names, as the format has them, an
/// earlier one has taken (a counter `x_count` behind a histogram `x`; the same family twice) is left out, and
/// reported to the log: Prometheus would refuse all of the text, or mix them up.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
/// BACKEND_STATUS_INVALID_ARGUMENT: a family of another backend, or a wrong option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_render(
    backend: *const Backend,
    options: *const MetricsRenderOptions,
    text: *mut *mut MetricsText,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { pointer::borrow(backend, "backend") }?;
        // SAFETY: the caller's promise.
        let options = unsafe { read_render_options(options) }?;
        if text.is_null() {
            return Err(Failure::null("text"));
        }
        // SAFETY: the caller's promise, for the options' pointers too.
        let rendered = unsafe { render(backend, &options) }?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { text.write(Box::into_raw(Box::new(MetricsText::from(rendered)))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// The text: UTF-8, with a NUL behind its end and none inside. It lives as long as `text`. NULL if `text` is
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_data(text: *const MetricsText) -> *const c_char {
    // SAFETY: NULL, or a text of ours.
    unsafe { text.as_ref() }.map_or(ptr::null(), |text| text.text.as_ptr().cast())
}

/// The length of the text in bytes, without the NUL. 0 if `text` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_length(text: *const MetricsText) -> usize {
    // SAFETY: NULL, or a text of ours.
    unsafe { text.as_ref() }.map_or(0, |text| text.text.len() - 1)
}

/// The value of the HTTP header `Content-Type`, which says what format was chosen. It lives as long as
/// `text`. NULL if `text` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_content_type(text: *const MetricsText) -> *const c_char {
    // SAFETY: NULL, or a text of ours.
    unsafe { text.as_ref() }.map_or(ptr::null(), |text| text.content_type.as_ptr())
}

/// Frees a text. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_free(text: *mut MetricsText) {
    if !text.is_null() {
        // SAFETY: made by Box::into_raw in `metrics_render`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(text) }));
    }
}

/// Whether the HTTP header `Accept-Encoding` allows gzip: 1 or 0. NULL, for a request without it, is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_accepts_gzip(accept_encoding: *const c_char) -> i32 {
    if accept_encoding.is_null() {
        return 0;
    }
    // SAFETY: not NULL, and the caller's promise.
    let header = unsafe { CStr::from_ptr(accept_encoding) };
    let mut accepts = 0;
    guard_void(|| accepts = i32::from(exposition::accepts_gzip(&header.to_string_lossy())));
    accepts
}

/// The values of some metric families at one time, to be walked series by series. Made by
/// `metrics_snapshot_new`; free it with `metrics_snapshot_free`. Not to be shared between threads.
#[derive(Debug)]
pub struct MetricsSnapshot {
    series: Vec<OwnedSeries>,
    next: usize,
}

#[derive(Debug)]
struct OwnedSeries {
    family_index: usize,
    family: CString,
    labels: CString,
    values: Vec<f64>,
}

/// One metric of a snapshot. What it points to lives as long as the snapshot. This struct never grows: what a
/// later version has to say about a series comes by calls of its own.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsSeries {
    /// The position of its family: in the list that was asked for, or among all families.
    pub family_index: usize,
    /// The name of its family.
    pub family: *const c_char,
    /// Its labels: a compact JSON object of strings, sorted by label name.
    pub labels: *const c_char,
    /// Its sample values. Counter, gauge, untyped: the value. Summary: count, sum. Histogram: the
    /// cumulative buckets, in the order of their bounds, `+Inf` last; then count, sum.
    pub values: *const f64,
    /// The number of values.
    pub value_count: usize,
}

/// Reads `families` (`family_count` handles) in one go, or all families of the store if `families` is NULL,
/// and writes the result to `*snapshot`. A family whose key the store refuses has no series, and is reported
/// to the log. It waits as `metrics_collect` does.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
/// BACKEND_STATUS_INVALID_ARGUMENT: a family of another backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_new(
    backend: *const Backend,
    families: *const *const MetricFamily,
    family_count: usize,
    snapshot: *mut *mut MetricsSnapshot,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        if snapshot.is_null() {
            return Err(Failure::null("snapshot"));
        }
        let wanted = match families.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { borrow_families(families, family_count) }?),
        };
        let owned = MetricsSnapshot::from(backend.collect(wanted.as_deref())?);
        // SAFETY: not NULL, and the caller's promise.
        unsafe { snapshot.write(Box::into_raw(Box::new(owned))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Writes the next series of the snapshot to `*series`: family by family, sorted by labels within each.
///
/// BACKEND_STATUS_NOT_FOUND: that was the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_next(
    snapshot: *mut MetricsSnapshot,
    series: *mut MetricsSeries,
) -> BackendStatus {
    // SAFETY: NULL, or a snapshot that no other thread uses.
    let Some(snapshot) = (unsafe { snapshot.as_mut() }) else { return BackendStatus::NullPointer };
    if series.is_null() {
        return BackendStatus::NullPointer;
    }
    guard_status(|| {
        let Some(next) = snapshot.series.get(snapshot.next) else { return BackendStatus::NotFound };
        snapshot.next += 1;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { series.write(next.borrow()) };
        BackendStatus::Ok
    })
}

/// Frees a snapshot and all that its series point to. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_free(snapshot: *mut MetricsSnapshot) {
    if !snapshot.is_null() {
        // SAFETY: made by Box::into_raw in `metrics_snapshot_new`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(snapshot) }));
    }
}

/// The options, with the defaults for NULL.
unsafe fn read_render_options(options: *const MetricsRenderOptions) -> Result<MetricsRenderOptions, Failure> {
    const SIZE: usize = size_of::<MetricsRenderOptions>();
    const FIRST_SIZE: usize = SIZE;
    if !options.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { options::read(options, FIRST_SIZE, "options", "MetricsRenderOptions") };
    }
    Ok(MetricsRenderOptions {
        size: SIZE,
        accept: ptr::null(),
        name_prefix: ptr::null(),
        families: ptr::null(),
        family_count: 0,
        others: 0,
        family_ends: ptr::null_mut(),
        foreign: ptr::null(),
    })
}

unsafe fn render(backend: &Backend, options: &MetricsRenderOptions) -> Result<Rendered, Failure> {
    // SAFETY (all five): not NULL, and the caller's promise.
    let accept =
        (!options.accept.is_null()).then(|| unsafe { CStr::from_ptr(options.accept) }.to_string_lossy());
    let name_prefix = match options.name_prefix.is_null() {
        true => None,
        false => Some(unsafe { text::borrow(options.name_prefix, "options->name_prefix") }?),
    };
    let families = match options.families.is_null() {
        true => None,
        false => Some(unsafe { borrow_families(options.families, options.family_count) }?),
    };
    let rendered = backend.render(&RenderOptions {
        format: Format::negotiate(accept.as_deref()),
        name_prefix,
        families: families.as_deref(),
        others: others(options.others)?,
        foreign: unsafe { options.foreign.as_ref() }.map_or(&[], |foreign| &foreign.families),
    })?;
    if !options.family_ends.is_null() {
        let ends = &rendered.family_ends;
        unsafe { ptr::copy_nonoverlapping(ends.as_ptr(), options.family_ends, ends.len()) };
    }
    Ok(rendered)
}

fn others(number: i32) -> Result<Others, Failure> {
    match number {
        0 => Ok(Others::None),
        1 => Ok(Others::Append),
        _ => Err(Failure::invalid(format!("options->others is {number}: expected a MetricsOthers, 0 or 1"))),
    }
}

impl From<Rendered> for MetricsText {
    fn from(rendered: Rendered) -> Self {
        let mut text = rendered.text;
        text.push('\0');
        Self { text, content_type: to_c_string(rendered.content_type) }
    }
}

/// Clones of the families (two reference counts each), so that the engine can take a plain list.
unsafe fn borrow_families(
    families: *const *const MetricFamily,
    count: usize,
) -> Result<Vec<MetricFamily>, Failure> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { text::borrow_slice(families, count, "families") }?;
    let clone_at = |(index, &family): (usize, &*const MetricFamily)| {
        // SAFETY: the caller's promise.
        unsafe { family.as_ref() }.cloned().ok_or_else(|| Failure::null(&format!("families[{index}]")))
    };
    pointers.iter().enumerate().map(clone_at).collect()
}

impl From<Snapshot> for MetricsSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        let mut series = Vec::new();
        for (family_index, family) in snapshot.families.iter().enumerate() {
            series.extend(family.series().map(|one| OwnedSeries {
                family_index,
                family: to_c_string(family.definition.name().to_owned()),
                labels: to_c_string(one.key().to_owned()),
                values: one.values(family.definition.metric_type()),
            }));
        }
        Self { series, next: 0 }
    }
}

impl OwnedSeries {
    fn borrow(&self) -> MetricsSeries {
        MetricsSeries {
            family_index: self.family_index,
            family: self.family.as_ptr(),
            labels: self.labels.as_ptr(),
            values: self.values.as_ptr(),
            value_count: self.values.len(),
        }
    }
}
