//! Scrapes of some families of a store, which the parameters `name[]` of a query name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use pytheus_backend_rs::{
    Backend, Definition, ForeignFamily, Format, Lifetime, MetricFamily, MetricType, NameFilter, NameRule,
    Others, RenderOptions,
};
use support::shared_file::TestFile;
use support::*;

/// Returns the names of the families that a scrape shows.
fn shown(backend: &Backend, query: &str, options: RenderOptions<'_>) -> Vec<String> {
    let names = NameFilter::from_query(query);
    let text = backend.render(&RenderOptions { names: names.as_ref(), ..options }).unwrap().into_text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn declare_some(backend: &Backend) -> Vec<MetricFamily> {
    let family = |name, metric_type| {
        let family = declare(backend, name, metric_type, &["a"]);
        family.metric(&["x"]).unwrap();
        family
    };
    vec![
        family("requests_total", MetricType::Counter),
        family("level", MetricType::Gauge),
        family("size_bytes", MetricType::Summary),
        family("seconds", MetricType::Histogram),
    ]
}

/// Checks what a backend shows that has declared the families, and another one with the same store.
fn check(backend: &Backend, other: Option<&Backend>) {
    let families = declare_some(backend);
    flush(backend);
    for backend in [backend].into_iter().chain(other) {
        let all = |query| shown(backend, query, RenderOptions::default());
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(all("")), ["level", "requests_total", "seconds", "size_bytes"]);
        assert_eq!(all("name[]=level"), ["level"]);
        assert_eq!(sorted(all("name[]=seconds_bucket&x=1&name[]=requests")), ["requests_total", "seconds"]);
        assert_eq!(all("name[]=nothing"), [""; 0]);
        let prefixed = RenderOptions { name_prefix: Some("app"), ..Default::default() };
        assert_eq!(shown(backend, "name[]=level", prefixed), [""; 0], "the name has a prefix");
        assert_eq!(shown(backend, "name[]=app_size_bytes_sum", prefixed), ["app_size_bytes"]);
    }
    let whole = backend.render(&RenderOptions::default()).unwrap().into_text();
    let names = NameFilter::from_query("name[]=seconds_count");
    let part = backend.render(&RenderOptions { names: names.as_ref(), ..Default::default() }).unwrap();
    let part = part.into_text();
    assert!(part.contains("seconds_bucket") && whole.contains(&part), "the whole family: {part}");

    // Families that the caller names, with families of its own between them, and those of others behind them.
    let foreign = |name, position| {
        let definition = Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap();
        ForeignFamily::new(definition, NameRule::Legacy, position)
    };
    let foreign = [foreign("before_level", 1), foreign("before_seconds", 3), foreign("last", 4)];
    let options = RenderOptions { families: Some(&families), foreign: &foreign, ..Default::default() };
    let query = "name[]=seconds&name[]=before_seconds&name[]=last&name[]=level&name[]=theirs";
    assert_eq!(shown(backend, query, options), ["level", "before_seconds", "seconds", "last"]);
    if let Some(other) = other {
        for name in ["theirs", "theirs_too"] {
            declare(other, name, MetricType::Gauge, &[]).metric(&[]).unwrap().set(1.0).unwrap();
        }
        flush(other);
        let options = RenderOptions { others: Others::Append, ..options };
        assert_eq!(shown(backend, query, options), ["level", "before_seconds", "seconds", "last", "theirs"]);
    }
}

#[test]
fn a_query_selects_families_in_memory() {
    check(&Backend::open("memory:").unwrap(), None);
}

#[test]
fn a_query_selects_infos_and_state_sets_by_the_names_that_are_shown() {
    let backend = Backend::open("memory:").unwrap();
    let info = Definition::with_names(NameRule::Utf8, "x.y", "", MetricType::Info, &[], &[]).unwrap();
    let info = backend.declare(info, &[], Lifetime::Backend).unwrap();
    info.set_info(&[], &[("version", "1")]).unwrap();
    let states = Definition::state_set(NameRule::Legacy, "mode", "", &[], &["on", "off"]).unwrap();
    backend.declare(states, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
    let shown_to = |accept, query| {
        let format = Format::negotiate(accept);
        shown(&backend, query, RenderOptions { format, ..Default::default() })
    };
    assert_eq!(shown_to(None, "name[]=x_y_info"), ["x_y_info"]);
    assert_eq!(shown_to(None, "name[]=x.y_info"), ["x_y_info"]);
    let values = Some("text/plain;version=1.0.0;escaping=values");
    assert_eq!(shown_to(values, "name[]=U__x_2e_y__info"), ["U__x_2e_y__info"]);
    assert_eq!(shown_to(None, "name[]=mode"), ["mode"]);
}

#[test]
fn a_query_selects_families_of_a_metrics_file() {
    let file = TestFile::new();
    check(&file.open(), Some(&file.open()));
    let attached = Backend::open(&file.url("start=attach")).unwrap();
    assert_eq!(shown(&attached, "name[]=level", RenderOptions::default()), ["level"]);
}

#[test]
fn a_query_selects_families_on_a_server_and_no_others_are_read() {
    let server = Server::start();
    check(&open(&server, ""), Some(&open(&server, "")));
    let reader = open(&server, "");
    // The first scrape announces what there is to announce.
    shown(&reader, "name[]=level", RenderOptions::default());
    let reads = |query: &str| {
        let fresh = open(&server, "");
        let before = server.calls_of("hgetall") + server.calls_of("get");
        shown(&fresh, query, RenderOptions::default());
        server.calls_of("hgetall") + server.calls_of("get") - before
    };
    // One more of both are the definitions.
    assert_eq!(reads("name[]=level&name[]=seconds_sum"), 1 + 2);
    assert_eq!(reads(""), 1 + 6);
    assert_eq!(reads("name[]=nothing"), 1);
}

#[test]
fn a_query_that_names_nothing_gives_an_empty_exposition() {
    let backend = Backend::open("memory:").unwrap();
    declare_some(&backend);
    let names = NameFilter::from_query("name[]=nothing");
    let protobuf =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    let accepted = [("", ""), ("application/openmetrics-text;version=1.0.0", "# EOF\n"), (protobuf, "")];
    for (accept, expected) in accepted {
        let format = Format::negotiate(Some(accept));
        let options = RenderOptions { format, names: names.as_ref(), ..Default::default() };
        assert_eq!(backend.render(&options).unwrap().into_text(), expected);
    }
}

#[test]
fn a_query_selects_among_the_families_of_a_collect_function() {
    let backend = Backend::open("memory:").unwrap();
    let collect = || {
        ["threads", "files"].map(|name| {
            let definition = Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap();
            ForeignFamily::new(definition, NameRule::Legacy, 0)
        })
    };
    backend.on_collect(move || collect().into()).unwrap();
    assert_eq!(shown(&backend, "name[]=files&name[]=x", RenderOptions::default()), ["files"]);
}
