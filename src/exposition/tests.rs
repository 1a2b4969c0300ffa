//! Tests of the exact text of each format, and of what a parser reads back.

use proptest::prelude::*;

use super::*;
use crate::model::definition::Definition;
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;
use crate::model::name::NameRule;
use crate::model::number::parse_number;
use crate::model::sample::{FamilySamples, Milliseconds};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns a family with the given series, each of labels and cells.
fn family(
    name: &str,
    metric_type: MetricType,
    buckets: &[f64],
    series: &[(Labels, &[f64])],
) -> FamilySamples {
    let names: Vec<&str> =
        series.first().map_or(Vec::new(), |(labels, _)| labels.keys().map(String::as_str).collect());
    let definition =
        Definition::with_names(NameRule::Utf8, name, "Help.", metric_type, &names, buckets).unwrap();
    filled(definition, series, None)
}

fn filled(definition: Definition, series: &[(Labels, &[f64])], created: Option<u64>) -> FamilySamples {
    let mut samples = FamilySamples::new(definition);
    for (labels, cells) in series {
        samples.push(&labels::encode(labels), created.and_then(Milliseconds::new)).copy_from_slice(cells);
    }
    samples
}

fn rendered(families: Vec<FamilySamples>, accept: &str) -> String {
    Snapshot { families }.render(Format::negotiate(Some(accept))).into_text()
}

/// Renders one family and returns its sample lines.
fn samples(family: FamilySamples, accept: &str) -> Vec<String> {
    let text = rendered(vec![family], accept);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn text_is_escaped_and_short() {
    let definition = Definition::new("m", "a \\ \"b\"\nc", MetricType::Counter, &["a", "b"], &[]).unwrap();
    let series = labels(&[("a", "x\\\"\n\t\u{1}\0"), ("b", "é")]);
    let family = filled(definition, &[(series, &[3.0])], Some(1_500));
    assert_eq!(
        rendered(vec![family.clone()], ""),
        "# HELP m a \\\\ \"b\"\\nc\n# TYPE m counter\nm{a=\"x\\\\\\\"\\n\t\u{1}\u{FFFD}\",b=\"é\"} 3\n"
    );
    assert_eq!(rendered(vec![family.clone()], ""), render_text(&Snapshot { families: vec![family] }));
}

#[test]
fn special_values_are_spelled_as_prometheus_reads_them() {
    for (value, text) in [
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
        (1e300, "1e300"),
        (-0.0, "-0"),
    ] {
        for accept in ["", OPEN_METRICS] {
            let gauge = family("m", MetricType::Gauge, &[], &[(Labels::new(), &[value])]);
            assert_eq!(samples(gauge, accept), [format!("m {text}")]);
        }
    }
}

#[test]
fn histogram_buckets_are_cumulative_and_count_is_the_inf_bucket() {
    let histogram = || {
        let series = [(labels(&[("a", "x")]), &[7.5, 1.0, 2.0, 4.0][..])];
        family("m", MetricType::Histogram, &[0.5, 10.0], &series)
    };
    let expected = [
        "m_bucket{a=\"x\",le=\"0.5\"} 1",
        "m_bucket{a=\"x\",le=\"10\"} 3",
        "m_bucket{a=\"x\",le=\"+Inf\"} 7",
        "m_sum{a=\"x\"} 7.5",
        "m_count{a=\"x\"} 7",
    ];
    assert_eq!(samples(histogram(), ""), expected);
    assert_eq!(samples(histogram(), OPEN_METRICS), expected.map(|line| line.replace("\"10\"", "\"10.0\"")));
    let plain = family("m", MetricType::Histogram, &[1e6], &[(Labels::new(), &[0.0, 0.0, 0.0])]);
    assert_eq!(samples(plain, OPEN_METRICS)[0], "m_bucket{le=\"1e+06\"} 0");
}

#[test]
fn the_states_of_a_state_set_have_a_label_of_its_escaped_name() {
    let states = |name: &str| {
        let definition =
            Definition::state_set(NameRule::Utf8, name, "Help.", &["a"], &["on", "o\"ff"]).unwrap();
        filled(definition, &[(labels(&[("a", "x")]), &[2.0])], Some(1_500))
    };
    for (accept, name, label) in [
        (OPEN_METRICS, "my_set{", "my_set"),
        ("text/plain;version=1.0.0;escaping=dots", "my_dot_set{", "my_dot_set"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "{\"my.set\",", "\"my.set\""),
    ] {
        let line = |state: &str, value| format!("{name}a=\"x\",{label}=\"{state}\"}} {value}");
        assert_eq!(samples(states("my.set"), accept), [line("on", 0), line("o\\\"ff", 1)], "{accept}");
    }
    let one_label = filled(states("my.set").definition, &[(labels(&[("my.set", "x")]), &[1.0])], None);
    assert_eq!(samples(one_label, ""), [""; 0], "another program stored a label of the family's name");
    let prefixed = |prefix| {
        let options = Rendering { name_prefix: Some(prefix), ..Default::default() };
        render(&Snapshot { families: vec![states("set")] }, &options).into_text()
    };
    assert!(prefixed("app").contains("app_set{a=\"x\",app_set=\"on\"} 0\n"));
    assert_eq!(prefixed("a:b"), "", "no label can have this name");
}

#[test]
fn an_info_ends_with_its_suffix_once() {
    for (name, accept, expected) in [
        ("x", "", "# HELP x_info Help.\n# TYPE x_info gauge\nx_info{a=\"b\"} 1\n"),
        ("x_info", "", "# HELP x_info Help.\n# TYPE x_info gauge\nx_info{a=\"b\"} 1\n"),
        ("x", OPEN_METRICS, "# HELP x Help.\n# TYPE x info\nx_info{a=\"b\"} 1\n# EOF\n"),
        ("x_info", OPEN_METRICS, "# HELP x Help.\n# TYPE x info\nx_info{a=\"b\"} 1\n# EOF\n"),
        (
            "x.y",
            "text/plain;version=1.0.0;escaping=values",
            "# HELP U__x_2e_y__info Help.\n# TYPE U__x_2e_y__info gauge\nU__x_2e_y__info{a=\"b\"} 1\n",
        ),
    ] {
        let info = family(name, MetricType::Info, &[], &[(labels(&[("a", "b")]), &[1.0])]);
        assert_eq!(rendered(vec![info], accept), expected);
    }
    let twice = ["x", "x_info"].map(|name| family(name, MetricType::Info, &[], &[]));
    assert_eq!(rendered(twice.into(), "").matches("# TYPE").count(), 1, "both have the same samples");
}

#[test]
fn a_gauge_histogram_with_negative_bounds_may_have_a_sum_below_zero() {
    let histogram =
        || family("x", MetricType::GaugeHistogram, &[-1.0], &[(Labels::new(), &[-2.5, 1.0, 0.0])]);
    assert_eq!(samples(histogram(), OPEN_METRICS)[2..], ["x_gsum -2.5", "x_gcount 1"]);
    assert_eq!(samples(histogram(), "")[2..], ["x_sum -2.5", "x_count 1"]);
}

#[test]
fn summaries_have_sum_and_count() {
    let summary = family("m", MetricType::Summary, &[], &[(Labels::new(), &[2.5, 2.0])]);
    assert_eq!(samples(summary.clone(), ""), ["m_sum 2.5", "m_count 2"]);
    assert_eq!(samples(summary, OPEN_METRICS), ["m_sum 2.5", "m_count 2"]);
}

#[test]
fn open_metrics_names_counters_without_their_suffix_and_says_when_they_began() {
    let counter = |name: &str| {
        let definition = Definition::new(name, "A \"count\".", MetricType::Counter, &[], &[]).unwrap();
        filled(definition, &[(Labels::new(), &[2.0])], Some(1_700_000_000_250))
    };
    let shown = |family: FamilySamples, accept: &str| {
        let options = Rendering {
            format: Format::negotiate(Some(accept)),
            created_samples: true,
            ..Default::default()
        };
        render(&Snapshot { families: vec![family] }, &options).into_text()
    };
    let expected = "# HELP x A \\\"count\\\".\n# TYPE x counter\nx_total 2\nx_created 1700000000.25\n# EOF\n";
    assert_eq!(shown(counter("x_total"), OPEN_METRICS), expected);
    let text = shown(counter("x"), "text/plain");
    assert_eq!(text, "# HELP x A \"count\".\n# TYPE x counter\nx 2\n", "text tells nothing of it");
    let expected = expected.replace("x_created 1700000000.25\n", "");
    assert_eq!(rendered(vec![counter("x_total")], OPEN_METRICS), expected);
    assert_eq!(rendered(vec![counter("x")], OPEN_METRICS), expected);
    assert!(rendered(vec![counter("_total")], OPEN_METRICS).contains("\n_total_total 2\n"));
}

#[test]
fn open_metrics_has_units_and_the_unknown_type() {
    let definition = Definition::new("x_seconds_total", "", MetricType::Counter, &[], &[]).unwrap();
    let with_unit = FamilySamples::new(definition.with_unit("seconds").unwrap());
    let expected = "# HELP x_seconds \n# TYPE x_seconds counter\n# UNIT x_seconds seconds\n# EOF\n";
    assert_eq!(rendered(vec![with_unit.clone()], OPEN_METRICS), expected);
    assert_eq!(rendered(vec![with_unit], ""), "# HELP x_seconds_total \n# TYPE x_seconds_total counter\n");
    let untyped = family("x", MetricType::Untyped, &[], &[]);
    assert!(rendered(vec![untyped.clone()], OPEN_METRICS).contains("# TYPE x unknown\n"));
    assert!(rendered(vec![untyped], "").contains("# TYPE x untyped\n"));
    assert_eq!(rendered(vec![], OPEN_METRICS), "# EOF\n");
}

#[test]
fn open_metrics_leaves_out_what_its_parsers_refuse() {
    let none = Labels::new;
    for bad in [-1.0, f64::NAN] {
        let counter = family("x", MetricType::Counter, &[], &[(none(), &[bad])]);
        assert!(samples(counter.clone(), OPEN_METRICS).is_empty());
        assert_eq!(samples(counter, "").len(), 1);
        let summary = family("x", MetricType::Summary, &[], &[(none(), &[bad, 2.0])]);
        assert_eq!(samples(summary, OPEN_METRICS), ["x_count 2"]);
        let histogram = family("x", MetricType::Histogram, &[1.0], &[(none(), &[bad, 2.0, 3.0])]);
        assert_eq!(samples(histogram, OPEN_METRICS), ["x_bucket{le=\"1.0\"} 2", "x_bucket{le=\"+Inf\"} 5"]);
    }
    let below_zero = family("x", MetricType::Histogram, &[-1.0], &[(none(), &[3.0, 0.0, 3.0])]);
    assert_eq!(samples(below_zero.clone(), OPEN_METRICS).len(), 2);
    assert_eq!(samples(below_zero, "").len(), 4);
    for count in [0.5, -1.0, f64::INFINITY, f64::NAN] {
        let summary = family("x", MetricType::Summary, &[], &[(none(), &[1.0, count])]);
        assert!(samples(summary, OPEN_METRICS).is_empty(), "{count}");
        for cells in [[1.0, count, 1.0], [1.0, 1.0, count]] {
            let histogram = family("x", MetricType::Histogram, &[1.0], &[(none(), &cells)]);
            assert!(samples(histogram.clone(), OPEN_METRICS).is_empty(), "{cells:?}");
            assert_eq!(samples(histogram, "").len(), 4);
        }
    }
}

#[test]
fn names_beyond_the_old_rule_are_written_as_the_client_asks() {
    let histogram = || {
        let series = [(labels(&[("http.method", "GET")]), &[0.5, 1.0, 0.0][..])];
        family("my.time", MetricType::Histogram, &[1.0], &series)
    };
    let cases = [
        ("", "my_time", "my_time_count{http_method=\"GET\"} 1"),
        ("text/plain;escaping=dots", "my_dot_time", "my_dot_time_count{http_dot_method=\"GET\"} 1"),
        ("text/plain;escaping=values", "U__my_2e_time", "U__my_2e_time_count{U__http_2e_method=\"GET\"} 1"),
        ("text/plain;escaping=allow-utf-8", "\"my.time\"", "{\"my.time_count\",\"http.method\"=\"GET\"} 1"),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "\"my.time\"",
            "{\"my.time_count\",\"http.method\"=\"GET\"} 1",
        ),
    ];
    for (accept, name, last) in cases {
        let text = rendered(vec![histogram()], accept);
        assert!(
            text.contains(&format!("# HELP {name} Help.\n# TYPE {name} histogram\n")),
            "{accept}: {text}"
        );
        assert_eq!(text.lines().last(), Some(last), "{accept}");
    }
    let odd = family("a \"b\"\\\n", MetricType::Counter, &[], &[(labels(&[("le", "x")]), &[1.0])]);
    assert_eq!(
        rendered(vec![odd], &format!("{OPEN_METRICS};escaping=allow-utf-8")),
        "# HELP \"a \\\"b\\\"\\\\\\n\" Help.\n# TYPE \"a \\\"b\\\"\\\\\\n\" counter\n\
         {\"a \\\"b\\\"\\\\\\n_total\",le=\"x\"} 1\n# EOF\n"
    );
    let bare = family("my.gauge", MetricType::Gauge, &[], &[(Labels::new(), &[1.0])]);
    assert_eq!(samples(bare, "text/plain;escaping=allow-utf-8"), ["{\"my.gauge\"} 1"]);
}

#[test]
fn a_family_whose_names_are_taken_is_left_out() {
    let lone = |name: &str, metric_type: MetricType| {
        family(
            name,
            metric_type,
            &[],
            &[(Labels::new(), &[1.0, 2.0][..if metric_type == MetricType::Summary { 2 } else { 1 }])],
        )
    };
    let types = |names: &[(&str, MetricType)], accept: &str| {
        let families = names.iter().map(|&(name, metric_type)| lone(name, metric_type)).collect();
        let text = rendered(families, accept);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    use MetricType::{Counter, Gauge, Summary};
    assert_eq!(types(&[("s", Summary), ("s_count", Counter), ("z", Gauge)], ""), ["s", "z"]);
    assert_eq!(types(&[("s_count", Counter), ("s", Summary), ("z", Gauge)], ""), ["s_count", "z"]);
    assert_eq!(types(&[("x", Gauge), ("x", Counter)], ""), ["x"]);
    assert_eq!(types(&[("x", Counter), ("x_total", Counter)], ""), ["x", "x_total"]);
    assert_eq!(types(&[("x", Counter), ("x_total", Counter)], OPEN_METRICS), ["x"]);
    assert_eq!(types(&[("x", Counter), ("x_created", Gauge)], OPEN_METRICS), ["x"]);
    assert_eq!(types(&[("a.b", Gauge), ("a_b", Gauge)], ""), ["a_b"]);
    assert_eq!(
        types(&[("a.b", Gauge), ("a_b", Gauge)], "text/plain;escaping=allow-utf-8"),
        ["\"a.b\"", "a_b"]
    );
    let same_labels = family("l", MetricType::Gauge, &[], &[(labels(&[("a.b", "1"), ("a_b", "2")]), &[1.0])]);
    assert_eq!(rendered(vec![same_labels.clone()], ""), "");
    assert_eq!(samples(same_labels, "text/plain;escaping=values"), ["l{U__a_2e_b=\"1\",a_b=\"2\"} 1"]);
    let reserved = family("l", MetricType::Gauge, &[], &[(labels(&[("花火", "1")]), &[1.0])]);
    assert_eq!(rendered(vec![reserved], ""), "", "the label would be __");
}

#[test]
fn series_with_labels_of_another_program_are_shown_if_they_do_no_harm() {
    let series = [
        (labels(&[("a", "1")]), &[1.0][..]),
        (labels(&[("b.c", "\"")]), &[2.0]),
        (labels(&[("a.c", ""), ("a_c", "")]), &[3.0]),
    ];
    let gauge = family("m", MetricType::Gauge, &[], &series);
    assert_eq!(samples(gauge, ""), ["m{a=\"1\"} 1", "m{b_c=\"\\\"\"} 2"]);
}

#[test]
fn a_prefix_stands_before_every_name() {
    let families = vec![
        family("a", MetricType::Gauge, &[], &[]),
        family("a", MetricType::Gauge, &[], &[]),
        family("b.c", MetricType::Counter, &[], &[(Labels::new(), &[1.0])]),
        family("other", MetricType::Gauge, &[], &[]),
    ];
    let format = Format::negotiate(Some(OPEN_METRICS));
    let options = Rendering { format, name_prefix: Some("app"), named: Some(3), ..Default::default() };
    assert_eq!(
        render(&Snapshot { families }, &options).into_text(),
        "# HELP app_a Help.\n# TYPE app_a gauge\n\
         # HELP app_b_c Help.\n# TYPE app_b_c counter\napp_b_c_total 1\n\
         # HELP app_other Help.\n# TYPE app_other gauge\n# EOF\n",
        "the second family of a name is left out"
    );
}

// A parser reads back what the renderer wrote.

/// A family as the parser reads it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Parsed {
    name: String,
    help: String,
    metric_type: String,
    samples: Vec<Sample>,
}

/// Name, labels and the bits of the value, so that NaN equals NaN.
type Sample = (String, Vec<(String, String)>, u64);

/// Parses all formats, without code of the renderer.
fn parse(text: &str, is_open_metrics: bool) -> Vec<Parsed> {
    let text = text.strip_suffix("# EOF\n").inspect(|_| assert!(is_open_metrics)).unwrap_or(text);
    let mut families: Vec<Parsed> = Vec::new();
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = parse_name(rest, ' ');
            families.push(Parsed { name, help: unescape(help, is_open_metrics), ..Default::default() });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, metric_type) = parse_name(rest, ' ');
            let family = families.last_mut().unwrap();
            assert_eq!(name, family.name);
            family.metric_type = metric_type.to_owned();
        } else {
            families.last_mut().unwrap().samples.push(parse_sample(line));
        }
    }
    families
}

fn parse_sample(line: &str) -> Sample {
    let bits = |text: &str| {
        let value = parse_number(text).unwrap();
        if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
    };
    let Some(mut rest) = line.strip_prefix('{').or_else(|| line.split_once('{').map(|(_, rest)| rest)) else {
        let (name, value) = line.split_once(' ').unwrap();
        return (name.to_owned(), Vec::new(), bits(value));
    };
    let mut name = line[..line.len() - rest.len() - 1].to_owned();
    let mut labels = Vec::new();
    while !rest.starts_with('}') {
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if rest.starts_with('"') && name.is_empty() {
            (name, rest) = parse_quoted(rest);
        } else {
            let (label, behind) = parse_name(rest, '=');
            let (value, behind) = parse_quoted(behind);
            labels.push((label, value));
            rest = behind;
        }
    }
    (name, labels, bits(rest.strip_prefix("} ").unwrap()))
}

/// Splits off a name, quoted or not, and returns the text after `end`.
fn parse_name(text: &str, end: char) -> (String, &str) {
    if text.starts_with('"') {
        let (name, rest) = parse_quoted(text);
        return (name, rest.strip_prefix(end).unwrap());
    }
    let (name, rest) = text.split_once(end).unwrap();
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte)), "{text}");
    (name.to_owned(), rest)
}

fn parse_quoted(text: &str) -> (String, &str) {
    let text = text.strip_prefix('"').unwrap();
    let mut is_escaped = false;
    let end = text.find(|character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    });
    let (quoted, rest) = text.split_at(end.unwrap());
    (unescape(quoted, true), &rest[1..])
}

fn unescape(text: &str, quotes: bool) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next().unwrap() {
                'n' => '\n',
                '\\' => '\\',
                '"' if quotes => '"',
                other => panic!("\\{other} in {text:?}"),
            },
            other => other,
        });
    }
    plain
}

/// Returns what a parser should read for `family`.
fn expected(family: &FamilySamples, is_open_metrics: bool) -> Parsed {
    let definition = &family.definition;
    let metric_type = definition.metric_type();
    let is_open_counter = is_open_metrics && metric_type == MetricType::Counter;
    let base = match is_open_counter {
        true => definition.name().strip_suffix("_total").unwrap_or(definition.name()),
        false => definition.name(),
    };
    let mut parsed = Parsed {
        name: base.to_owned(),
        help: definition.help().to_owned(),
        metric_type: match metric_type {
            MetricType::Untyped if is_open_metrics => "unknown".to_owned(),
            MetricType::GaugeHistogram if !is_open_metrics => "histogram".to_owned(),
            other => other.name().to_owned(),
        },
        samples: Vec::new(),
    };
    for series in family.series() {
        let labels: Vec<(String, String)> = series.labels().into_iter().collect();
        let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        let sample = |suffix: &str, value: f64| (format!("{base}{suffix}"), labels.clone(), bits(value));
        let is_counted = series.value() >= 0.0;
        let is_below_zero_sound = metric_type == MetricType::GaugeHistogram && series.value() < 0.0;
        let has_sound_sum = match definition.has_negative_bounds() {
            true if metric_type == MetricType::GaugeHistogram => is_counted || is_below_zero_sound,
            has_negative_bounds => is_counted && !has_negative_bounds,
        };
        let hides_sum = is_open_metrics && !has_sound_sum;
        match metric_type {
            MetricType::Counter if is_open_counter && !is_counted => {}
            MetricType::Counter if is_open_counter => parsed.samples.push(sample("_total", series.value())),
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => {
                parsed.samples.push(sample("", series.value()));
            }
            MetricType::Summary => {
                parsed.samples.extend((!hides_sum).then(|| sample("_sum", series.value())));
                parsed.samples.push(sample("_count", series.count()));
            }
            MetricType::Info | MetricType::StateSet => panic!("these have tests of their own"),
            MetricType::Histogram | MetricType::GaugeHistogram => {
                let is_gauge = is_open_metrics && metric_type == MetricType::GaugeHistogram;
                let (sum, count) = if is_gauge { ("_gsum", "_gcount") } else { ("_sum", "_count") };
                let bounds = definition.buckets().iter().copied().chain([f64::INFINITY]);
                for (bound, count) in bounds.zip(series.cumulative_buckets()) {
                    let mut bucket = sample("_bucket", count);
                    let spell = if is_open_metrics {
                        crate::model::number::format_canonical_bound
                    } else {
                        crate::model::number::format_number
                    };
                    bucket.1.push(("le".to_owned(), spell(bound)));
                    parsed.samples.push(bucket);
                }
                if !hides_sum {
                    parsed.samples.push(sample(sum, series.value()));
                    parsed.samples.push(sample(count, series.count()));
                }
            }
        }
    }
    parsed
}

/// Generates texts in which characters that the formats escape are frequent. Excludes NUL, which is replaced.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\x00]{0,8}", "[\\\\\"\n {}=,#a]{0,8}", "[a-z_]{1,8}"]
}

fn metric_name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_:]{0,6}(_total)?", text()]
}

fn a_family() -> impl Strategy<Value = FamilySamples> {
    let metric_type = prop::sample::select(vec![
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::Summary,
        MetricType::Untyped,
        MetricType::GaugeHistogram,
    ]);
    let buckets = prop::collection::btree_set(-5_000_000_i64..50_000_000, 1..4);
    let label_names = prop::collection::btree_set(text(), 0..3);
    let values = prop::collection::vec(
        (prop::collection::vec(text(), 3), any::<f64>(), prop::collection::vec(0_u32.., 5)),
        0..3,
    );
    (metric_name(), text(), metric_type, buckets, label_names, values).prop_map(
        |(name, help, metric_type, buckets, label_names, values)| {
            // The prefix avoids reserved names.
            let label_names: Vec<String> = label_names.iter().map(|name| format!("n{name}")).collect();
            let label_names: Vec<&str> = label_names.iter().map(String::as_str).collect();
            let buckets: Vec<f64> = match metric_type.has_buckets() {
                true => buckets.into_iter().map(|bound| bound as f64 / 1000.0).collect(),
                false => Vec::new(),
            };
            let name = format!("m{name}");
            let definition =
                Definition::with_names(NameRule::Utf8, &name, &help, metric_type, &label_names, &buckets);
            let definition = definition.unwrap();
            let mut series: Vec<(Labels, Vec<f64>)> = Vec::new();
            for (label_values, value, counts) in values {
                let labels = label_names.iter().zip(&label_values);
                let labels = labels.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                let cells = [value].into_iter().chain(counts.into_iter().map(f64::from));
                if series.iter().all(|(before, _)| *before != labels) {
                    series.push((labels, cells.take(definition.cell_count()).collect()));
                }
            }
            let series: Vec<_> = series.iter().map(|(labels, cells)| (labels.clone(), &cells[..])).collect();
            filled(definition, &series, None)
        },
    )
}

proptest! {
    #[test]
    fn what_is_rendered_reads_back_the_same(mut families in prop::collection::vec(a_family(), 0..4)) {
        // Skips families whose names collide.
        let mut claims = Claims::default();
        families.retain(|family| {
            let name = family.definition.name();
            let suffixes = ["", "_total", "_count", "_sum", "_gcount", "_gsum", "_bucket", "_created"];
            claims.claim(name.strip_suffix("_total").unwrap_or(name), &suffixes).is_ok()
        });
        for accept in ["text/plain", "text/plain;version=1.0.0", OPEN_METRICS] {
            let format = Format::negotiate(Some(&format!("{accept};escaping=allow-utf-8")));
            let text = Snapshot { families: families.clone() }.render(format).into_text();
            let expected: Vec<_> =
                families.iter().map(|family| expected(family, format.is_open_metrics())).collect();
            prop_assert_eq!(parse(&text, format.is_open_metrics()), expected, "{}", text);
        }
    }

    #[test]
    fn escaped_names_are_such_that_all_versions_take_them(name in text(), label in text()) {
        for escaping in ["underscores", "dots", "values"] {
            let series = [(labels(&[(&format!("n{label}"), "v")]), &[1.0][..])];
            let gauge = family(&format!("m{name}"), MetricType::Gauge, &[], &series);
            let text = rendered(vec![gauge], &format!("text/plain;escaping={escaping}"));
            let sample = text.split_terminator('\n').next_back().unwrap();
            let (name, rest) = sample.split_once("{").unwrap();
            prop_assert!(crate::model::name::is_legacy_metric_name(name), "{}", text);
            prop_assert!(crate::model::name::is_legacy_label_name(rest.split_once('=').unwrap().0), "{}", text);
        }
    }
}
