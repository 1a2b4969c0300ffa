"""What a scrape of 10,000 series costs when one process, or a hundred, have counted in all of them.

Ours reads one file, however many processes have used it; prometheus_client's multi-process mode reads the
files of every process that ever ran. Each scrape is timed in a fresh process that has not counted itself,
in interleaved rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SERIES = 10_000
PROCESSES = (1, 100)
ROUNDS = 5

COUNT_OURS = """
from pytheus.backends import load_backend
from pytheus.metrics import Counter
from pytheus_backend_rs import SharedMemoryBackend
load_backend(SharedMemoryBackend, {{"path": {path!r}}})
counter = Counter("requests_total", "Requests.", required_labels=["number"])
for number in range({series}):
    counter.labels({{"number": str(number)}}).inc()
"""

SCRAPE_OURS = """
from pytheus.exposition import generate_metrics
from pytheus.backends import load_backend
from pytheus.metrics import Counter
from pytheus_backend_rs import SharedMemoryBackend
load_backend(SharedMemoryBackend, {{"path": {path!r}}})
counter = Counter("requests_total", "Requests.", required_labels=["number"])
def scrape():
    return generate_metrics()
"""

SCRAPE_ENGINE = """
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._native import ffi, lib
engine = Engine("shm://" + {path!r}, is_shared=True)
def scrape():
    text = ffi.new("char **")
    assert lib.metrics_collect(engine._handle, text, ffi.NULL, ffi.NULL) == 0
    result = ffi.string(text[0]).decode()
    lib.backend_string_free(text[0])
    return result
"""

COUNT_PEER = """
import os
os.environ["PROMETHEUS_MULTIPROC_DIR"] = {path!r}
from prometheus_client import Counter
counter = Counter("requests_total", "Requests.", ["number"])
for number in range({series}):
    counter.labels(number=str(number)).inc()
"""

SCRAPE_PEER = """
import os
os.environ["PROMETHEUS_MULTIPROC_DIR"] = {path!r}
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
def scrape():
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry).decode()
"""

TIME = """
import json, time
scrape()
start = time.perf_counter()
text = scrape()
took = time.perf_counter() - start
total = sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("requests_total{{"))
print(json.dumps([took * 1000, total]))
"""

PEERS = {
    "SharedMemoryBackend, pytheus' generate_metrics": (COUNT_OURS, SCRAPE_OURS, "metrics"),
    "SharedMemoryBackend, the engine's own text": (COUNT_OURS, SCRAPE_ENGINE, "metrics"),
    "prometheus_client, multi-process mode": (COUNT_PEER, SCRAPE_PEER, ""),
}


def main() -> int:
    print(f"A scrape of {SERIES} series: median of {ROUNDS} interleaved rounds, in ms\n")
    medians = {}
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            paths = prepare(Path(folder), processes)
            times = {name: [] for name in PEERS}
            for _ in range(ROUNDS):
                for name, (_, scrape, _) in PEERS.items():
                    took, total = json.loads(run(scrape + TIME, paths[name]))
                    if total != processes * SERIES:
                        raise SystemExit(f"{name} shows {total}, expected {processes * SERIES}")
                    times[name].append(took)
        for name in PEERS:
            medians[name, processes] = statistics.median(times[name])
    report(medians)
    return 0


def prepare(folder: Path, processes: int) -> dict:
    paths = {}
    counted = set()
    for name, (count, _, file) in PEERS.items():
        path = folder / str(abs(hash(count)))
        path.mkdir(exist_ok=True)
        paths[name] = str(path / file) if file else str(path)
        if count not in counted:
            for number in range(processes):
                if number % 25 == 0:
                    print(f"  {name}: counting, process {number + 1} of {processes}", file=sys.stderr)
                run(count, paths[name])
            counted.add(count)
    return paths


def run(program: str, path: str) -> str:
    code = program.format(path=path, series=SERIES)
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout


def report(medians: dict) -> None:
    width = max(map(len, PEERS))
    print(f"{'':<{width}}  1 process  100 processes")
    for name in PEERS:
        print(f"{name:<{width}}  {medians[name, 1]:>9.1f}  {medians[name, 100]:>13.1f}")
    ours, peer = list(PEERS)[0], list(PEERS)[2]
    for processes in PROCESSES:
        ratio = medians[peer, processes] / medians[ours, processes]
        print(f"prometheus_client / ours (generate_metrics), {processes} processes: {ratio:.1f}")


if __name__ == "__main__":
    sys.exit(main())
