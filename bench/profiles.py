"""How the processes of a fleet count."""

from __future__ import annotations

IDLE = "idle"
REQUESTS = "requests"
FEW = "few"
ALL = "all"
PROFILES = (IDLE, REQUESTS, FEW, ALL)

REQUESTS_PER_SECOND = 50.0
