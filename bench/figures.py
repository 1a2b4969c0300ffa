"""Holds what was measured: the values of all rounds, for each topic, work and peer. All tables come from
these."""

from __future__ import annotations

import statistics


class Figures:
    def __init__(self) -> None:
        self.values: dict[tuple, list] = {}
        self.units: dict[tuple, str] = {}

    def add(self, topic: str, work: str, peer: str, value: float, unit: str) -> None:
        self.values.setdefault((topic, work, peer), []).append(value)
        self.units[topic, work] = unit

    def works(self, topic: str) -> list:
        return list(dict.fromkeys(work for a_topic, work, _ in self.values if a_topic == topic))

    def peers(self, topic: str, work: str | None = None) -> list:
        found = (peer for a_topic, a_work, peer in self.values if a_topic == topic and work in (None, a_work))
        return list(dict.fromkeys(found))

    def median(self, topic: str, work: str, peer: str) -> float | None:
        values = self.values.get((topic, work, peer))
        return statistics.median(values) if values else None

    def spread(self, topic: str, work: str, peer: str) -> float | None:
        """Returns the noise: the interquartile range divided by the median."""
        return spread(self.values.get((topic, work, peer), []))

    def ratio(self, one: tuple, other: tuple) -> float | None:
        """Returns one / other: the median of the ratios within each round.

        Both were measured one after the other in a round, so load that comes and goes changes both.
        """
        ones, others = self.values.get(one), self.values.get(other)
        if not ones or not others:
            return None
        if len(ones) != len(others):
            return statistics.median(ones) / statistics.median(others)
        return statistics.median(a / b for a, b in zip(ones, others) if b) if any(others) else None

    def as_json(self) -> list:
        """Returns each work with its peers, their medians and the values of all rounds."""
        works: dict[tuple, dict] = {}
        for (topic, work, peer), values in self.values.items():
            entry = {"topic": topic, "work": work, "unit": self.units[topic, work], "peers": {}}
            rounds = [_short(value) for value in values]
            peers = works.setdefault((topic, work), entry)["peers"]
            peers[peer] = {"median": _short(statistics.median(values)), "rounds": rounds}
        return list(works.values())


def spread(values: list) -> float | None:
    if len(values) < 3 or not statistics.median(values):
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
