"""prometheus_client and pytheus in one program and one store: a scrape of either shows both."""

from __future__ import annotations

from pathlib import Path

import pytest

from programs import run_program
from redis_server import Server

PROGRAM = """
    import re
    import pytheus_backend_rs
    import pytheus_backend_rs.prometheus
    from pytheus_backend_rs import make_wsgi_app
    from pytheus_backend_rs.process import process_metrics
    import prometheus_client
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    load_backend(getattr(pytheus_backend_rs, config["class"]), config["options"])
    pytheus_backend_rs.prometheus.install(config["store"])
    if config["is_shared_memory"]:
        process_metrics()
    import gc
    for _ in range(10):
        gc.collect()
    jobs = Counter("jobs_total", "Jobs.", ["queue"])
    mails = prometheus_client.Counter("mails", "Mails.", ["queue"])
    seconds = Histogram("seconds", "Seconds.", buckets=[1])
    size = prometheus_client.Histogram("size", "Size.", buckets=[1])
    for _ in range(3):
        child = os.fork()
        if child == 0:
            for _ in range(100):
                jobs.labels(queue="a").inc()
                mails.labels("a").inc(2)
                seconds.observe(0.5)
                size.observe(2)
            pytheus_backend_rs.flush()
            os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
    everything = CollectorRegistry()
    MultiProcessCollector(everything)
    own = b"".join(make_wsgi_app()({"REQUEST_METHOD": "GET"}, lambda *_: None)).decode()
    for text in (own, generate_latest(everything).decode()):
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        assert float(found['jobs_total{queue="a"}']) == 300, text
        assert float(found['mails_total{queue="a"}']) == 600, text
        assert float(found["seconds_count"]) == 300, text
        assert float(found["size_sum"]) == 600, text
        if config["is_shared_memory"]:
            # The process is counted once, though both clients show processes.
            assert len(re.findall("^process_open_fds", text, re.MULTILINE)) == 1, text
            shown = float(found['python_gc_collections_total{generation="2"}'])
            assert shown < 2 * gc.get_stats()[2]["collections"], text
"""


@pytest.mark.parametrize("store", ["own file", "path", "redis"])
def test_one_scrape_shows_both(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if store == "redis":
        server: Server = request.getfixturevalue("server")
        options, name = server.config, f"redis://127.0.0.1:{server.port}"
    else:
        name = "shm:" if store == "own file" else str(tmp_path / "metrics.shm")
        options = {} if store == "own file" else {"path": name}
    run_program(
        PROGRAM,
        {
            "class": "RedisBackend" if store == "redis" else "SharedMemoryBackend",
            "options": options,
            "store": name,
            "is_shared_memory": store != "redis",
        },
    )
