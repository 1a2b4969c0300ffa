//! `MetricsRenderOptions`: what a scrape shows, and how.

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use super::failure::Failure;
use super::foreign::MetricsForeign;
use super::options::{SizeFirst, choose};
use super::pointer::borrow_each;
use super::string::{header, optional_string};
use crate::backend::Backend;
use crate::backend::MetricFamily;
use crate::backend::{Others, RenderOptions};
use crate::exposition::{Format, NameFilter, Rendered};

/// The metric families that `metrics_render` shows besides those that it is asked for.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsOthers {
    /// None.
    None = 0,
    /// Behind them, the families in the store that only other processes have declared.
    Append = 1,
}

/// The formats that a client may choose by its `Accept` header.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormats {
    /// Those that are text: 0.0.4 and 1.0.0, OpenMetrics 1.0.0 and 0.0.1.
    Text = 0,
    /// Protobuf also: delimited messages `io.prometheus.client.MetricFamily`. Its body is binary, so
    /// send `metrics_text_length` bytes of it.
    All = 1,
}

/// Whether OpenMetrics shows when series began. Protobuf always does, the other formats never do.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsCreatedSamples {
    /// No.
    Hidden = 0,
    /// As a sample `_created` of each counter, summary and histogram. Prometheus stores these
    /// samples as series of their own.
    Shown = 1,
}

impl MetricsCreatedSamples {
    /// Reads the field `created_samples` of `options`.
    pub(super) fn choose(number: i32) -> Result<bool, Failure> {
        let values = [(Self::Hidden as i32, false), (Self::Shown as i32, true)];
        choose(number, "options->created_samples", "MetricsCreatedSamples", &values)
    }
}

/// What `metrics_render` shows, and how. Set the struct to zeros and `size` to
/// `sizeof(MetricsRenderOptions)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsRenderOptions {
    /// `sizeof(MetricsRenderOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The `Accept` header of the HTTP request. It selects one of the `formats`, and how names
    /// beyond `[a-zA-Z_:][a-zA-Z0-9_:]*` are escaped. NULL, or a header that asks for none of these
    /// formats, selects text 0.0.4.
    pub accept: *const c_char,
    /// The prefix of the name of each family, to which an underscore is added; NULL for none.
    pub name_prefix: *const c_char,
    /// `family_count` families, in the order in which they are shown; NULL for all families in the
    /// store.
    pub families: *const *const MetricFamily,
    /// The number of families.
    pub family_count: usize,
    /// A MetricsOthers. It has no effect if `families` is NULL.
    pub others: i32,
    /// Families whose samples the program computes, shown between the others; NULL for none.
    pub foreign: *const MetricsForeign,
    /// A MetricsFormats.
    pub formats: i32,
    /// The query of the HTTP request, the text behind the `?` of its URL. Each parameter `name[]`
    /// names a family or one of its samples. If there are any, only these families are shown, each
    /// as a whole, and none if no family has these names. Other parameters are ignored. NULL, or a
    /// query without `name[]`, shows all families.
    pub query: *const c_char,
    /// A MetricsCreatedSamples.
    pub created_samples: i32,
}

// SAFETY: `repr(C)`, begins with its size, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricsRenderOptions {
    const NAME: &'static str = "MetricsRenderOptions";
    const FIRST_SIZE: usize = offset_of!(Self, foreign) + size_of::<*const MetricsForeign>();
}

impl MetricsRenderOptions {
    /// Renders the metrics of `backend`.
    ///
    /// # Safety
    /// Each pointer is NULL or points to what its field says.
    pub(super) unsafe fn render(&self, backend: &Backend) -> Result<Rendered, Failure> {
        // SAFETY: the caller's promise.
        let (accept, name_prefix, families, foreign) = unsafe {
            (
                header(self.accept),
                optional_string(self.name_prefix, "options->name_prefix")?,
                wanted(self.families, self.family_count)?,
                self.foreign.as_ref().map_or(&[][..], MetricsForeign::families),
            )
        };
        // SAFETY: the caller's promise.
        let query = (!self.query.is_null()).then(|| unsafe { CStr::from_ptr(self.query) });
        let names = query.and_then(|query| NameFilter::from_query(query.to_bytes()));
        let others =
            [(MetricsOthers::None as i32, Others::None), (MetricsOthers::Append as i32, Others::Append)];
        let has_protobuf = [(MetricsFormats::Text as i32, false), (MetricsFormats::All as i32, true)];
        let format = match choose(self.formats, "options->formats", "MetricsFormats", &has_protobuf)? {
            true => Format::negotiate(accept.as_deref()),
            false => Format::negotiate_text(accept.as_deref()),
        };
        Ok(backend.render(&RenderOptions {
            format,
            name_prefix,
            families: families.as_deref(),
            others: choose(self.others, "options->others", "MetricsOthers", &others)?,
            created_samples: MetricsCreatedSamples::choose(self.created_samples)?,
            foreign,
            names: names.as_ref(),
        })?)
    }
}

/// Clones the families that a scrape is asked for. NULL asks for the whole store.
///
/// # Safety
/// `families` is NULL or points to `count` handles.
pub(super) unsafe fn wanted(
    families: *const *const MetricFamily,
    count: usize,
) -> Result<Option<Vec<MetricFamily>>, Failure> {
    if families.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let families = unsafe { borrow_each(families, count, "families") }?;
    Ok(Some(families.into_iter().cloned().collect()))
}
