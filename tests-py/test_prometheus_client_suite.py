"""prometheus_client's own test-suite on the engine: in memory and in shared memory.

The tests run against an installed prometheus_client, in a process of their own. Nothing of them is in this
repository. `PROMETHEUS_CLIENT_VERSIONS` names the versions, separated by spaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from programs import python_path
from sdists import suite_of

HERE = Path(__file__).resolve().parent
VERSIONS = os.environ.get("PROMETHEUS_CLIENT_VERSIONS", "0.26.0 0.17.1").split()

#: The files of the suite. Those about Twisted, Django, aiohttp and Graphite need more packages, and change no
#: metric.
FILES = (
    "test_core.py",
    "test_exposition.py",
    "test_asgi.py",
    "test_wsgi.py",
    "test_samples.py",
    "test_parser.py",
    "test_utils.py",
    "openmetrics",
)
MULTI_PROCESS = "test_multiprocess.py"

CREATED = "the store says when a series began, and not the clock that the test has replaced"
IDENTIFIER = "it calls itself several processes by `process_identifier`; the label is the process id"
ON_FILES = "it asserts on files of the multi-process mode"

#: What may fail in every store, and why.
FAILS_ITSELF = {
    "test_mtls_untrusted_client_cert_raises": "it fails without this package with some versions of OpenSSL",
    "test_benchmark_text_string_to_metric_families": "it needs pytest-benchmark",
}

#: What may fail in shared memory, and why.
SHARED = {
    "test_reset": CREATED,
    "test_counter": CREATED,
    "test_counter_name_unit_append": CREATED,
    "test_counter_total": CREATED,
    "test_counter_utf8": CREATED,
    "test_counter_utf8_escaped_underscores": CREATED,
    "test_counter_unit": CREATED,
    "test_counter_exemplar": CREATED,
    "test_escaping": CREATED,
    "test_unicode": CREATED,
    "test_histogram": CREATED,
    "test_summary": CREATED,
    "test_collect": IDENTIFIER,
    "test_gauge_all": IDENTIFIER,
    "test_gauge_liveall": IDENTIFIER,
    "test_gauge_livemax": IDENTIFIER,
    "test_gauge_livemin": IDENTIFIER,
    "test_gauge_livemostrecent": IDENTIFIER,
    "test_gauge_livesum": IDENTIFIER,
    "test_gauge_max": IDENTIFIER,
    "test_gauge_min": IDENTIFIER,
    "test_gauge_mostrecent": IDENTIFIER,
    "test_gauge_sum": IDENTIFIER,
    "test_counter_across_forks": "it expects that `_value.get()` is the share of one process",
    "test_collect_preserves_help": "two metrics of one name: the help is that of the last",
    "test_initialization_detects_pid_change": ON_FILES,
    "test_merge_no_accumulate": ON_FILES,
    "test_deprecation_warning": "no directory is looked for, so there is no warning of its variable",
    "test_file_syncpath": "no directory is looked for, so a missing one is no error",
    "test_unset_syncdir_env": "no directory is looked for, so a missing one is no error",
    "test_remove_clear_warning": "series are removed, so there is no warning that they are not",
}

#: How many tests there must be at least: what is not collected does not fail.
LEAST = {"memory": 200, "shared": 230}


@pytest.fixture(scope="module", params=VERSIONS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of a version, beside a folder `package` with that version of prometheus_client."""
    folder = tmp_path_factory.mktemp("prometheus_client")
    tests = suite_of("prometheus_client", request.param, folder)
    requirement = f"prometheus_client=={request.param}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(folder / "package"), requirement], check=True, timeout=300)
    return tests


@pytest.mark.parametrize("store", ["memory", "shared"])
def test_prometheus_clients_own_suite_passes(suite: Path, store: str) -> None:
    report = suite.parent / f"{store}.xml"
    is_shared = store == "shared"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(suite.parent / "package"), python_path(HERE)]),
        "SUITE_STORE": str(suite.parent / "metrics.shm") if is_shared else "memory:",
    }
    files = [*FILES, MULTI_PROCESS] if is_shared else FILES
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "prometheus_suite_plugin",
        "-p",
        "no:cacheprovider",
        "-q",
    ]
    command += ["-c", os.devnull, "--rootdir", str(suite), "--junitxml", str(report)]
    done = subprocess.run(
        [*command, *[str(suite / file) for file in files if (suite / file).exists()]],
        env=environment,
        cwd=suite,
        timeout=300,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    text = done.stdout.decode(errors="replace")
    assert report.exists(), text
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {
        case.attrib["name"]
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    known = {**FAILS_ITSELF, **(SHARED if is_shared else {})}
    assert failed <= known.keys(), f"{sorted(failed - known.keys())}:\n{text}"
    assert len(cases) >= LEAST[store], f"{len(cases)} tests:\n{text}"
    print(f"{len(cases) - len(failed)} of {len(cases)} tests passed; known to fail: {sorted(failed)}")
