"""contrib/prometheus and contrib/grafana: what promtool says about them, and what a real Prometheus answers
that scrapes real stores.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from operators_kit import KIT, SCRIPT, run, serving, side_car
from programs import running
from prometheus_server import Prometheus
from redis_server import Server
from waiting import wait_until

RULES = KIT / "prometheus" / "rules.yml"
DASHBOARD = json.loads((KIT / "grafana" / "dashboard.json").read_text("utf-8"))

#: A service that always has something to send, and that Prometheus scrapes.
SERVICE = """
    import pytheus_backend_rs
    from pytheus_backend_rs.process import process_metrics
    load_backend(getattr(pytheus_backend_rs, config.pop("class")), {**config, "self_metrics": True})
    process_metrics()
    requests = Counter("http_requests_total", "Requests served.")
    print(pytheus_backend_rs.start_http_server(0).port, flush=True)
    while True:
        requests.inc()
        time.sleep(0.05)
"""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def queries() -> list[Any]:
    """Returns each query of the dashboard, as Grafana sends it when all jobs and instances are selected."""
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "30s")
            text = text.replace("$job", ".+").replace("$instance", ".+")
            found.append(pytest.param(text, id=f"{panel['id']}{target['refId']}"))
    return found


# promtool


def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    done = run("promtool", "check", "config", KIT / "prometheus" / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    done = run("promtool", "test", "rules", KIT / "prometheus" / "rules-test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_with_a_target_that_it_fires_for_and_one_that_it_does_not() -> None:
    tests = load(KIT / "prometheus" / "rules-test.yml")["tests"]
    assert [test["name"] for test in tests] == [rule["alert"] for rule in rules() if "alert" in rule]
    for test in tests:
        inputs = " ".join(one["series"] for one in test["input_series"])
        samples = [sample for one in test["promql_expr_test"] for sample in one.get("exp_samples", [])]
        alerts = " ".join(sample["labels"] for sample in samples if sample["labels"].startswith("ALERTS"))
        assert f'alertname="{test["name"]}"' in alerts
        target = r'\b(?:instance|store)="([^"]+)"'
        assert set(re.findall(target, alerts)) < set(re.findall(target, inputs)), test["name"]


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning"), rule
            assert rule["annotations"].keys() == {"summary", "description"}, rule


# A real Prometheus


class TextfileCollector(http.server.BaseHTTPRequestHandler):
    """Shows the files of a folder, as node_exporter does."""

    folder: Path

    def do_GET(self) -> None:
        body = b"".join(file.read_bytes() for file in sorted(self.folder.glob("*.prom")))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def textfile_collector(folder: Path) -> Iterator[int]:
    handler = type("Collector", (TextfileCollector,), {"folder": folder})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Returns a Prometheus with the rules. It scrapes a service with a metrics file, one with a Redis server,
    a side-car, and what the check of both stores has written.
    """
    folder = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as stack:
        server = Server()
        stack.callback(server.close)
        textfile = tmp_path_factory.mktemp("textfile")
        path, redis = folder / "metrics", f"redis://127.0.0.1:{server.port}"
        stores: dict[str, tuple[dict[str, Any], str]] = {
            "file": ({"class": "SharedMemoryBackend", "path": str(path)}, f"shm://{path}"),
            "redis": ({"class": "RedisBackend", **server.config}, redis),
        }
        targets = {"node": stack.enter_context(textfile_collector(textfile))}
        for name, (config, url) in stores.items():
            service = stack.enter_context(running(SERVICE, config))
            targets[f"pytheus-{name}"] = int(service.line())
            done = run(SCRIPT, name, textfile, side_car(), PYTHEUS_BACKEND_RS_STORE=url)
            assert done.returncode == 0, done.stderr
        serve = ["serve", "--store", redis, "--listen", "127.0.0.1:0", "--process-metrics"]
        targets["pytheus-side-car"] = stack.enter_context(serving(serve))
        started = Prometheus(folder, targets, rules=[RULES])
        stack.callback(started.close)
        wait_until(
            lambda: len(started.query("up == 1")) == len(targets), f"all targets to be scraped: {targets}"
        )
        yield started


@pytest.mark.parametrize("query", queries())
def test_each_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, query: str) -> None:
    found = wait_until(lambda: prometheus.query(query), f"an answer to {query}")
    assert all(value == value for _, value in found), "not a number"


def test_each_rule_is_evaluated_and_nothing_fires_in_a_sound_service(prometheus: Prometheus) -> None:
    def evaluated() -> list[Any]:
        found = [rule for group in prometheus.rules() for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    found = wait_until(evaluated, "all rules to be evaluated")
    assert [rule for rule in found if rule["health"] != "ok"] == []
    assert {rule["name"] for rule in found} == {rule.get("alert") or rule["record"] for rule in rules()}
    # An alert with a `for` is pending before it fires, which takes longer than this test.
    assert [rule["name"] for rule in found if rule.get("state") in ("pending", "firing")] == []


def test_each_metric_of_the_rules_exists(prometheus: Prometheus) -> None:
    records = {rule["record"] for rule in rules() if "record" in rule}
    expressions = " ".join(rule["expr"] for rule in rules())
    names = set(re.findall(r"(?:instance:|\b)(?:pytheus_|up\b)[\w:]*", expressions))
    assert records & names and len(names) > 10

    def missing() -> list[str]:
        return [name for name in sorted(names) if not prometheus.query(name)]

    wait_until(lambda: not missing(), f"these to exist: {missing()}")


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "instance"}
    for name in ("job", "instance"):
        query = variables[name]["query"]["query"].replace("$job", ".+")
        match = re.fullmatch(rf"label_values\((.+), {name}\)", query)
        assert match and {labels[name] for labels, _ in prometheus.query(match[1])}


def test_the_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
