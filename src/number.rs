//! How a sample value and a bucket bound are written and read.
//!
//! One spelling per number: the shortest that reads back as the same `f64`. It serves the text
//! exposition, the `le` label and the Redis field names, so that `10`, `10.0` and `1e1` are one bucket.

use std::fmt::{self, Write};

/// Writes `value` in its shortest form: `1`, `0.25`, `1e300`, `+Inf`, `-Inf`, `NaN`.
pub fn write_number(output: &mut impl Write, value: f64) -> fmt::Result {
    let magnitude = value.abs();
    if value.is_nan() {
        output.write_str("NaN")
    } else if value.is_infinite() {
        output.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if magnitude == 0.0 || (1e-5..1e17).contains(&magnitude) {
        write!(output, "{value}")
    } else {
        write!(output, "{value:e}")
    }
}

/// `value` as [`write_number`] writes it.
pub fn format_number(value: f64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_number(&mut text, value);
    text
}

/// Reads a number as stores hold it: decimal, `inf`, `+Inf`, `-inf`, `nan`, in any case.
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

    proptest! {
        #[test]
        fn every_number_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            let read = parse_number(&format_number(value)).unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }
    }
}
