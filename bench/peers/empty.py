"""The floor: calls that do nothing, as a method written in Python and as functions written in C.

Their figures are the cost of the loop and of the call itself. Runs in the peer's process.
"""

import gc


class PythonMetric:
    """Methods with the parameters of pytheus' methods."""

    def inc(self, value: float = 1.0) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, value: float) -> None:
        pass

    def labels(self, labels=None, **values: str) -> "PythonMetric":
        return self


class CMetric:
    """Functions as attributes of the instance, like the native methods on pytheus' metrics."""

    def __init__(self) -> None:
        # C functions without an argument and with one that do about the least possible.
        self.inc = gc.isenabled
        self.set = self.observe = callable


class Client:
    def __init__(self, kind: str, store: dict) -> None:
        self.make = PythonMetric if kind == "python" else CMetric
        #: The calls that it has no function for.
        self.lacks = () if kind == "python" else ("inc(2.5)", "labels(a=…, b=…).inc()")

    def counter(self, name: str, labels: tuple = ()):
        return self.make()

    gauge = histogram = counter

    def middleware(self, app):
        return app
