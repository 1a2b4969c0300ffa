"""Runs c_calls for each store, and prints what it measured as a table."""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "python"))
from local_redis import local_redis  # noqa: E402


def main(program: str) -> int:
    print("metric_inc() from C, and a bare compare-and-swap loop on mapped memory: medians, in ns\n")
    print(f"{'store':<20} {'metric_inc':>10} {'bare loop':>10} {'ratio':>7}")
    with local_redis() as port, tempfile.TemporaryDirectory() as folder:
        stores = {
            "memory": "memory:",
            "memory, mutex": "memory:?cell=mutex",
            "shared memory": f"shm://{folder}/metrics",
            "redis": f"redis://127.0.0.1:{port}",
        }
        output = subprocess.run([program, *stores.values()], check=True, stdout=subprocess.PIPE, text=True).stdout
    for name, line in zip(stores, output.splitlines()):
        _, call, bare, ratio = line.split()
        print(f"{name:<20} {call:>10} {bare:>10} {float(ratio):>7.2f}")
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
