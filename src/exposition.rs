//! Renders a snapshot as Prometheus text, format 0.0.4.
//!
//! One pass over the samples, one output buffer. It knows nothing of stores or languages.

use std::fmt::{self, Write};

use crate::family::MetricType;
use crate::labels::Labels;
use crate::number::{format_number, write_number};
use crate::sample::{FamilySamples, Series, Snapshot};

/// The media type of [`render_text`]'s output.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The snapshot as Prometheus text 0.0.4.
pub fn render_text(snapshot: &Snapshot) -> String {
    let mut output = String::new();
    for family in &snapshot.families {
        // Writing to a String cannot fail.
        let _ = write_family(&mut output, family);
    }
    output
}

fn write_family(output: &mut String, family: &FamilySamples) -> fmt::Result {
    let definition = &family.definition;
    let name = definition.name();
    write!(output, "# HELP {name} ")?;
    write_escaped(output, definition.help(), false);
    write!(output, "\n# TYPE {name} {}\n", definition.metric_type().name())?;
    let bounds: Vec<String> = match definition.metric_type() {
        MetricType::Histogram => {
            let finite = definition.buckets().iter().copied();
            finite.chain([f64::INFINITY]).map(format_number).collect()
        }
        _ => Vec::new(),
    };
    let mut labels = String::new();
    for series in &family.series {
        labels.clear();
        write_labels(&mut labels, &series.labels)?;
        write_series(output, name, definition.metric_type(), &bounds, &labels, series)?;
    }
    Ok(())
}

fn write_series(
    output: &mut String,
    name: &str,
    metric_type: MetricType,
    bounds: &[String],
    labels: &str,
    series: &Series,
) -> fmt::Result {
    match metric_type {
        MetricType::Counter | MetricType::Gauge | MetricType::Untyped => {
            return write_sample(output, name, "", labels, series.value());
        }
        MetricType::Summary => {}
        MetricType::Histogram => {
            let separator = if labels.is_empty() { "" } else { "," };
            for (bound, count) in bounds.iter().zip(series.cumulative_buckets()) {
                write!(output, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} ")?;
                write_number(output, count)?;
                output.push('\n');
            }
        }
    }
    write_sample(output, name, "_sum", labels, series.value())?;
    write_sample(output, name, "_count", labels, series.count())
}

fn write_sample(output: &mut String, name: &str, suffix: &str, labels: &str, value: f64) -> fmt::Result {
    output.push_str(name);
    output.push_str(suffix);
    if !labels.is_empty() {
        write!(output, "{{{labels}}}")?;
    }
    output.push(' ');
    write_number(output, value)?;
    output.push('\n');
    Ok(())
}

/// The labels without their braces, so that `le` can be added.
fn write_labels(output: &mut String, labels: &Labels) -> fmt::Result {
    for (index, (name, value)) in labels.iter().enumerate() {
        let separator = if index > 0 { "," } else { "" };
        write!(output, "{separator}{name}=\"")?;
        write_escaped(output, value, true);
        output.push('"');
    }
    Ok(())
}

/// Label values escape `\`, `"` and line feeds; help texts only `\` and line feeds.
fn write_escaped(output: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '"' if quotes => output.push_str("\\\""),
            other => output.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Definition;

    fn family(metric_type: MetricType, buckets: &[f64], labels: Labels, cells: Vec<f64>) -> FamilySamples {
        let names: Vec<&str> = labels.keys().map(String::as_str).collect();
        let definition = Definition::new("m", "a \\ \"b\"\nc", metric_type, &names, buckets).unwrap();
        FamilySamples { definition, series: vec![Series { labels, cells }] }
    }

    fn render(family: FamilySamples) -> String {
        render_text(&Snapshot { families: vec![family] })
    }

    #[test]
    fn counters_are_escaped_and_short() {
        let labels = Labels::from([("a".into(), "x\\\"\n".into()), ("b".into(), "é".into())]);
        assert_eq!(
            render(family(MetricType::Counter, &[], labels, vec![3.0])),
            "# HELP m a \\\\ \"b\"\\nc\n# TYPE m counter\nm{a=\"x\\\\\\\"\\n\",b=\"é\"} 3\n"
        );
    }

    #[test]
    fn special_values_are_spelled_as_prometheus_reads_them() {
        for (value, text) in
            [(f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (f64::NAN, "NaN"), (1e300, "1e300")]
        {
            let output = render(family(MetricType::Gauge, &[], Labels::new(), vec![value]));
            assert!(output.ends_with(&format!("\nm {text}\n")), "{output}");
        }
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_count_is_the_inf_bucket() {
        let labels = Labels::from([("a".into(), "x".into())]);
        let output = render(family(MetricType::Histogram, &[0.5, 10.0], labels, vec![7.5, 1.0, 2.0, 4.0]));
        assert_eq!(
            output.lines().skip(2).collect::<Vec<_>>(),
            [
                "m_bucket{a=\"x\",le=\"0.5\"} 1",
                "m_bucket{a=\"x\",le=\"10\"} 3",
                "m_bucket{a=\"x\",le=\"+Inf\"} 7",
                "m_sum{a=\"x\"} 7.5",
                "m_count{a=\"x\"} 7",
            ]
        );
    }

    #[test]
    fn summaries_have_sum_and_count() {
        let output = render(family(MetricType::Summary, &[], Labels::new(), vec![2.5, 2.0]));
        assert_eq!(output.lines().skip(2).collect::<Vec<_>>(), ["m_sum 2.5", "m_count 2"]);
    }
}
