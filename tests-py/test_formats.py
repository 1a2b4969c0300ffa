"""The formats of a scrape, as the parsers of prometheus_client read them.

Its OpenMetrics parser is the strictest that there is: it refuses what Prometheus would only mix up. The
engine is called through its C interface, where every type and name can be declared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib

from redis_server import Server

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
TEXT = "text/plain;version=0.0.4"
UTF8_FORMATS = [
    f"{OPEN_METRICS};escaping=allow-utf-8",
    f"{TEXT};escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
]
#: What is hard to read back: quotes, escapes, line ends of all kinds, braces, other scripts.
ODD_TEXTS = [
    "",
    " ",
    'a"b',
    "\\",
    "\\n",
    "a\nb",
    "a\r\nb\x0b\x0c\x1c\x85\u2028c",
    "}{=,# ",
    '",a="',
    "größe 花火 \U0001f386",
    "\x01\x1f\x7f\t",
    "trailing\\",
]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], str]


class Store:
    """An open store, with the calls that these tests need."""

    def __init__(self, url: str) -> None:
        handle = ffi.new("Backend **")
        error = ErrorSlot()
        error.check(lib.released_backend_new(url.encode(), handle, error.pointer))
        self.handle = handle[0]
        # All that is declared lives until the test ends.
        self.kept: list[Any] = []

    def declare(
        self,
        metric_type: str,
        name: str,
        label_names: Iterable[str] = (),
        buckets: Iterable[float] = (),
        help_text: str = "Help.",
        unit: str | None = None,
    ) -> Callable[..., Any]:
        """Declares a family, and gives what makes its metrics from label values."""
        options = ffi.new("MetricFamilyOptions *")
        bounds = list(buckets)
        names = [ffi.new("char[]", label.encode()) for label in label_names]
        self.kept += [names, ffi.new("char *[]", names), ffi.new("double[]", bounds)]
        options.size = ffi.sizeof("MetricFamilyOptions")
        options.label_names, options.buckets = self.kept[-2:]
        options.label_count, options.bucket_count = len(names), len(bounds)
        options.name = self._text(name)
        options.help = self._text(help_text)
        options.unit = ffi.NULL if unit is None else self._text(unit)
        options.metric_type = getattr(lib, f"METRIC_TYPE_{metric_type.upper()}")
        options.names = lib.METRIC_NAMES_UTF8
        family = ffi.new("MetricFamily **")
        error = ErrorSlot()
        error.check(lib.released_metric_family_new(self.handle, options, family, error.pointer))
        self.kept.append(ffi.gc(family[0], lib.metric_family_free))

        def metric(*label_values: str) -> Any:
            values = [ffi.new("char[]", value.encode()) for value in label_values]
            made = ffi.new("Metric **")
            error = ErrorSlot()
            list_of_values = ffi.new("char *[]", values)
            error.check(lib.released_metric_new(family[0], list_of_values, len(values), made, error.pointer))
            self.kept.append(ffi.gc(made[0], lib.metric_free))
            return made[0]

        return metric

    def render(self, accept: str, created_samples: int = 0) -> tuple[str, str]:
        """A scrape and its content type."""
        header = ffi.new("char[]", accept.encode())
        options = ffi.new("MetricsRenderOptions *")
        options.size = ffi.sizeof("MetricsRenderOptions")
        options.accept = header
        options.created_samples = created_samples
        text = ffi.new("MetricsText **")
        error = ErrorSlot()
        error.check(lib.metrics_render(self.handle, options, text, error.pointer))
        owner = ffi.gc(text[0], lib.metrics_text_free)
        data = ffi.buffer(lib.metrics_text_data(owner), lib.metrics_text_length(owner))[:]
        return data.decode(), ffi.string(lib.metrics_text_content_type(owner)).decode()

    def close(self) -> None:
        self.kept.clear()
        lib.released_backend_free(self.handle)

    def _text(self, text: str) -> Any:
        self.kept.append(ffi.new("char[]", text.encode()))
        return self.kept[-1]


@pytest.fixture(params=["memory", "shared memory", "Redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "Redis":
        server: Server = request.getfixturevalue("server")
        url = f"redis://{server.config['host']}:{server.config['port']}"
    else:
        url = "memory:" if request.param == "memory" else f"shm://{tmp_path}/metrics"
    opened = Store(url)
    yield opened
    opened.close()


def parse(text: str, content_type: str) -> dict[str, Any]:
    """The families by name, as the parser for this content type reads them."""
    if content_type.startswith("application/openmetrics-text"):
        families = list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    else:
        families = list(text_parser.text_string_to_metric_families(text))
    by_name = {family.name: family for family in families}
    assert len(by_name) == len(families)
    return by_name


def samples_of(family: Any) -> Samples:
    """The samples but for the times of creation; values as text, so that NaN equals NaN."""
    return {
        (sample.name, frozenset(sample.labels.items())): repr(float(sample.value))
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def sample(name: str, labels: dict[str, str], value: float) -> Samples:
    return {(name, frozenset(labels.items())): repr(float(value))}


@pytest.mark.parametrize("accept", [TEXT, OPEN_METRICS, *UTF8_FORMATS])
def test_parsers_read_back_the_counted_values(store: Store, accept: str) -> None:
    requests = store.declare("counter", "requests_total", ["method", "path"])
    for index, odd in enumerate(ODD_TEXTS):
        lib.metric_inc(requests("GET", odd), index + 0.5)
    lib.metric_inc(store.declare("counter", "plain")(), 3)
    level = store.declare("gauge", "level", ["sort"])
    values = [math.inf, -math.inf, math.nan, 0.1, 1e300, 5e-324, 123456789.0, -1.5]
    for value in values:
        lib.metric_set(level(repr(value)), value)
    lib.metric_set(store.declare("untyped", "odd")(), -7)
    store.declare("gauge", "without_series", ["a"])
    size = store.declare("summary", "size_bytes", unit="bytes")()
    seconds = store.declare("histogram", "seconds", ["a"], [0.005, 1, 1e6])("x")
    for value in (0.005, 0.5, 2, 1e7):
        lib.metric_observe(size, value)
        lib.metric_observe(seconds, value)

    text, content_type = store.render(accept)
    families = parse(text, content_type)
    is_open_metrics = content_type.startswith("application/openmetrics-text")
    assert set(families) == {"requests", "plain", "level", "odd", "without_series", "size_bytes", "seconds"}
    assert {name: family.type for name, family in families.items()} == {
        "requests": "counter",
        "plain": "counter",
        "level": "gauge",
        "odd": "unknown",
        "without_series": "gauge",
        "size_bytes": "summary",
        "seconds": "histogram",
    }
    expected: Samples = {}
    for index, odd in enumerate(ODD_TEXTS):
        expected |= sample("requests_total", {"method": "GET", "path": odd}, index + 0.5)
    assert samples_of(families["requests"]) == expected
    assert samples_of(families["plain"]) == sample("plain_total", {}, 3)
    expected = {}
    for value in values:
        expected |= sample("level", {"sort": repr(value)}, value)
    assert samples_of(families["level"]) == expected
    assert samples_of(families["odd"]) == sample("odd", {}, -7)
    assert families["without_series"].samples == []
    assert samples_of(families["size_bytes"]) == {
        **sample("size_bytes_sum", {}, 0.005 + 0.5 + 2 + 1e7),
        **sample("size_bytes_count", {}, 4),
    }
    assert families["size_bytes"].unit == ("bytes" if is_open_metrics else "")
    bounds = ["0.005", "1.0", "1e+06", "+Inf"] if is_open_metrics else ["0.005", "1", "1000000", "+Inf"]
    expected = {
        **sample("seconds_sum", {"a": "x"}, 0.005 + 0.5 + 2 + 1e7),
        **sample("seconds_count", {"a": "x"}, 4),
    }
    for bound, count in zip(bounds, [1, 2, 3, 4]):
        expected |= sample("seconds_bucket", {"a": "x", "le": bound}, count)
    assert samples_of(families["seconds"]) == expected


@pytest.mark.parametrize("accept", UTF8_FORMATS)
def test_parsers_read_back_names_of_any_characters(store: Store, accept: str) -> None:
    odd_names = [name for name in ODD_TEXTS if "\n" not in name]
    for index, odd in enumerate(odd_names):
        gauge = store.declare("gauge", f"g{index}.{odd}", [f"l{odd}"], help_text=f"h{odd}")
        lib.metric_set(gauge(odd), index)
    lib.metric_inc(store.declare("counter", "http.requests_total")(), 2)
    lib.metric_observe(store.declare("histogram", "http.time", ["a.b"], [1])("x"), 2)

    families = parse(*store.render(accept))
    for index, odd in enumerate(odd_names):
        family = families[f"g{index}.{odd}"]
        assert samples_of(family) == sample(f"g{index}.{odd}", {f"l{odd}": odd}, index)
        if "\x1c" not in odd:
            # The text parser takes white space off the ends of a line, whichever it is.
            assert family.documentation.strip() == f"h{odd}".strip()
    assert samples_of(families["http.requests"]) == sample("http.requests_total", {}, 2)
    assert samples_of(families["http.time"]) == {
        **sample("http.time_bucket", {"a.b": "x", "le": "1.0" if "openmetrics" in accept else "1"}, 0),
        **sample("http.time_bucket", {"a.b": "x", "le": "+Inf"}, 1),
        **sample("http.time_sum", {"a.b": "x"}, 2),
        **sample("http.time_count", {"a.b": "x"}, 1),
    }


@pytest.mark.parametrize(
    ("escaping", "name", "label"),
    [
        ("", "http_requests", "http_method"),
        (";escaping=underscores", "http_requests", "http_method"),
        (";escaping=dots", "http_dot_requests", "http_dot_method"),
        (";escaping=values", "U__http_2e_requests", "U__http_2e_method"),
    ],
)
@pytest.mark.parametrize("accept", [TEXT, OPEN_METRICS])
def test_names_are_escaped_for_scrapers_without_utf8(
    store: Store, accept: str, escaping: str, name: str, label: str
) -> None:
    lib.metric_set(store.declare("gauge", "http.requests", ["http.method"])("GET"), 1)
    text, content_type = store.render(accept + escaping)
    assert samples_of(parse(text, content_type)[name]) == sample(name, {label: "GET"}, 1)
    assert content_type.endswith(escaping.replace(";", "; ") or "charset=utf-8")


@pytest.mark.parametrize("accept", [TEXT, OPEN_METRICS])
def test_families_that_a_parser_would_reject_do_not_spoil_the_scrape(store: Store, accept: str) -> None:
    is_open_metrics = accept == OPEN_METRICS
    lib.metric_observe(store.declare("histogram", "h", (), [1])(), 0.5)
    lib.metric_inc(store.declare("counter", "h_count")(), 5)
    lib.metric_observe(store.declare("histogram", "below_zero", (), [-1, 1])(), -2)
    lib.metric_observe(store.declare("histogram", "negative", (), [1])(), -2)
    lib.metric_observe(store.declare("summary", "no_number")(), math.nan)
    lib.metric_set(store.declare("gauge", "a.b")(), 1)
    lib.metric_set(store.declare("gauge", "a_b")(), 2)
    lib.metric_set(store.declare("gauge", "same", ["a.b", "a_b"])("", ""), 2)
    lib.metric_inc(store.declare("counter", "x")(), 1)
    lib.metric_inc(store.declare("counter", "x_total")(), 2)
    lib.metric_set(store.declare("gauge", "last")(), 4)

    text, content_type = store.render(accept)
    families = parse(text, content_type) if is_open_metrics else {}
    if is_open_metrics:
        assert samples_of(families["x"]) == sample("x_total", {}, 1)
        assert set(families) == {"h", "below_zero", "negative", "no_number", "a_b", "x", "last"}
    else:
        # Its names are those that Prometheus stores: no two series may have one.
        lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
        assert len(lines) == len(set(lines))
        assert "\nx 1\n" in text and "\nx_total 2\n" in text and text.endswith("\nlast 4\n")
    assert "\nh_count 1\n" in text and "\na_b 1\n" in text
    assert "same" not in text


@pytest.mark.parametrize("url", ["memory:", "shm://{}/metrics"])
def test_open_metrics_says_when_a_metric_was_made_if_it_is_told_to(url: str, tmp_path: Path) -> None:
    store = Store(url.format(tmp_path))
    lib.metric_inc(store.declare("counter", "x")(), 1)
    lib.metric_observe(store.declare("histogram", "h", ["a"], [1])("x"), 1)
    lib.metric_observe(store.declare("summary", "s")(), 1)
    lib.metric_set(store.declare("gauge", "g")(), 1)
    assert "_created" not in store.render(OPEN_METRICS)[0]
    families = parse(*store.render(OPEN_METRICS, lib.METRICS_CREATED_SAMPLES_SHOWN))
    created = [
        one for family in families.values() for one in family.samples if one.name == f"{family.name}_created"
    ]
    assert len(created) == 3
    assert all(1.6e9 < one.value < 1e11 for one in created)
    assert "_created" not in store.render(TEXT, lib.METRICS_CREATED_SAMPLES_SHOWN)[0]
    store.close()
