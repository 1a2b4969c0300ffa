//! How long a series may be unused before it ends.

use crate::model::error::{Error, ErrorKind, Result};

/// The longest time, in seconds: ten years.
const MAX: u32 = 315_360_000;

/// When the series of a family end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeriesTtl {
    /// Only when they are removed, whatever the store's option says.
    Never,
    /// When no process has used them for so many seconds.
    Seconds(u32),
}

impl SeriesTtl {
    /// What [`SeriesTtl::new`] accepts, for error messages.
    pub(crate) const EXPECTED: &str = "a whole number of seconds from 1 to 315360000";

    /// Returns the time of so many seconds. Infinity means that series do not end.
    pub(crate) fn new(seconds: f64) -> Result<Self> {
        if seconds == f64::INFINITY {
            return Ok(Self::Never);
        }
        if seconds.fract() == 0.0 && (1.0..=f64::from(MAX)).contains(&seconds) {
            return Ok(Self::Seconds(seconds as u32));
        }
        let message = format!("the series_ttl {seconds:?} is invalid: expected {}", Self::EXPECTED);
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }

    /// Returns the number of seconds, if series end.
    pub(crate) fn seconds(self) -> Option<u32> {
        match self {
            Self::Never => None,
            Self::Seconds(seconds) => Some(seconds),
        }
    }
}

/// Returns once in how many seconds the use of a series is noted on a server, if it ends after `ttl` seconds without
/// use.
pub(crate) fn grain(ttl: u32) -> u32 {
    ttl / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_of_seconds_up_to_ten_years() {
        assert_eq!(SeriesTtl::new(1.0).unwrap(), SeriesTtl::Seconds(1));
        assert_eq!(SeriesTtl::new(315_360_000.0).unwrap(), SeriesTtl::Seconds(MAX));
        assert_eq!(SeriesTtl::new(f64::INFINITY).unwrap().seconds(), None);
        for wrong in [0.0, -0.0, -1.0, 0.5, 1.5, f64::NAN, f64::NEG_INFINITY, 315_360_001.0, 1e300] {
            let error = SeriesTtl::new(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
            assert!(error.message().contains("from 1 to 315360000"), "{error}");
        }
    }
}
