"""A Redis server that stops answering: counting goes on without growing memory, and a scrape does not stop
other threads.
"""

from __future__ import annotations

import re

from programs import run_program, running
from redis_server import Server


def test_counting_while_the_server_is_stopped_costs_no_memory_and_loses_nothing(own_server: Server) -> None:
    program = """
    def resident():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    load_backend(RedisBackend, config)
    counter = Counter("requests_total", "help")
    for _ in range(10_000):
        counter.inc()
    generate_metrics()
    print("ready", flush=True)
    sys.stdin.readline()
    before = resident()
    for _ in range(1_000_000):
        counter.inc()
    print(resident() - before, flush=True)
    sys.stdin.readline()
    print(resident() - before, flush=True)
    print(generate_metrics())
    """
    with running(program, own_server.config) as child:
        assert child.line() == "ready"
        own_server.pause()
        child.say()
        grown = int(child.line())
        own_server.resume()
        child.say()
        later = int(child.line())
        done = child.finish()
    assert done.returncode == 0, done.stdout
    assert "requests_total 1010000.0\n" in done.stdout
    assert own_server.client().get("requests_total") == "1010000"
    assert max(grown, later) < 2 * 1024, f"resident memory grew by {grown}, then {later} kB"


def test_a_scrape_lets_other_threads_run(own_server: Server) -> None:
    """The GIL is released while a scrape waits for the server."""
    output = run_program(
        """
        load_backend(RedisBackend, {**config, "collect_timeout": 20})
        counter = Counter("requests_total", "help")
        generate_metrics()
        import signal
        server = int(os.environ["SERVER"])
        os.kill(server, signal.SIGSTOP)
        texts = []
        thread = threading.Thread(target=lambda: texts.append(generate_metrics()))
        thread.start()
        for _ in range(200_000):
            counter.inc()
        assert not texts
        os.kill(server, signal.SIGCONT)
        thread.join()
        print(texts[0])
        """,
        own_server.config,
        environment={"SERVER": str(own_server.pid)},
    )
    assert re.search(r"^requests_total \d+\.0$", output, re.MULTILINE)
