"""A real Prometheus on loopback, with its own data directory, that scrapes the targets of a test."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from http_client import get
from redis_server import free_port
from waiting import wait_until

#: Short, so that a test does not wait long for the next scrape.
SCRAPE_INTERVAL = "1s"


class Prometheus:
    """Scrapes each of `targets` (job name and port) on /metrics, every second.

    `flags` are further arguments of the command. `names` are the families that it asks for, by default all.
    `rules` are files with rules, which it evaluates every second. `access` is what each job says of TLS and passwords.
    """

    def __init__(
        self,
        folder: Path,
        targets: dict[str, int],
        *,
        flags: Sequence[str] = (),
        names: Sequence[str] = (),
        rules: Sequence[Path] = (),
        access: dict[str, Any] | None = None,
    ) -> None:
        jobs = [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                "params": {"name[]": names},
                **(access or {}),
            }
            for job, port in targets.items()
        ]
        config = folder / "prometheus.yml"
        intervals = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
        files = [str(file) for file in rules]
        # Every JSON text is YAML.
        config.write_text(json.dumps({"global": intervals, "rule_files": files, "scrape_configs": jobs}))
        self.port = free_port()
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *flags,
            ],
            stdout=self._log,
            stderr=self._log,
        )
        try:
            wait_until(self._is_ready, f"Prometheus to be ready: {self._log.name}")
        except BaseException:
            self.close()
            raise

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Runs an instant query and returns labels and value of each series."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        answer: Any = json.loads(get(self.port, path).body)
        assert answer["status"] == "success", answer
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def exemplars(self, expression: str) -> list[tuple[dict[str, str], Any]]:
        """Returns the exemplars of the series that an expression names: the labels of the series, and each
        exemplar as the API has it, with `labels`, `value` and `timestamp`."""
        now = time.time()
        query = urllib.parse.urlencode({"query": expression, "start": now - 3600, "end": now + 3600})
        answer: Any = json.loads(get(self.port, f"/api/v1/query_exemplars?{query}").body)
        assert answer["status"] == "success", answer
        return [(one["seriesLabels"], exemplar) for one in answer["data"] for exemplar in one["exemplars"]]

    def targets(self) -> list[Any]:
        """Returns health and last error of each target."""
        answer: Any = json.loads(get(self.port, "/api/v1/targets").body)
        return list(answer["data"]["activeTargets"])

    def rules(self) -> list[Any]:
        """Returns the groups of rules, with the health and the state of each rule."""
        answer: Any = json.loads(get(self.port, "/api/v1/rules").body)
        return list(answer["data"]["groups"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            return get(self.port, "/-/ready").status == 200
        except OSError:
            return False
