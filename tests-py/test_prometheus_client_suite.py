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
NO_DIRECTORY = "no directory is looked for, so a missing one is no error"

#: What may fail in every store, and why.
MAY_FAIL = {
    "test_exposition.TestWsgiTLS::test_mtls_untrusted_client_cert_raises": (
        "it fails without this package with some versions of OpenSSL"
    ),
    **dict.fromkeys(
        (
            f"{place}::test_benchmark_text_string_to_metric_families"
            for place in ("test_parser.TestParse", "test_parser")
        ),
        "it needs pytest-benchmark",
    ),
    "test_exposition.TestPushGateway::test_push_with_tls_auth_handler": "it needs files that the sdist of 0.22 lacks",
}

#: What fails in shared memory, and why.
SHARED = {
    "test_core.TestCounter::test_reset": CREATED,
    **dict.fromkeys(
        (
            f"{module}.TestGenerateText::test_{name}"
            for module in ("test_exposition", "openmetrics.test_exposition")
            for name in (
                "counter",
                "counter_exemplar",
                "counter_name_unit_append",
                "counter_total",
                "counter_unit",
                "counter_utf8",
                "counter_utf8_escaped_underscores",
                "histogram",
                "summary",
            )
        ),
        CREATED,
    ),
    # The tests of these names for the text format have gauges, which have no time of creation.
    **dict.fromkeys(
        (f"openmetrics.test_exposition.TestGenerateText::test_{name}" for name in ("escaping", "unicode")),
        CREATED,
    ),
    **dict.fromkeys(
        (
            f"test_multiprocess.TestMultiProcess::test_{name}"
            for name in (
                "collect",
                "gauge_all",
                "gauge_liveall",
                "gauge_livemax",
                "gauge_livemin",
                "gauge_livemostrecent",
                "gauge_livesum",
                "gauge_min",
                "gauge_mostrecent",
                "gauge_sum",
            )
        ),
        IDENTIFIER,
    ),
    "test_multiprocess.TestMultiProcess::test_counter_across_forks": (
        "it expects that `_value.get()` is the share of one process"
    ),
    "test_multiprocess.TestMultiProcess::test_collect_preserves_help": (
        "two metrics of one name: the help is that of the last"
    ),
    "test_multiprocess.TestMultiProcess::test_initialization_detects_pid_change": ON_FILES,
    "test_multiprocess.TestMultiProcess::test_merge_no_accumulate": ON_FILES,
    "test_multiprocess.TestMultiProcessDeprecation::test_deprecation_warning": (
        "no directory is looked for, so there is no warning of its variable"
    ),
    "test_multiprocess.TestMultiProcess::test_file_syncpath": NO_DIRECTORY,
    "test_multiprocess.TestUnsetEnv::test_file_syncpath": NO_DIRECTORY,
    "test_multiprocess.TestUnsetEnv::test_unset_syncdir_env": NO_DIRECTORY,
    "test_multiprocess.TestMultiProcess::test_remove_clear_warning": (
        "series are removed, so there is no warning that they are not"
    ),
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
    results = {
        f"{case.attrib['classname']}::{case.attrib['name']}": all(
            case.find(outcome) is None for outcome in ("failure", "error")
        )
        for case in cases
    }
    failed = {name for name, has_passed in results.items() if not has_passed}
    expected = SHARED.keys() & results.keys() if is_shared else set()
    unexpected = failed - expected - MAY_FAIL.keys()
    assert not unexpected, f"{sorted(unexpected)}:\n{text}"
    assert expected <= failed, f"these pass: {sorted(expected - failed)}"
    assert len(cases) >= LEAST[store], f"{len(cases)} tests:\n{text}"
    print(f"{len(cases) - len(failed)} of {len(cases)} tests passed; known to fail: {sorted(failed)}")
