"""The floor: calls that do nothing, by a method written in Python and by functions written in C.

What is measured of them is the loop and the call itself. Runs in the peer's process.
"""

import gc


class PythonMetric:
    """Methods with the parameters that pytheus' have."""

    def inc(self, value: float = 1.0) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, value: float) -> None:
        pass

    def labels(self, labels=None, **values: str) -> "PythonMetric":
        return self


class CMetric:
    """Attributes of the instance, as native methods on pytheus' metrics are."""

    def __init__(self) -> None:
        # Without an argument and with one: about the least that a function in C can do.
        self.inc = gc.isenabled
        self.set = self.observe = callable


class Client:
    def __init__(self, kind: str, store: dict) -> None:
        self.make = PythonMetric if kind == "python" else CMetric
        #: What it has no function for.
        self.lacks = () if kind == "python" else ("inc(2.5)", "labels(a=…, b=…).inc()")

    def counter(self, name: str, labels: tuple = ()):
        return self.make()

    gauge = histogram = counter

    def middleware(self, app):
        return app
