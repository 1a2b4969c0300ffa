"""prometheus_client on this engine: the same classes, with values that all processes of a service share.

    import pytheus_backend_rs.prometheus
    pytheus_backend_rs.prometheus.install()

    from prometheus_client import Counter
    Counter("jobs_total", "Jobs done.").inc()

`install` may come before or after the program makes its metrics, and before or after it forks. From then on
prometheus_client's own functions, and those of frameworks that use it, show the values of all processes.
"""

from pytheus_backend_rs.prometheus.installation import install, is_installed, uninstall
from pytheus_backend_rs.prometheus.removal import reset

__all__ = ["install", "is_installed", "reset", "uninstall"]
