"""Decodes a scrape in protobuf with Google's library, from our own description of `io.prometheus.client`.

The numbers and types of the fields are those of `metrics.proto` in prometheus/client_model.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

_PACKAGE = "io.prometheus.client"

#: The fields of each message: number, name, and type. A star means that the field may be repeated.
_MESSAGES = {
    "LabelPair": ["1 name string", "2 value string"],
    "Gauge": ["1 value double"],
    "Counter": ["1 value double"],
    "Untyped": ["1 value double"],
    "Quantile": ["1 quantile double", "2 value double"],
    "Summary": ["1 sample_count uint64", "2 sample_sum double", "3 quantile *Quantile"],
    "Bucket": ["1 cumulative_count uint64", "2 upper_bound double"],
    "BucketSpan": ["1 offset sint32", "2 length uint32"],
    "Histogram": [
        "1 sample_count uint64",
        "2 sample_sum double",
        "3 bucket *Bucket",
        "5 schema sint32",
        "6 zero_threshold double",
        "7 zero_count uint64",
        "9 negative_span *BucketSpan",
        "10 negative_delta *sint64",
        "12 positive_span *BucketSpan",
        "13 positive_delta *sint64",
    ],
    "Metric": [
        "1 label *LabelPair",
        "2 gauge Gauge",
        "3 counter Counter",
        "4 summary Summary",
        "5 untyped Untyped",
        "7 histogram Histogram",
    ],
    "MetricFamily": ["1 name string", "2 help string", "3 type int32", "4 metric *Metric", "5 unit string"],
}

_TYPES = ("counter", "gauge", "summary", "untyped", "histogram")

#: The value of each sample, by its name and labels. Bounds of buckets are numbers.
Samples = dict[tuple[str, frozenset[tuple[str, "str | float"]]], float]


def _family_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, type_name in map(str.split, fields):
            field = message.field.add(name=field_name, number=int(number))
            field.label = field.LABEL_REPEATED if type_name.startswith("*") else field.LABEL_OPTIONAL
            type_name = type_name.lstrip("*")
            if type_name in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
            else:
                field.type = getattr(field, f"TYPE_{type_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.MetricFamily"))


_Family = _family_class()


def decode(body: bytes) -> list[Any]:
    """Returns the families of a body: each message follows its length, a varint."""
    families = []
    while body:
        length = shift = 0
        while True:
            byte, body = body[0], body[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert length <= len(body), "the body ends within a message"
        families.append(_Family.FromString(body[:length]))
        body = body[length:]
    return families


def samples(families: list[Any]) -> Samples:
    """Returns the samples as text formats name them."""
    found: Samples = {}
    for family in families:
        type_name = _TYPES[family.type]
        for metric in family.metric:
            labels = {label.name: label.value for label in metric.label}
            value = getattr(metric, type_name)
            if type_name not in ("summary", "histogram"):
                found[sample_key(family.name, labels)] = value.value
                continue
            found[sample_key(f"{family.name}_count", labels)] = value.sample_count
            found[sample_key(f"{family.name}_sum", labels)] = value.sample_sum
            for bucket in value.bucket if type_name == "histogram" else ():
                key = sample_key(f"{family.name}_bucket", {**labels, "le": bucket.upper_bound})
                found[key] = bucket.cumulative_count
    return found


def native_buckets(histogram: Any) -> dict[tuple[int, int], int]:
    """Returns the counts of the native buckets of a decoded histogram, by the sign of the observations and the index
    of the bucket; those of zeros by (0, 0)."""
    counts = {(0, 0): histogram.zero_count} if histogram.zero_count else {}
    sides = (
        (1, histogram.positive_span, histogram.positive_delta),
        (-1, histogram.negative_span, histogram.negative_delta),
    )
    for sign, spans, deltas in sides:
        index, count, left = 0, 0, iter(deltas)
        for span in spans:
            index += span.offset
            for _ in range(span.length):
                count += next(left)
                if count:
                    counts[sign, index] = count
                index += 1
        assert next(left, None) is None, "there are more counts than the spans have buckets"
    return counts


def parsed_samples(families: Any) -> Samples:
    """Returns what a parser of prometheus_client has read, in the same form."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            found[sample_key(sample.name, sample.labels)] = sample.value
    return found


def sample_key(name: str, labels: dict[str, Any]) -> tuple[str, frozenset[tuple[str, str | float]]]:
    """Returns what identifies a sample in `Samples`."""
    if "le" in labels:
        labels = {**labels, "le": float(labels["le"])}
    return name, frozenset(labels.items())
