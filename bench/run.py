"""`make bench`: measures everything, prints the tables, and writes the results that the documentation shows.

Each topic (`topics`, below) is a module. Its `measure` asks the processes of all peers in turn, round by
round; its `in_peer` runs in those processes. `peers/` lists the peers.

It exits with 1 if a part could not be run, and never because of a figure.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

import calls
import charts
import engine_calls
import environment
import growth
import headline
import many_processes
import redis_server
import redis_traffic
import report
import scrape
import series
import startup
import web_request
from peers import PEERS
from rounds import Rounds

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    options = arguments()
    print(__doc__.splitlines()[0])
    print("Preparing the peers.", flush=True)
    python, missing = environment.prepare_peers()
    machine = environment.machine()
    count, seconds = (3, 0.02) if options.quick else (options.rounds, 0.06)
    start = time.perf_counter()
    with redis_server.servers(PEERS) as redis_ports:
        rounds = Rounds(python, missing, redis_ports, count, seconds, options.quick)
        for name, measure in topics(options).items():
            if not options.only or name in options.only:
                try:
                    measure(rounds)
                except Exception:
                    # One topic can fail, for example because a server died; the other topics are still
                    # measured.
                    rounds.fail(name, "all", traceback.format_exc())
    machine |= {"load after": environment.load(), "minutes": round((time.perf_counter() - start) / 60, 1)}
    machine |= {"rounds": count, "a measurement": f"{seconds * 1000:.0f} ms, as far as it is of calls"}
    versions = environment.versions(python)
    report.show(rounds, machine, versions)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    report.write_json(folder / "results.json", rounds, machine, versions)
    written = [folder / "results.json", *charts.write(folder, rounds.figures)]
    print("\nWritten: " + ", ".join(str(path) for path in written))
    return 1 if rounds.failures else 0


def topics(options) -> dict:
    iterations = options.iterations or (200_000 if options.quick else 1_000_000)
    return {
        "calls": calls.measure,
        "headline": lambda rounds: headline.measure(rounds, iterations),
        "web-request": web_request.measure,
        "scrape": scrape.measure,
        "many-processes": many_processes.measure,
        "series": series.measure,
        "redis": redis_traffic.measure,
        "start-up": startup.measure,
        "engine": engine_calls.measure,
        "growth": growth.measure,
    }


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a third of the time: fewer and shorter rounds, no 100,000 series",
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each topic (default: 7)")
    parser.add_argument(
        "--iterations",
        type=int,
        help="of 0.0.9's headline: up to 1000000000, scaled up to that (default: 1000000)",
    )
    names = topics(argparse.Namespace(iterations=None, quick=False))
    parser.add_argument("--only", nargs="+", choices=names, metavar="TOPIC", help=f"of: {', '.join(names)}")
    parser.add_argument("--results", default=RESULTS, help="where to write to (default: bench/results)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
