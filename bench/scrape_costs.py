"""What a scrape costs the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import linear_fit

#: The most series that a scrape reads with one command once it knows their names (src/store/redis/outline.rs).
PIECE = 4_000


@dataclass(frozen=True)
class ScrapeCosts:
    #: Processor time in microseconds: for the scrape, for each family that has changed, and for each series of those.
    scrape_us: float
    family_us: float
    series_us: float
    #: Bytes of a series in both directions: a scrape sends the names that it knows, and is sent the others.
    series_bytes: float
    #: Commands of a scrape, and more of them for each family that has changed.
    calls: float
    family_calls: float

    @classmethod
    def of(cls, scrapes: list[dict[str, Any]], families: int) -> ScrapeCosts:
        """Computes the costs from scrapes of more or fewer series, after changes in no, one or all families."""
        read = [(1.0, float(s["families"]), float(s["families"] * s["series"])) for s in scrapes]
        unchanged = next(s for s in scrapes if s["families"] == 0)
        smallest = next(s for s in scrapes if s["families"] == families)
        largest = max(scrapes, key=lambda s: s["families"] * s["series"])
        scrape_us, family_us, series_us = linear_fit.costs(read, [s["server us"] for s in scrapes])
        return cls(
            scrape_us=scrape_us,
            # It is so little that noise can hide it.
            family_us=max(0.0, family_us),
            series_us=series_us,
            series_bytes=(bytes_of(largest) - bytes_of(unchanged)) / (families * largest["series"]),
            calls=unchanged["calls"],
            family_calls=(smallest["calls"] - unchanged["calls"]) / families,
        )

    def cpu_us(self, families: int, series: int) -> float:
        """Returns the server's processor time when so many families with so many series in all have changed."""
        return self.scrape_us + families * self.family_us + series * self.series_us

    def pause_us(self, series_of_family: int) -> float:
        """Returns for how long the server does nothing else, at most: while it answers with one piece of a family."""
        return min(series_of_family, PIECE) * self.series_us


def bytes_of(scrape: dict[str, Any]) -> float:
    """Returns the bytes of a measured scrape in both directions."""
    return float(scrape["bytes in"] + scrape["bytes out"])
