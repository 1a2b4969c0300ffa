//! `MetricsText`: a rendered scrape.

use std::ffi::{CString, c_char};
use std::ptr;

use super::error::BackendError;
use super::failure::Failure;
use super::guard::{free, guard, guard_new, guard_void};
use super::options;
use super::pointer::borrow;
use super::render_options::MetricsRenderOptions;
use super::status::BackendStatus;
use super::string::{header, to_c_string};
use crate::backend::Backend;
use crate::exposition::{self, Rendered};

/// The body of a scrape. `metrics_render` makes one; free it with `metrics_text_free`.
#[derive(Debug)]
pub struct MetricsText {
    /// Ends with a NUL.
    body: Vec<u8>,
    content_type: CString,
}

impl From<Rendered> for MetricsText {
    fn from(rendered: Rendered) -> Self {
        let mut body = rendered.body;
        body.push(0);
        Self { body, content_type: to_c_string(rendered.content_type) }
    }
}

/// Renders metric families and writes the text to `*text`; free it with `metrics_text_free`. The
/// text shows every change that happened before in this process. With a server it waits for the
/// answer, for at most the store's `collect_timeout` seconds. `options` may be NULL: all families
/// as text 0.0.4.
///
/// A family without metrics is shown by its comments alone. A family is left out and reported to
/// the log if an earlier one has taken its names in this format (a counter `x_count` behind a
/// histogram `x`, or the same family twice): Prometheus would reject the whole text or mix up the
/// two.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
/// read.
/// BACKEND_STATUS_INVALID_ARGUMENT: a family belongs to another backend, or an option is not
/// acceptable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_render(
    backend: *const Backend,
    options: *const MetricsRenderOptions,
    text: *mut *mut MetricsText,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let render = || {
        // SAFETY: the program's promises.
        let (backend, options) =
            unsafe { (borrow(backend, "backend")?, options::read_or_zeros(options, "options")?) };
        // SAFETY: the program's promises.
        Ok(MetricsText::from(unsafe { options.render(backend) }?))
    };
    // SAFETY: the program's promises.
    unsafe { guard_new(text, "text", error, render) }
}

/// Returns the text in UTF-8, with a NUL behind its end and none inside. It lives as long as
/// `text`. Returns NULL if `text` is NULL.
///
/// A body in protobuf, which only METRICS_FORMATS_ALL allows, is binary and has NULs inside.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_data(text: *const MetricsText) -> *const c_char {
    // SAFETY: the program's promises.
    unsafe { text.as_ref() }.map_or(ptr::null(), |text| text.body.as_ptr().cast())
}

/// Returns the length of the text in bytes, without the NUL, or 0 if `text` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_length(text: *const MetricsText) -> usize {
    // SAFETY: the program's promises.
    unsafe { text.as_ref() }.map_or(0, |text| text.body.len() - 1)
}

/// Returns the value for the HTTP header `Content-Type`, which names the format. It lives as long
/// as `text`. Returns NULL if `text` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_content_type(text: *const MetricsText) -> *const c_char {
    // SAFETY: the program's promises.
    unsafe { text.as_ref() }.map_or(ptr::null(), |text| text.content_type.as_ptr())
}

/// Frees a text. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_text_free(text: *mut MetricsText) {
    // SAFETY: the program's promises.
    unsafe { free(text) }
}

/// Renders all families in the store as text 0.0.4. It writes the text to `*text` and its length in
/// bytes, without the final NUL, to `*length`, which may be NULL; free the text with
/// `backend_string_free`. Otherwise it is like `metrics_render`.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
/// read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_collect(
    backend: *const Backend,
    text: *mut *mut c_char,
    length: *mut usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let collect = || {
        // SAFETY: the program's promises.
        let backend = unsafe { borrow(backend, "backend") }?;
        if text.is_null() {
            return Err(Failure::null("text"));
        }
        let rendered = to_c_string(backend.collect_text()?);
        // SAFETY: the program's promises.
        if let Some(length) = unsafe { length.as_mut() } {
            *length = rendered.as_bytes().len();
        }
        // SAFETY: not NULL, and the program's promises.
        unsafe { text.write(rendered.into_raw()) };
        Ok(())
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, collect) }
}

/// Returns 1 if the HTTP header `Accept-Encoding` allows gzip, and 0 if not. NULL stands for a
/// request without the header and returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_accepts_gzip(accept_encoding: *const c_char) -> i32 {
    let mut accepts = false;
    guard_void(|| {
        // SAFETY: the program's promises.
        let accept_encoding = unsafe { header(accept_encoding) };
        accepts = accept_encoding.is_some_and(|text| exposition::accepts_gzip(&text));
    });
    i32::from(accepts)
}
