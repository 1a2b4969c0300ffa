"""The process of one peer: reads lines of JSON and answers each with a line of JSON.

Its argument is JSON with the module in `peers/`, the options of its `Client`, and the store. Each line names
a module of this folder and the arguments of its function `in_peer`. With `--count-once` the process counts
once and ends.
"""

import importlib
import json
import os
import sys
import traceback

COUNT_ONCE = "--count-once"


def main() -> None:
    # The output of a library must not look like an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    client = make_client(json.loads(sys.argv[1]))
    if COUNT_ONCE in sys.argv:
        client.counter("bench_events_total").inc()
        return
    for line in sys.stdin:
        command = json.loads(line)
        topic = importlib.import_module(command.pop("module"))
        try:
            answer = topic.in_peer(client, **command)
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def make_client(peer: dict):
    return importlib.import_module(f"peers.{peer['module']}").Client(store=peer["store"], **peer["options"])


if __name__ == "__main__":
    main()
