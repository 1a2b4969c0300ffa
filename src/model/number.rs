//! Formats and parses sample values and bucket bounds.
//!
//! Each number has one spelling: the shortest that parses to the same `f64`. The text exposition, the `le`
//! label and the Redis field names use it, so `10`, `10.0` and `1e1` are the same bucket. Only the `le` label
//! of OpenMetrics is spelled differently.

use std::fmt::{self, Write};

/// Below 2^53 `f64` represents every integer exactly, so its digits are the shortest text that parses to it.
pub(crate) const EXACT_INTEGERS: f64 = (1_u64 << 53) as f64;

/// Writes `value` in its shortest form: `1`, `0.25`, `1e300`, `+Inf`, `-Inf`, `NaN`.
pub fn write_number(output: &mut impl Write, value: f64) -> fmt::Result {
    let magnitude = value.abs();
    // The conversion truncates, and is one instruction; `fract` would be a call on older processors.
    let whole = value as i64;
    if magnitude < EXACT_INTEGERS && whole as f64 == value {
        if whole == 0 && value.is_sign_negative() {
            return output.write_str("-0");
        }
        match whole {
            // Most buckets hold a small count: one byte needs no buffer.
            0..=9 => output.write_char(char::from(b'0' + whole as u8)),
            _ => output.write_str(itoa::Buffer::new().format(whole)),
        }
    } else if magnitude < EXACT_INTEGERS {
        output.write_str(ryu::Buffer::new().format_finite(value))
    } else if value.is_nan() {
        output.write_str("NaN")
    } else if value.is_infinite() {
        output.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if magnitude < 1e17 {
        write!(output, "{value}")
    } else {
        write!(output, "{value:e}")
    }
}

/// Formats a bucket bound for OpenMetrics, as Go and Prometheus do: `1.0`, `0.25`, `1e+06`, `1e-05`, `+Inf`.
pub fn format_canonical_bound(value: f64) -> String {
    if !value.is_finite() {
        return format_number(value);
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 6..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ if value.fract() == 0.0 => format!("{value}.0"),
        _ => value.to_string(),
    }
}

/// Formats `value` as [`write_number`] does.
pub fn format_number(value: f64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_number(&mut text, value);
    text
}

/// Parses a number from a store: decimal, `inf`, `+Inf`, `-inf` or `nan`, in upper or lower case.
pub fn parse_number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (2.5, "2.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1_000_000.0, "1000000"),
            (1e17, "1e17"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (0.00001, "0.00001"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(format_number(value), text);
        }
    }

    #[test]
    fn bounds_of_open_metrics_are_spelled_as_go_does() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in cases {
            assert_eq!(format_canonical_bound(value), text);
        }
    }

    /// Formats with the standard library alone.
    fn plain_spelling(value: f64) -> String {
        match value.abs() {
            magnitude if magnitude == 0.0 || (1e-5..1e17).contains(&magnitude) => format!("{value}"),
            magnitude if magnitude.is_infinite() => format!("{value:+}").replace("inf", "Inf"),
            magnitude if magnitude.is_nan() => "NaN".to_owned(),
            _ => format!("{value:e}"),
        }
    }

    proptest! {
        #[test]
        fn every_way_to_write_a_number_gives_the_shortest(bits: u64, integer: i64, fraction in -1e7..1e7_f64) {
            for value in [f64::from_bits(bits), integer as f64, fraction, (integer >> 12) as f64 / 8.0] {
                let (text, plain) = (format_number(value), plain_spelling(value));
                // Two texts of the same length may be equally near to the value; the two algorithms then
                // choose differently.
                let is_tie = text.len() == plain.len() && value.fract() != 0.0;
                prop_assert!(text == plain || is_tie, "{text} {plain}");
                prop_assert!(text.parse::<f64>().is_ok_and(|read| read.to_bits() == value.to_bits() || read.is_nan()));
            }
        }

        #[test]
        fn every_bound_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            let read = parse_number(&format_canonical_bound(value)).unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn every_number_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            let read = parse_number(&format_number(value)).unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }
    }
}
