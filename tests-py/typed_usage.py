"""What a program that type-checks writes; test_wheel.py has mypy read it, in strict mode."""

from typing import Any

import pytheus_backend_rs
from pytheus.backends.base import load_backend
from pytheus.metrics import Counter, Histogram, Sample
from pytheus.registry import REGISTRY
from pytheus_backend_rs import BackendError, RedisBackend, SingleProcessAtomicBackend, SingleProcessBackend

CONFIG: dict[str, Any] = {"host": "127.0.0.1", "port": 6379}


def use() -> float:
    for backend_class in (SingleProcessBackend, SingleProcessAtomicBackend):
        load_backend(backend_class, {})
    try:
        load_backend(backend_class=RedisBackend, backend_config=CONFIG)
    except BackendError as error:
        print(str(error), pytheus_backend_rs.__version__)
    counter = Counter("requests_total", "help")
    counter.inc()
    value = RedisBackend(CONFIG, counter)
    value.inc(2.5)
    value.dec(1)
    value.set(3)
    key: str = value.key_name
    labels: str | None = value.labels_hash
    bucket: str | None = RedisBackend(
        CONFIG, Histogram("size", "help"), histogram_bucket="sum"
    ).histogram_bucket
    samples: list[Sample] = RedisBackend._generate_samples(REGISTRY)[counter._collector]
    print(key, labels, bucket, samples)
    resent: int = RedisBackend.statistics().batches_resent
    print(resent)
    result: float = value.get()
    return result
